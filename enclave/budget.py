"""Budgets of client identities, as far as one enclave process knows them: slices, a pool for newcomers, and rates.

The broker counts for all enclaves, in a ledger that outlives them; here are only the slices that it has charged
already.  They die with the process.  All models of one name share one account, so that a new epoch gives nobody more.

Counts need no clock.  A period ends when a document of the broker names a later one, so a host that holds the broker's
messages back keeps clients at the slices that they have.  Only rates follow a clock, the host's: best effort.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from attestation.types import Allotment, BudgetState, BudgetTerms, Delegation, Grant
from attestation.types.budgets import MAX_ASKS, Ask, ModelSlices, Slice, identity_of
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lease import Lease

MAX_IDENTITIES = 4096
"""Identities that one account remembers; the one that asked longest ago is forgotten, with what it had left."""
PENDING_SECONDS = 2.0
"""What a client is told to wait for its slice: a serving broker looks each second."""
ASK_AGAIN_SECONDS = 30.0
"""Before an identity whose budget is used up is asked for again: an administrator may have reset it."""
LEAST_WAIT = 1.0
"""Seconds that a client is told to wait for a period that should have ended already."""


@dataclass
class _Share:
    """What one identity has here.

    left: of its slice.  drawn: answered out of the pool and not charged to it yet.  known: whether the broker has
    spoken of it in this period.  last: whether its budget holds no more than `left`; told: when that was said.
    tokens: requests that its rate admits at once, as of `filled`; both times are of the monotonic clock.
    """

    tokens: float
    filled: float
    left: int = 0
    drawn: int = 0
    known: bool = False
    last: bool = False
    told: float = 0.0

    def renew(self) -> None:
        """Begin a period: what is left of the one before is void."""
        self.left = self.drawn = 0
        self.known = self.last = False


class Account:
    """The budgets on one model name; thread-safe."""

    def __init__(self, name: str) -> None:
        """Begin without terms: nothing is bounded."""
        self.name = name
        self._terms: BudgetTerms | None = None
        self._until = 0
        self._time = 0
        self._pool = 0
        self._drawn = 0
        self._settled = 0
        self._shares: dict[bytes, _Share] = {}
        self._wanting: dict[bytes, None] = {}
        """Identities that need a slice, in the order in which they came to need it."""
        self._lock = threading.Lock()

    @property
    def counts(self) -> bool:
        """Whether any identity has a budget."""
        terms = self._terms
        return terms is not None and (terms.client is not None or terms.anonymous is not None)

    # ------------------------------------------------------------------------------------ requests

    def spend(self, principal: bytes, lease: Lease) -> bool:
        """Take one request of an identity and of the lease, or neither; tells and raises as `taking`."""
        with self.taking(principal, lease) as charged:
            return charged

    @contextmanager
    def taking(self, principal: bytes, lease: Lease) -> Iterator[bool]:
        """Take both when the block ends without an error; tells whether the identity has a budget.

        Raises EnclaveError `rate-exceeded`, `budget-pending`, `budget-exhausted` or `lease-exhausted`.
        """
        with self._lock:
            terms = self._terms
            if terms is None:
                with lease.taking():
                    yield False
                return
            identity = identity_of(principal)
            share = self._share(identity, terms)
            _check_rate(share, terms)
            budget = terms.budget(identity)
            from_pool = budget is not None and self._is_newcomer(identity, share, terms, budget)
            with lease.taking():
                yield budget is not None
            share.tokens -= 1
            if budget is not None:
                self._take(identity, share, terms, from_pool=from_pool)

    def _share(self, identity: bytes, terms: BudgetTerms) -> _Share:
        """Return what an identity has, and make it the one that is forgotten last."""
        share = self._shares.pop(identity, None) or _Share(tokens=terms.burst, filled=time.monotonic())
        self._shares[identity] = share
        if len(self._shares) > MAX_IDENTITIES:
            oldest = next(iter(self._shares))
            del self._shares[oldest]
            self._wanting.pop(oldest, None)
        return share

    def _is_newcomer(self, identity: bytes, share: _Share, terms: BudgetTerms, budget: int) -> bool:
        """Tell whether a request is answered out of the pool rather than a slice; raises where it is by neither."""
        if not budget:
            raise EnclaveError(EnclaveCode.BUDGET_EXHAUSTED, "the model answers only clients that its owner has named")
        if share.left:
            return False
        if share.last:
            if time.monotonic() - share.told >= ASK_AGAIN_SECONDS:
                self._wanting[identity] = None
            raise EnclaveError(
                EnclaveCode.BUDGET_EXHAUSTED,
                "the client's budget of this model is used up until the period ends",
                retry_after=max(LEAST_WAIT, float(self._until - self._time)),
            )
        self._wanting.setdefault(identity)
        if not share.known and share.drawn < _first(terms) and self._drawn < self._pool:
            return True
        raise EnclaveError(
            EnclaveCode.BUDGET_PENDING,
            "the broker has yet to grant the client more of its budget",
            retry_after=PENDING_SECONDS,
        )

    def _take(self, identity: bytes, share: _Share, terms: BudgetTerms, *, from_pool: bool) -> None:
        if from_pool:
            share.drawn += 1
            self._drawn += 1
            return
        share.left -= 1
        if 2 * share.left < terms.slice and not share.last:
            self._wanting.setdefault(identity)

    # ------------------------------------------------------------------------------------ the broker

    def grant(self, terms: BudgetTerms | None, now: int) -> None:
        """Take over what the newest grant says; without terms nothing is bounded any more."""
        with self._lock:
            self._terms = terms
            if terms is not None:
                self._time = max(self._time, now)
                self._enter(terms.until, terms.pool)

    def hear(self, now: int) -> None:
        """Take over a broker's signed time."""
        with self._lock:
            self._time = max(self._time, now)

    def state(self, limit: int) -> BudgetState:
        """Return how the account stands, with at most so many identities that need a slice, the first ones first."""
        with self._lock:
            most = 0 if self._terms is None else self._terms.slice
            asks = [self._ask(identity, most) for identity in list(self._wanting)[:limit]]
            return BudgetState(self.name, self._until, self._settled, tuple(asks))

    def _ask(self, identity: bytes, most: int) -> Ask:
        share = self._shares[identity]
        return Ask(identity, max(0, most - share.left), share.drawn)

    def allot(self, given: ModelSlices) -> None:
        """Take slices over; those of an earlier period are void."""
        with self._lock:
            if given.until < self._until or self._terms is None:
                return
            self._enter(given.until, given.pool)
            for item in given.slices:
                share = self._shares.get(item.identity)
                if share is not None:  # forgotten meanwhile: its slice is lost
                    self._settled += _give(share, item, self._terms.slice)
                    self._wanting.pop(item.identity, None)

    def _enter(self, until: int, pool: int) -> None:
        """Be in the period that ends at `until`, or in a later one."""
        if until < self._until:
            return
        if until > self._until:
            self._until, self._pool, self._drawn, self._settled = until, 0, 0, 0
            self._wanting.clear()
            for share in self._shares.values():
                share.renew()
        self._pool = max(self._pool, pool)


