"""From a session's appraisal to the evidence that a decision takes."""

from __future__ import annotations

from attestation.appraise import SessionAppraisal
from attestation.broker.decide import Evidence, OwnerClaim, unmet
from attestation.types import Heartbeat, OwnerState
from manifests.errors import ManifestError


def evidence_of(attested: SessionAppraisal, broker: bytes, policy: int) -> Evidence:
    """Return what a decision needs to know.

    broker: this broker's public key.  policy: epoch of the release policy that the evidence was appraised under.
    """
    verified, claims = attested.verified, attested.claims
    return Evidence(
        accepted=attested.appraisal.accepted,
        failures=tuple(unmet(item.code, item.expected, item.found) for item in attested.appraisal.failed),
        platform=verified.platform,
        measurement=verified.measurement,
        expires=attested.expires,
        boot_id=claims.boot_id,
        admitted=claims.admitted,
        owners=tuple(OwnerClaim(state.owner, _beat_epoch(state, broker)) for state in claims.owners),
        digest=attested.evidence_digest,
        policy=policy,
    )


def _beat_epoch(state: OwnerState, broker: bytes) -> int:
    """Return the epoch of the heartbeat that the enclave shows, if this broker signed it."""
    try:
        heartbeat = Heartbeat.open(state.heartbeat, broker)
    except ManifestError:  # none yet, or another broker's
        return 0
    return heartbeat.epoch if heartbeat.owner == state.owner else 0
