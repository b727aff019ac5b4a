"""Verified SGX and TDX quotes: the quote, what its PCK certificate says, and how its TCB stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from attestation.intel.abi import QuoteV3
from attestation.intel.pck import COMPONENTS, PckExtension
from attestation.intel.tcb import TcbLevel, TcbStatus
from attestation.verified import Verified


@dataclass(frozen=True)
class TcbVerdict:
    """How the security versions of platform and quoting enclave stand, apart and merged.

    advisories: those of both levels, without repetition.  evaluation_number: the lower tcbEvaluationDataNumber of
    TCB info and QE identity.
    """

    status: TcbStatus
    platform: TcbLevel
    quoting_enclave: TcbLevel
    advisories: tuple[str, ...]
    evaluation_number: int


@dataclass(frozen=True)
class IntelVerified(Verified):
    """A genuine quote.  `issued` is of the oldest of TCB info, QE identity and PCK revocation list."""

    quote: QuoteV3
    pck: PckExtension = field(repr=False)
    tcb: TcbVerdict

    @property
    def evidence(self) -> QuoteV3:
        """The quote."""
        return self.quote

    @property
    def measurement(self) -> bytes:
        """MRENCLAVE, 32 bytes."""
        return self.quote.body.mr_enclave

    @property
    def tcb_status(self) -> str:
        """The merged TCB status, in Intel's words."""
        return str(self.tcb.status)

    @property
    def advisories(self) -> tuple[str, ...]:
        """Ids of the security advisories that apply."""
        return self.tcb.advisories

    @property
    def tcb_date(self) -> int:
        """Unix seconds up to which the platform's level deals with what was published."""
        return self.tcb.platform.date

    @property
    def evaluation_number(self) -> int:
        """The lower tcbEvaluationDataNumber of TCB info and QE identity."""
        return self.tcb.evaluation_number

    @property
    def tcb_components(self) -> dict[str, int]:
        """The 16 component SVNs and PCESVN of the PCK certificate, by the names of Intel's TCB info."""
        names = (f"sgxtcbcomp{index:02}svn" for index in range(1, COMPONENTS + 1))
        return dict(zip(names, self.pck.components, strict=True)) | {"pcesvn": self.pck.pce_svn}

    @property
    def platform_ids(self) -> dict[str, str]:
        """FMSPC, the platform's family, and PPID, the platform."""
        return {"fmspc": self.pck.fmspc.hex(), "ppid": self.pck.ppid.hex()}

    def details(self) -> dict[str, Any]:
        """Return both levels' statuses and the PCK certificate's extension."""
        return {
            "platform_tcb_status": str(self.tcb.platform.status),
            "qe_tcb_status": str(self.tcb.quoting_enclave.status),
            "pck": self.pck.to_dict(),
        }
