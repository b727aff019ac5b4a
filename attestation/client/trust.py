"""What a relying party holds an enclave against: policy, collateral, roots, and the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from attestation.appraise import SessionAppraisal
from attestation.collateral import CollateralSource
from attestation.composite import appraise_record
from attestation.evidence import Roots
from attestation.policy import Policy
from attestation.types import EvidenceRecord

Decision = Callable[[SessionAppraisal], None]
"""Raises StrongroomError to refuse an appraised enclave; returning accepts it."""


def require(attested: SessionAppraisal) -> None:
    """Accept what the policy accepts; raises EvidenceError naming every failed check."""
    attested.require()


@dataclass(frozen=True)
class RelyingParty:
    """Appraises enclaves.  `now` gives Unix seconds; it is asked once for each appraisal."""

    policy: Policy
    source: CollateralSource
    roots: Roots
    now: Callable[[], float] = field(default=time.time, repr=False)

    def appraise(self, record: EvidenceRecord, handshake_hash: bytes) -> SessionAppraisal:
        """Verify and appraise the evidence of one session, with that of the enclave's devices.

        Raises EvidenceError where it is broken.
        """
        return appraise_record(record, handshake_hash, self.policy, self.source, self.roots, int(self.now()))
