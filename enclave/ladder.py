"""Where one identity stands: the detectors' state, the rung that follows from it, and how rungs are climbed."""

from __future__ import annotations

from typing import Any, Protocol

from manifests.abuse.policy import AbusePolicy, Action
from manifests.abuse.state import BUDGET, CADENCE

_THOUSAND = 1000


class Watching(Protocol):
    """One identity's state, as the ladder needs it.  unique, coverage: what a policy's budget may bound."""

    unique: int

    @property
    def nbytes(self) -> int: ...

    @property
    def coverage(self) -> float: ...

    def see(self, looks: Any, row: int) -> None: ...
    def share(self) -> float: ...
    def alarms(self, factor: float = 1.0) -> int: ...
    def absorb(self, other: Any) -> None: ...
    def calm(self) -> None: ...


class Standing:
    """One identity, or the pool of all.  Its guard's lock is held by whoever calls.

    latched: detectors that have spoken, as bits, until they have been quiet for long enough.  ready: when the next
    answer is due under `slow`, by the guard's clock.
    """

    def __init__(self, policy: AbusePolicy, watch: Watching, factor: float = 1.0) -> None:
        """Start on no rung; alarms are those beyond `factor` times the profile's limits."""
        self.watch = watch
        self.action = Action.SERVE
        self.latched = 0
        self.ready = 0.0
        self._policy = policy
        self._factor = factor
        self._queries = 0
        self._since = 0
        self._quiet = 0
        self._spoke = False

    def see(self, looks: Any, row: int) -> None:
        """Take a query that is answered."""
        self.watch.see(looks, row)
        alarms = self.watch.alarms(self._factor) | self._budget()
        self.latched |= alarms
        self._spoke |= alarms != 0
        self._tick()

    def pass_over(self, rows: int) -> None:
        """Take note of refused queries: they move the schedule on, and are not looked at."""
        for _ in range(min(rows, CADENCE)):
            self._tick()

    def _budget(self) -> int:
        policy, watch = self._policy, self.watch
        is_spent = 0 < policy.unique < watch.unique
        is_spent |= 0 < policy.coverage < _THOUSAND * watch.coverage
        return BUDGET if is_spent else 0

    def _tick(self) -> None:
        self._queries += 1
        if self._queries % CADENCE == 0:
            self._evaluate()

    def _evaluate(self) -> None:
        """Climb, stay, or come down; a revocation stays for good."""
        self._quiet = 0 if self._spoke else self._quiet + 1
        self._spoke = False
        if self.action is Action.REVOKE:
            return
        if self._policy.hold and self._quiet >= self._policy.hold and self.latched:
            self.latched = 0
            self.watch.calm()
        if not self.latched:
            self._since, self.action = 0, Action.SERVE
            return
        self.action = self._policy.action(self.latched.bit_count(), self._since)
        self._since += 1
