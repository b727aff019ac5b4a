"""Verified evidence of Azure: the processor's part, the vTPM's part, and what the paravisor says of the VM."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from attestation.azure.abi import AzureEvidence
from attestation.azure.runtime import RuntimeClaims
from attestation.tpm.verified import TpmVerified
from attestation.verified import Verified


@dataclass(frozen=True)
class AzureVerified(Verified):
    """A genuine quote of a vTPM that runs inside a confidential VM, beside the guest and out of the host's reach.

    inner: the SEV-SNP report or TD quote, which vouches for the vTPM's key.  vtpm: the quote under that key.  Dates and
    root are those of `inner`.
    """

    source: AzureEvidence = field(repr=False)
    inner: Verified
    vtpm: TpmVerified
    claims: RuntimeClaims

    @property
    def evidence(self) -> AzureEvidence:
        """The evidence that was verified."""
        return self.source

    @property
    def measurement(self) -> bytes:
        """The launch measurement of the processor's part: that of the paravisor and the guest's firmware."""
        return self.inner.measurement

    @property
    def tcb_status(self) -> str | None:
        """How the processor's security versions stand."""
        return self.inner.tcb_status

    @property
    def advisories(self) -> tuple[str, ...]:
        """Ids of the security advisories that apply to the processor."""
        return self.inner.advisories

    @property
    def tcb_date(self) -> int | None:
        """Unix seconds up to which the processor's part deals with what was published."""
        return self.inner.tcb_date

    @property
    def evaluation_number(self) -> int | None:
        """Intel's tcbEvaluationDataNumber, over TDX."""
        return self.inner.evaluation_number

    @property
    def parts(self) -> tuple[Verified, ...]:
        """Itself, the processor's part and the vTPM's part, each under the table of its TEE."""
        return (self, *self.inner.parts, self.vtpm)

    def bound(self, report_data: bytes) -> bytes:
        """Return SHA-256 of the report data, which the vTPM's qualifying data carries."""
        return hashlib.sha256(report_data).digest()

    def details(self) -> dict[str, Any]:
        """Return both parts, and what the paravisor says."""
        return {
            "runtime_claims": self.claims.to_dict(),
            self.inner.tee: {name: value for name, value in self.inner.to_dict().items() if name != "quote"},
            "tpm": {name: value for name, value in self.vtpm.to_dict().items() if name != "quote"},
        }
