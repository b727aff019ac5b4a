"""Evidence whose signatures, chains and dates hold: what `verify` gives and `appraise` takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from attestation.intel.abi import QuoteV3
from attestation.intel.pck import PckExtension
from attestation.intel.tcb import TcbLevel, TcbStatus
from attestation.types import PlatformClass
from attestation.validity import rfc3339


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
class Verified:
    """Genuine evidence of one platform.  That it is genuine says nothing about whether to accept it: appraise it.

    root: SHA-256 of the DER root certificate that the chains reached; simulated: what its anchor stands for.
    issued: Unix seconds of the oldest of TCB info, QE identity and PCK revocation list.  expires: the first Unix
    second at which the same collateral no longer passes.
    """

    tee: str
    simulated: bool
    root: bytes
    quote: QuoteV3
    pck: PckExtension = field(repr=False)
    tcb: TcbVerdict
    issued: int
    expires: int

    @property
    def platform(self) -> PlatformClass:
        """Hardware or simulated."""
        return PlatformClass.SIMULATED if self.simulated else PlatformClass.HARDWARE

    @property
    def version(self) -> int:
        """Version of the quote's format."""
        return self.quote.version

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that the enclave had quoted."""
        return self.quote.report_data

    @property
    def tcb_status(self) -> str:
        """The merged TCB status, in the vendor's words."""
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
    def fmspc(self) -> str:
        """Platform family, hex."""
        return self.pck.fmspc.hex()

    @property
    def ppid(self) -> str:
        """Platform provisioning id, hex."""
        return self.pck.ppid.hex()

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs; byte strings as hex, times as RFC 3339."""
        return {
            "tee": self.tee,
            "version": self.version,
            "platform": str(self.platform),
            "simulated": self.simulated,
            "root": self.root.hex(),
            "tcb_status": self.tcb_status,
            "platform_tcb_status": str(self.tcb.platform.status),
            "qe_tcb_status": str(self.tcb.quoting_enclave.status),
            "tcb_date": rfc3339(self.tcb_date),
            "tcb_evaluation_data_number": self.tcb.evaluation_number,
            "advisories": list(self.advisories),
            "collateral": {"issued": rfc3339(self.issued), "expires": rfc3339(self.expires)},
            "pck": self.pck.to_dict(),
            "quote": self.quote.to_dict(),
        }
