"""Who asks a watched model: a state for each identity, one for all together, and the rung that each of them is on.

Rungs are climbed on a schedule, so that no single query tells whether it raised an alarm.  Where the number of
identities reaches its bound, the one that was quiet longest joins the shared state `rest`, and stays there whenever it
comes back: so nobody gets rid of a state by having it pushed out.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from enclave.errors import EnclaveCode, EnclaveError
from enclave.ladder import Standing, Watching
from enclave.log import Event, log
from manifests.abuse.policy import SEVERITY, AbusePolicy, Action

MAX_JOINED = 1 << 16
"""Identities of which is remembered that they joined the rest; after these, no state is given up."""
RECORD_BYTES = 2048
"""What an identity takes besides the tables of its watch, generously."""

MAX_LOOKED_AT = 64
"""Identities that are looked at together at one time, so that a request's work does not grow with their number."""
MAX_SCORE = 8
"""Twice a limit: what is beyond it tells nothing more."""

_ANONYMOUS = b""
_JOINED_SIZE = 8


class Identities:
    """The identities of one model.  Methods with an underscore are called with `_lock` held."""

    def __init__(
        self, policy: AbusePolicy, make: Callable[[], Watching], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nobody known.

        make: gives the state of a new identity.  clock: gives seconds, which are the host's, for `slow`.
        """
        self._policy = policy
        self._make = make
        self._clock = clock
        self._known: OrderedDict[bytes, Standing] = OrderedDict()
        self._joined: set[bytes] = set()
        self._rest = self._standing()
        self._pool = self._standing(policy.pool_factor)
        self._shadow = self._standing()
        self._lock = threading.Lock()

    @property
    def most_bytes(self) -> int:
        """Bytes that all identities may take together."""
        return (self._policy.identities + 3) * (self._pool.watch.nbytes + RECORD_BYTES)

    def _gate(self, identity: Standing, rows: int) -> None:
        action = self._action(identity)
        if SEVERITY[action] < SEVERITY[Action.SLOW]:
            return
        wait = identity.ready - self._clock()
        if action is not Action.SLOW or wait > 0:
            identity.pass_over(rows)
            self._pool.pass_over(rows)
            raise refusal(action, wait)
        identity.ready = self._clock() + self._policy.pause_ms / 1000

    def _see(self, identity: Standing, looks: Any, row: int) -> None:
        """Take one row; who has raised an alarm of its own does not speak for all any more, at the same cost."""
        before = identity.action
        (self._shadow if identity.latched else self._pool).see(looks, row)
        identity.see(looks, row)
        if SEVERITY[identity.action] > SEVERITY[before]:
            log(Event.ABUSE, action=SEVERITY[identity.action], identities=_coarse(len(self._known)))

    def _action(self, identity: Standing) -> Action:
        """Return what the identity gets: its own rung, or the pool's as far as the policy lets that go."""
        shared = min(self._pool.action, self._policy.pool, key=SEVERITY.__getitem__)
        return max(identity.action, shared, key=SEVERITY.__getitem__)

    def _standing(self, factor: float = 1.0) -> Standing:
        return Standing(self._policy, self._make(), factor)

    def _identity(self, principal: bytes) -> Standing:
        known = self._known.get(principal)
        if known is not None:
            self._known.move_to_end(principal)
            return known
        if self._joined and _short(principal) in self._joined:
            return self._rest
        if len(self._known) >= self._policy.identities and principal != _ANONYMOUS and not self._make_room():
            return self._rest
        self._known[principal] = self._standing()
        return self._known[principal]

    def _make_room(self) -> bool:
        """Have the identity that was quiet longest join the rest; False where none of the quietest can.

        Those that cannot, being under suspicion, are looked at again after all others.
        """
        if len(self._joined) >= MAX_JOINED:
            return False
        for _ in range(min(MAX_LOOKED_AT, len(self._known))):
            principal, standing = next(iter(self._known.items()))
            if principal != _ANONYMOUS and not standing.latched:
                self._rest.watch.absorb(standing.watch)
                self._joined.add(_short(principal))
                del self._known[principal]
                return True
            self._known.move_to_end(principal)
        return False

    def score(self) -> int:
        """Return the greatest share of a limit that any identity has reached, in quarters, at most MAX_SCORE.

        Of the identities that asked last: requests wait meanwhile.
        """
        with self._lock:
            latest = itertools.islice(reversed(self._known.values()), MAX_LOOKED_AT)
            share = max(standing.watch.share() for standing in (*latest, self._rest))
        return int(min(4 * share, MAX_SCORE))

    def counts(self) -> dict[str, int]:
        """Return coarse counters, each a power of two or zero: identities watched, and those on each rung."""
        with self._lock:
            actions = [standing.action for standing in (*self._known.values(), self._rest)]
        found = {f"abuse_{action}": _coarse(actions.count(action)) for action in Action if action is not Action.SERVE}
        return {"abuse_identities": _coarse(len(actions) - 1), **found}


def _short(principal: bytes) -> bytes:
    return hashlib.blake2b(principal, digest_size=_JOINED_SIZE).digest()


def _coarse(count: int) -> int:
    """Return the greatest power of two that is not above a count."""
    return 1 << count.bit_length() - 1 if count else 0


def refusal(action: Action, wait: float = 0.0) -> EnclaveError:
    if action is Action.SLOW:
        return EnclaveError(EnclaveCode.ABUSE_SLOWED, "this client is answered more slowly", retry_after=round(wait, 1))
    if action is Action.REVOKE:
        return EnclaveError(EnclaveCode.ABUSE_REVOKED, "this client is not answered any more")
    return EnclaveError(EnclaveCode.ABUSE_REFUSED, "this client is not answered now")
