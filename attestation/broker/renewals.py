"""Heartbeats: leases decided anew, and slices of budgets, in one audit row, and signed for one enclave's nonce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from attestation.broker.audit import EventKind
from attestation.broker.budgets import Charges
from attestation.broker.decide import Refusal
from attestation.broker.keystore import BrokerKeys
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import ActivePolicy, active_policy
from attestation.broker.schema import LeaseRow, ModelRow
from attestation.broker.state import State
from attestation.broker.terms import AttestedSession, Terms, known_model, require_same_policy, session_event
from attestation.types import Allotment, BudgetState, Heartbeat, Right, document_digest
from attestation.types.budgets import ModelSlices

MAX_LEASES = 48
"""Leases in one heartbeat: an enclave's claims carry it, in at most 4,096 bytes."""


@dataclass(frozen=True)
class Renewed:
    """A signed heartbeat, the leases in it, and why models were refused theirs (their lease is 0).

    allotment: the signed slices of identities' budgets; empty where there are none.  slices: how many.
    """

    document: bytes
    leases: tuple[tuple[bytes, int], ...]
    refused: tuple[tuple[bytes, Refusal], ...]
    allotment: bytes = b""
    slices: int = 0


def renew(
    ledger: Ledger,
    session: AttestedSession,
    models: Sequence[bytes],
    nonce: bytes,
    now: int,
    *,
    budgets: Sequence[BudgetState] = (),
) -> Renewed:
    """Decide on the leases of up to 48 models of one owner and delegation, durably, and sign the heartbeat.

    nonce: 32 bytes, the enclave's.  budgets: how they stand there; slices are charged for those models alone whose
    lease is renewed.  A refused model's lease is set to 0.  Raises as `release`, and PolicyChangedError where the
    session was appraised under another policy: then no lease is changed.
    """
    if not 0 < len(models) <= MAX_LEASES:
        raise ValueError(f"a heartbeat renews 1 to {MAX_LEASES} leases")
    if len(set(models)) != len(models):
        raise ValueError("a heartbeat renews each lease once")
    renewal = _Renewal(ledger.keys, session, sorted(models), now, budgets)
    ledger.record(now, renewal.plan)
    first = renewal.rows[0]
    heartbeat = Heartbeat(
        owner=first.owner,
        delegation=document_digest(first.delegation),
        nonce=nonce,
        boot_id=session.evidence.boot_id,
        time=now,
        epoch=renewal.epoch,
        leases=tuple(renewal.leases),
    )
    return Renewed(
        document=heartbeat.sign(ledger.keys.signer),
        leases=tuple(renewal.leases),
        refused=tuple(renewal.refused),
        allotment=_allotment(heartbeat, renewal.slices).sign(ledger.keys.signer) if renewal.slices else b"",
        slices=sum(len(item.slices) for item in renewal.slices),
    )


def _allotment(heartbeat: Heartbeat, models: Sequence[ModelSlices]) -> Allotment:
    """Return the allotment that goes with a heartbeat: for the same nonce of the same enclave."""
    names = ("owner", "delegation", "nonce", "boot_id", "time")
    return Allotment(**{name: getattr(heartbeat, name) for name in names}, models=tuple(models))


class _Renewal:
    """One heartbeat: `plan` runs within the transaction and leaves its results here."""

    def __init__(
        self,
        keys: BrokerKeys,
        session: AttestedSession,
        models: list[bytes],
        now: int,
        budgets: Sequence[BudgetState],
    ) -> None:
        self._keys = keys
        self._session = session
        self._models = models
        self._now = now
        self._budgets = budgets
        self._terms = Terms(session, keys.signer.public, now)
        self.rows: list[ModelRow] = []
        self.leases: list[tuple[bytes, int]] = []
        self.refused: list[tuple[bytes, Refusal]] = []
        self.epoch = 0
        self.slices: list[ModelSlices] = []

    def plan(self, state: State) -> Plan:
        policy = active_policy(state, self._keys.signer.public)
        self.rows = [known_model(state, digest) for digest in self._models]
        if len({(row.owner, row.delegation) for row in self.rows}) != 1:
            raise ValueError("a heartbeat is for models of one owner under one delegation")
        self.epoch = state.owner_epoch(self.rows[0].owner)
        changed = [row for model in self.rows for row in self._renewed(state, policy, model)]
        event = {
            **session_event(self._session, policy),
            "owner": self.rows[0].owner,
            "leases": [list(pair) for pair in self.leases],
            "refused": [[digest, list(refusal.codes)] for digest, refusal in self.refused],
        }
        if policy.rules.budget is None or not self._budgets:
            return Plan(EventKind.RENEWAL, event, tuple(changed))
        charges = Charges(state, policy.rules.budget, self._session.evidence.boot_id, self._now)
        self.slices = self._charged(charges)
        if charges.event:
            event["slices"] = charges.event
        return Plan(EventKind.RENEWAL, event, (*changed, *charges.rows))

    def _charged(self, charges: Charges) -> list[ModelSlices]:
        """Charge what the enclave asks of the models that it may go on with."""
        renewed = {digest for digest, requests in self.leases if requests}
        names = {row.name for row in self.rows if row.digest in renewed}
        owner = self.rows[0].owner
        slices = [charges.allot(owner, asked) for asked in self._budgets if asked.name in names]
        return [item for item in slices if item is not None]

    def _renewed(self, state: State, policy: ActivePolicy, model: ModelRow) -> Iterable[LeaseRow]:
        """Decide on one lease; yields its new row where the enclave has one."""
        decision = self._terms.judge(state, policy, model, Right.HEARTBEAT)
        requests = 0
        if isinstance(decision, Refusal):
            require_same_policy(decision)
            self.refused.append((model.digest, decision))
        else:
            requests = decision.lease
        self.leases.append((model.digest, requests))
        old = state.lease(self._session.evidence.boot_id, model.digest)
        if old is not None:
            yield replace(old, requests=requests, renewed=self._now)