class Budget:
    """What a loaded model knows of budgets: the account of its name, once it is taken in."""

    def __init__(self) -> None:
        """Begin without an account: nobody can ask the model yet."""
        self._account: Account | None = None

    def join(self, account: Account) -> None:
        """Share the account of the model's name."""
        self._account = account

    def spend(self, principal: bytes, lease: Lease) -> bool:
        """Take one request of an identity and of the lease, or neither; tells and raises as `taking`."""
        with self.taking(principal, lease) as charged:
            return charged

    @contextmanager
    def taking(self, principal: bytes, lease: Lease) -> Iterator[bool]:
        """Take both when the block ends without an error; tells and raises as `Account.taking`.

        principal: the client's key (32 bytes), or b"" for all anonymous sessions.
        """
        if self._account is None:
            with lease.taking():
                yield False
            return
        with self._account.taking(principal, lease) as charged:
            yield charged


class Accounts:
    """The accounts of one owner's model names.  Callers hold the owners' lock."""

    def __init__(self) -> None:
        """Begin without any; names are bounded where their floors are (owners.py)."""
        self._by_name: dict[str, Account] = {}

    def take_in(self, grant: Grant, budget: Budget) -> None:
        """Apply a grant's terms to its model's name, whose account the model shares from now on."""
        account = self._by_name.setdefault(grant.name, Account(grant.name))
        account.grant(grant.budget, grant.time)
        budget.join(account)

    def check(self, allotment: Allotment | None, delegation: Delegation) -> None:
        """Refuse an allotment beyond its delegation; raises EnclaveError `delegation-scope`."""
        if allotment is not None and not all(delegation.names(model.name) for model in allotment.models):
            raise EnclaveError(EnclaveCode.DELEGATION_SCOPE, "the delegation does not cover what is allotted")

    def hear(self, now: int, allotment: Allotment | None, delegation: Delegation) -> None:
        """Take over a heartbeat's time, and the slices that come with it."""
        for name, account in self._by_name.items():
            if delegation.names(name):
                account.hear(now)
        for model in () if allotment is None else allotment.models:
            if model.name in self._by_name:
                self._by_name[model.name].allot(model)

    def states(self, delegations: Iterable[Delegation]) -> list[BudgetState]:
        """Return how the budgets that these delegations reach stand, in the order of their names.

        The bound on identities is shared out, so that the clients of one model do not keep those of another waiting.
        """
        known = tuple(delegations)
        mine = [
            account
            for name, account in sorted(self._by_name.items())
            if account.counts and any(delegation.names(name) for delegation in known)
        ]
        left, states = MAX_ASKS, []
        for number, account in enumerate(mine):
            states.append(account.state(left // (len(mine) - number)))
            left -= len(states[-1].asks)
        return states


def _first(terms: BudgetTerms) -> int:
    """Return how much of a pool one identity may draw before the broker has spoken of it: a quarter at most."""
    return min(terms.slice, max(1, terms.pool // 4))


def _give(share: _Share, item: Slice, most: int) -> int:
    """Add a slice, up to what may be held at a time; returns what of the pool was charged to the identity."""
    share.left = min(share.left + item.count, most)
    share.known, share.last = True, item.last
    share.told = time.monotonic()
    settled = min(item.settled, share.drawn)
    share.drawn -= settled
    return settled


def _check_rate(share: _Share, terms: BudgetTerms) -> None:
    """Refuse a request beyond the identity's rate; raises EnclaveError `rate-exceeded`."""
    if not terms.rate:
        share.tokens = 1.0
        return
    now, per_second = time.monotonic(), terms.rate / 60
    share.tokens = min(terms.burst, share.tokens + max(0.0, now - share.filled) * per_second)
    share.filled = now
    if share.tokens < 1:
        raise EnclaveError(
            EnclaveCode.RATE_EXCEEDED,
            "the client asks more often than the model's owner admits",
            retry_after=(1 - share.tokens) / per_second,
        )
