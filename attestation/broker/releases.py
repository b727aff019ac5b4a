"""Releases, renewals and refusals: a decision and its durable audit row, then what may leave the broker.

The order is the point.  Within one transaction the newest state is read, the decision made, and its row written; the
data key is unwrapped there too, so that a damaged row is found before the log says that it was released.  Only after
the commit are grant and key handed to the caller, for one session.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from attestation.broker.audit import EventKind
from attestation.broker.budgets import Charges
from attestation.broker.decide import MAX_TEXT, Refusal, Unmet
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.keystore import BrokerKeys, KeyContext, wipe
from attestation.broker.ledger import Ledger, Plan
from attestation.broker.policy import ActivePolicy, active_policy
from attestation.broker.schema import EnclaveRow, LeaseRow, ModelRow
from attestation.broker.state import State
from attestation.broker.terms import AttestedSession, Terms, known_model, session_event
from attestation.types import BudgetTerms, Grant, Right, document_digest
from manifests import canonical
from manifests.errors import StrongroomError

SERIAL_SIZE = 16
MAX_NAMED = 64
"""Models that the row of a refusal names: a session that gets nothing is refused for all alike."""
MAX_UNMET = 24 * 1024
"""Bytes of the expectations that the row of a refusal lists, half of what a row may hold; the rest are counted."""
MAX_CODE = 64
"""Of a code that a peer names: ours are shorter."""


@dataclass(frozen=True)
class Granted:
    """A released key with its grant, for the session it was made in.  The caller wipes `key` once it is sent."""

    model: ModelRow
    grant: bytes
    lease: int
    serial: bytes
    audit_index: int
    key: bytearray = field(repr=False)


def release(ledger: Ledger, session: AttestedSession, digest: bytes, now: int) -> Granted | Refusal:
    """Decide on one model's key for one session, durably, and hand it out or refuse it.

    Raises BrokerError `model-not-held`, `policy-missing`, `key-unwrap-failed`, and as `Ledger.record`; then nothing
    has left.
    """
    attempt = _Attempt(ledger.keys, session, digest, now)
    try:
        entry = ledger.record(now, attempt.plan)
    except BaseException:
        wipe(attempt.key)
        raise
    if attempt.refusal is not None:
        return attempt.refusal
    model, serial, lease = attempt.model, attempt.serial, attempt.lease
    grant = Grant(
        owner=model.owner,
        delegation=document_digest(model.delegation),
        model=model.digest,
        name=model.name,
        epoch=model.epoch,
        handshake_hash=session.handshake_hash,
        serial=serial,
        lease=lease,
        platform=session.evidence.platform,
        audit_head=entry.head,
        time=now,
        budget=attempt.budget,
    )
    return Granted(model, grant.sign(ledger.keys.signer), lease, serial, entry.index, attempt.key)


class _Attempt:
    """One release: `plan` runs within the transaction and leaves its results here."""

    def __init__(self, keys: BrokerKeys, session: AttestedSession, digest: bytes, now: int) -> None:
        self._keys = keys
        self._session = session
        self._digest = digest
        self._now = now
        self._terms = Terms(session, keys.signer.public, now)
        self.key = bytearray()
        self.refusal: Refusal | None = None
        self.serial = b""
        self.lease = 0
        self.budget: BudgetTerms | None = None
        self.model: ModelRow

    def plan(self, state: State) -> Plan:
        self.model = known_model(state, self._digest)
        policy = active_policy(state, self._keys.signer.public)
        decision = self._terms.judge(state, policy, self.model, Right.PROVISION)
        if isinstance(decision, Refusal):
            self.refusal = decision
            return refusal_plan(self._session, policy, [self.model], decision.unmet)
        context = KeyContext(self.model.owner, self.model.digest, policy.lineage)
        self.key = self._keys.store.unwrap(self.model.wrapped, context)
        self.serial, self.lease = os.urandom(SERIAL_SIZE), decision.lease
        return self._release_plan(state, policy)

    def _release_plan(self, state: State, policy: ActivePolicy) -> Plan:
        evidence, model = self._session.evidence, self.model
        enclave = _counted(state, self._session, self._now)
        lease = LeaseRow(
            evidence.boot_id, model.digest, self.serial, self._session.handshake_hash, self.lease, self._now, self._now
        )
        event = {
            **session_event(self._session, policy),
            **_model_event(model),
            "serial": self.serial,
            "lease": self.lease,
            "provisions": enclave.provisions,
        }
        if policy.rules.budget is None:
            return Plan(EventKind.RELEASE, event, (enclave, lease))
        charges = Charges(state, policy.rules.budget, evidence.boot_id, self._now)
        self.budget = charges.terms(model.owner, model.name)
        event["budget"] = self.budget.to_map()
        return Plan(EventKind.RELEASE, event, (enclave, lease, *charges.rows))


def refuse(ledger: Ledger, session: AttestedSession, digests: Sequence[bytes], now: int) -> Refusal:
    """Record in one row why a session gets none of these models; raises BrokerError, also if it would get one."""
    found = list(session.evidence.failures)
    terms = Terms(session, ledger.keys.signer.public, now)

    def plan(state: State) -> Plan:
        policy = active_policy(state, ledger.keys.signer.public)
        models = [known_model(state, digest) for digest in digests]
        for model in models:
            decision = terms.judge(state, policy, model, Right.PROVISION)
            if not isinstance(decision, Refusal):
                raise BrokerError(BrokerCode.RELEASE_REFUSED, "the session meets the policy for a model")
            found.extend(item for item in decision.unmet if item not in found)
        return refusal_plan(session, policy, models, found)

    ledger.record(now, plan)
    return Refusal(tuple(found))


def withdraw(ledger: Ledger, session: AttestedSession, digest: bytes, code: str, now: int) -> None:
    """Record that the enclave refused a released key, with its own code: it no longer counts as a holder."""

    def plan(state: State) -> Plan:
        lease = state.lease(session.evidence.boot_id, digest)
        rows = () if lease is None else (replace(lease, requests=0),)
        event = {"boot_id": session.evidence.boot_id, "model": digest, "code": code[:MAX_CODE]}
        return Plan(EventKind.FAILURE, event, rows)

    ledger.record(now, plan)


def give_back(ledger: Ledger, session: AttestedSession, owner: bytes, now: int) -> int:
    """Count an owner's leases at an enclave as spent, because it says that it is ending; returns how many there were.

    The enclave was attested in this session, so it is code that answers nothing after it has said so.
    """
    boot_id = session.evidence.boot_id

    def unspent(state: State) -> tuple[LeaseRow, ...]:
        models = {row.digest for row in state.models() if row.owner == owner}
        leases = [lease for lease in state.leases_of(boot_id) if lease.requests and lease.model in models]
        return tuple(replace(lease, requests=0) for lease in leases)

    def plan(state: State) -> Plan:
        rows = unspent(state)
        return Plan(EventKind.FORGOTTEN, {"boot_id": boot_id, "leases": len(rows)}, rows)

    count = len(ledger.look(unspent))
    if count:
        ledger.record(now, plan)
    return count


def refuse_unverified(ledger: Ledger, address: str, error: StrongroomError, now: int) -> None:
    """Record that an enclave's evidence did not verify; nothing that it says of itself is recorded."""
    event = {"address": address, "unmet": [[str(error.code), error.message[:MAX_TEXT], ""]], "models": []}
    ledger.record(now, lambda _state: Plan(EventKind.REFUSAL, event))


