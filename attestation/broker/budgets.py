"""Budgets of client identities: what a release policy says, and what one grant or heartbeat charges for them.

The ledger charges a slice before it is sent, and never takes a charge back.  So whatever is lost on the way, held back,
or dies with an enclave, was granted: an identity is answered at most its budget in a period, on all enclaves together.

Beyond that there is one thing, the pool.  An enclave answers the first requests of an identity out of it, until the
identity's slice has come.  What is drawn is then charged to the identity and leaves the pool, as far as its budget
holds it; what exceeds a budget stays in the pool.  So all identities together are answered at most `newcomers` times
`max_enclaves` requests of a model beyond their budgets in a period, however often enclaves restart.

A period ends when the broker's clock has passed its end; a clock that goes back ends none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from attestation.broker.schema import BudgetRow
from attestation.broker.state import State
from attestation.policy import ReleasePolicy
from attestation.types.budgets import MAX_COUNT, Ask, BudgetState, BudgetTerms, ModelSlices, Slice

PERIOD_SECONDS = 86400
SLICE = 100
NEWCOMERS = 256
"""Defaults.  A look at the enclave each second refills a slice, so 100 carry a client that asks 50 times a second."""
LOOK_SECONDS = 1.0
"""How often a serving broker asks an enclave who has used half a slice, or is new, where a policy has budgets."""
ALL_POOLS = b""
"""The identity under which a model's row of all pools stands."""


@dataclass(frozen=True)
class BudgetRules:
    """What a policy says of budgets; names as in its [release] table, with defaults filled in.

    client, anonymous: requests in a period, None without bound.  rate, burst: 0 without bound.  pools: what all
    enclaves may hold of one model for newcomers in a period.
    """

    client: int | None
    anonymous: int | None
    seconds: int
    slice: int
    newcomers: int
    rate: int
    burst: int
    pools: int

    @classmethod
    def of(cls, release: ReleasePolicy) -> Self | None:
        """Return what a policy says; None where it bounds no identity.

        Anonymous sessions have the budget of one client, unless the policy gives them another: else everybody whose
        budget is used up would go on without a name.
        """
        anonymous = release.client_budget if release.anonymous_budget is None else release.anonymous_budget
        if anonymous is None and release.client_rate is None:
            return None
        newcomers = _given(release.newcomers, NEWCOMERS)
        return cls(
            client=release.client_budget,
            anonymous=anonymous,
            seconds=_given(release.budget_seconds, PERIOD_SECONDS),
            slice=_given(release.slice, SLICE),
            newcomers=newcomers,
            rate=_given(release.client_rate, 0),
            burst=_given(release.client_burst, release.client_rate or 0),
            pools=min(newcomers * release.max_enclaves, MAX_COUNT),
        )

    @property
    def counts(self) -> bool:
        """Whether there is a budget, and not a rate alone."""
        return self.anonymous is not None

    def to_dict(self) -> dict[str, int]:
        """Give the fields for people and programs, under the policy's names."""
        named = {"client_budget": self.client, "anonymous_budget": self.anonymous}
        if self.counts:
            named |= {"budget_seconds": self.seconds, "slice": self.slice, "newcomers": self.newcomers}
        if self.rate:
            named |= {"client_rate": self.rate, "client_burst": self.burst}
        return {name: value for name, value in named.items() if value is not None}


