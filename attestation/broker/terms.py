"""What every decision of one transaction is made of: the session, the models, and what the ledger knows of both."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from attestation.broker.decide import Evidence, Refusal, Release, Request, Standing, decide
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.policy import ActivePolicy
from attestation.broker.schema import ModelRow
from attestation.broker.state import State
from attestation.types import Delegation, Right


@dataclass(frozen=True)
class AttestedSession:
    """One session with an enclave: what its evidence showed, its h (64 bytes), and the host's address."""

    evidence: Evidence
    handshake_hash: bytes
    address: str


class PolicyChangedError(BrokerError):
    """The policy was set anew after the session was appraised: only evidence appraised under it decides again."""

    def __init__(self) -> None:
        """Say what follows."""
        super().__init__(
            BrokerCode.POLICY_CHANGED,
            "the policy has changed since the enclave was appraised",
            remedy="attest the enclave again, under the policy in force",
        )


def require_same_policy(refusal: Refusal) -> None:
    """Raise PolicyChangedError for a refusal that says nothing of the enclave under the policy in force."""
    if BrokerCode.POLICY_CHANGED in refusal.codes:
        raise PolicyChangedError


@functools.lru_cache(maxsize=1024)
def open_delegation(document: bytes, owner: bytes) -> Delegation:
    """Verify a delegation once; documents never change.  Raises ManifestError."""
    return Delegation.open(document, owner)


def known_model(state: State, digest: bytes) -> ModelRow:
    """Return a model that the broker holds; raises BrokerError `model-not-held`."""
    model = state.model(digest)
    if model is None:
        raise BrokerError(
            BrokerCode.MODEL_UNKNOWN,
            "the broker holds no model of this digest",
            found=digest.hex(),
            remedy="add the sealed model with `strongroom broker add`",
        )
    return model


@dataclass(frozen=True)
class Terms:
    """What the decisions of one transaction share."""

    session: AttestedSession
    broker: bytes
    now: int

    def judge(self, state: State, policy: ActivePolicy, model: ModelRow, right: Right) -> Release | Refusal:
        """Decide on one model with what the state says now."""
        request = Request(
            model=model,
            right=right,
            delegation=open_delegation(model.delegation, model.owner),
            broker=self.broker,
            handshake_hash=self.session.handshake_hash,
            now=self.now,
        )
        evidence = self.session.evidence
        return decide(evidence, policy.rules, standing(state, policy, evidence, model), request)


def standing(state: State, policy: ActivePolicy, evidence: Evidence, model: ModelRow) -> Standing:
    """Collect what the broker knows that bears on one model and one enclave."""
    revocations = [item.document for item in state.revocations() if item.document.owner == model.owner]
    return Standing(
        revoked=any(model.digest in document.models for document in revocations),
        epoch_floor=max((d.epoch for d in revocations if d.names(model.name)), default=0),
        owner_epoch=state.owner_epoch(model.owner),
        holders=state.holders(model.digest, besides=evidence.boot_id),
        lease=state.lease(evidence.boot_id, model.digest),
        policy=policy.epoch,
        newer=state.newer_epochs(model),
    )


def session_event(session: AttestedSession, policy: ActivePolicy) -> dict[str, Any]:
    """Return what audit rows say of a session and of the policy that was in force."""
    evidence = session.evidence
    return {
        "boot_id": evidence.boot_id,
        "platform": str(evidence.platform),
        "measurement": evidence.measurement,
        "evidence": evidence.digest,
        "handshake_hash": session.handshake_hash,
        "address": session.address,
        "policy": policy.epoch,
    }