def refusal_plan(
    session: AttestedSession, policy: ActivePolicy, models: Sequence[ModelRow], unmet: Iterable[Unmet]
) -> Plan:
    """Return the audit row of a refusal; it changes no state.

    What a row cannot name is counted: `models_left_out` and `unmet_left_out` are there when they are above 0.
    """
    listed = [[item.code, item.expected, item.found] for item in unmet]
    shown = _fitting(listed)
    left_out = {"models_left_out": len(models) - MAX_NAMED, "unmet_left_out": len(listed) - len(shown)}
    event = {
        **session_event(session, policy),
        "models": [model.digest for model in models][:MAX_NAMED],
        "unmet": shown,
        **{name: count for name, count in left_out.items() if count > 0},
    }
    return Plan(EventKind.REFUSAL, event)


def _fitting(listed: list[list[str]]) -> list[list[str]]:
    """Return the first entries, as many as MAX_UNMET bytes hold."""
    sizes = itertools.accumulate(len(canonical.encode(item)) for item in listed)
    return [item for item, size in zip(listed, sizes, strict=True) if size <= MAX_UNMET]


def _counted(state: State, session: AttestedSession, now: int) -> EnclaveRow:
    """Return the enclave's row with this release counted; a new session counts once, however many keys it gets."""
    evidence = session.evidence
    known = state.enclave(evidence.boot_id)
    repeated = any(lease.handshake_hash == session.handshake_hash for lease in state.leases_of(evidence.boot_id))
    return EnclaveRow(
        boot_id=evidence.boot_id,
        platform=str(evidence.platform),
        measurement=evidence.measurement,
        address=session.address,
        first_seen=known.first_seen if known else now,
        sessions=(known.sessions if known else 0) + (not repeated),
        provisions=(known.provisions if known else 0) + 1,
    )


def _model_event(model: ModelRow) -> dict[str, Any]:
    return {"model": model.digest, "owner": model.owner, "name": model.name, "epoch": model.epoch}