class Charges:
    """What one transaction charges for one enclave process; `rows` and `event` go into its plan."""

    def __init__(self, state: State, rules: BudgetRules, boot_id: bytes, now: int) -> None:
        """Charge on what the state says; now: Unix seconds."""
        self._state = state
        self._rules = rules
        self._boot_id = boot_id
        self._now = now
        self._rows: dict[tuple[Any, ...], BudgetRow] = {}
        self.event: list[list[Any]] = []
        """For the audit row: [name, identity, granted now, drawn before, granted in the period, its end]."""

    @property
    def rows(self) -> tuple[BudgetRow, ...]:
        """The rows to write, those that changed alone."""
        return tuple(row for row in self._rows.values() if row != self._state.budget(*row.key()))

    def terms(self, owner: bytes, name: str) -> BudgetTerms:
        """Return what a grant says of a model's budgets, with the enclave's pool charged."""
        rules = self._rules
        until = self._period(owner, name) if rules.counts else 0
        pool = self._fill(owner, name, 0) if rules.counts else 0
        return BudgetTerms(until, pool, rules.slice, rules.client, rules.anonymous, rules.rate, rules.burst)

    def allot(self, owner: bytes, asked: BudgetState) -> ModelSlices | None:
        """Charge what an enclave asks for a model, within the rules; None where it needs to be told nothing."""
        if not self._rules.counts:
            return None
        until = self._period(owner, asked.name)
        is_new = asked.until < until
        if asked.until > until or not (is_new or asked.asks):  # it has heard of a later period, or wants nothing
            return None
        slices = [self._charge(owner, asked.name, ask, is_new=is_new) for ask in asked.asks]
        settled = 0 if is_new else asked.settled + sum(item.settled for item in slices)
        return ModelSlices(asked.name, until, self._fill(owner, asked.name, settled), tuple(slices))

    def _period(self, owner: bytes, name: str) -> int:
        """Return the end of the model's present period; begins the next one where that has passed."""
        key = (owner, name, ALL_POOLS)
        row = self._rows.get(key) or self._state.budget(*key)
        if row is None or row.until <= self._now:
            seconds = self._rules.seconds
            row = BudgetRow(*key, (self._now // seconds + 1) * seconds, 0, 0)
        self._rows[key] = row
        return row.until

    def _row(self, owner: bytes, name: str, identity: bytes) -> BudgetRow:
        """Return a row of the present period."""
        key, until = (owner, name, identity), self._period(owner, name)
        row = self._rows.get(key) or self._state.budget(*key)
        return row if row is not None and row.until == until else BudgetRow(*key, until, 0, 0)

    def _put(self, row: BudgetRow) -> None:
        self._rows[row.key()] = row

    def _charge(self, owner: bytes, name: str, ask: Ask, *, is_new: bool) -> Slice:
        """Charge one identity: first what it was answered out of the pool, then its slice."""
        row, budget = self._row(owner, name, ask.identity), self._budget(ask.identity)
        left = max(0, budget - row.granted)
        settled = 0 if is_new else min(ask.drawn, left)
        count = min(ask.want, self._rules.slice, left - settled)
        row = replace(row, granted=row.granted + settled + count)
        if settled or count:
            self._put(row)
            self.event.append([name, ask.identity, count, settled, row.granted, row.until])
        return Slice(ask.identity, count, settled, last=row.granted >= budget)

    def _budget(self, identity: bytes) -> int:
        terms = BudgetTerms(0, 0, 0, self._rules.client, self._rules.anonymous, 0, 0)
        found = terms.budget(identity)
        return MAX_COUNT if found is None else found

    def _fill(self, owner: bytes, name: str, settled: int) -> int:
        """Charge what the enclave's pool lacks, as far as all pools have room; returns its sum in this period.

        settled: what the enclave has drawn that is charged to identities by now.  The highest that was ever reached
        counts: a slice that was lost on the way is asked for again, but what it settled is not settled twice.
        """
        row, pools = self._row(owner, name, self._boot_id), self._row(owner, name, ALL_POOLS)
        settled = max(row.settled, min(settled, row.granted))
        pools = replace(pools, settled=pools.settled + settled - row.settled)
        lacking = self._rules.newcomers - (row.granted - settled)
        count = max(0, min(lacking, self._rules.pools - (pools.granted - pools.settled)))
        row = replace(row, granted=row.granted + count, settled=settled)
        self._put(row)
        self._put(replace(pools, granted=pools.granted + count))
        if count:
            self.event.append([name, self._boot_id, count, 0, row.granted, row.until])
        return row.granted


def needs_visit(states: Sequence[BudgetState], now: int) -> bool:
    """Tell whether an enclave asks for anything, or has not heard of the present period."""
    return any(state.asks or state.until <= now for state in states)


def _given(value: int | None, default: int) -> int:
    return default if value is None else value
