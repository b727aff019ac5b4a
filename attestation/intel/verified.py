"""Verified SGX and TDX quotes: the quote, what its PCK certificate says, and how its TCB stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from attestation.intel.abi import QuoteV3
from attestation.intel.levels import SGX_NAMES, TDX_NAMES
from attestation.intel.pck import PckExtension
from attestation.intel.quote import Quote
from attestation.intel.tcb import TcbVerdict
from attestation.intel.td_abi import TdQuote
from attestation.verified import Verified


@dataclass(frozen=True)
class IntelVerified(Verified):
    """A genuine quote.  `issued` is of the oldest of TCB info, QE identity and PCK revocation list."""

    quote: Quote
    pck: PckExtension = field(repr=False)
    tcb: TcbVerdict

    @property
    def evidence(self) -> Quote:
        """The quote."""
        return self.quote

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
        """Unix seconds up to which every part of the TCB deals with what was published."""
        return self.tcb.date

    @property
    def evaluation_number(self) -> int:
        """The lower tcbEvaluationDataNumber of TCB info and QE identity."""
        return self.tcb.evaluation_number

    @property
    def tcb_components(self) -> dict[str, int]:
        """The PCK's component SVNs and PCESVN, under the names that Intel's API has for them."""
        return dict(zip(SGX_NAMES, (*self.pck.components, self.pck.pce_svn), strict=True))

    @property
    def platform_ids(self) -> dict[str, str]:
        """FMSPC, the platform's family, and PPID, the platform."""
        return {"fmspc": self.pck.fmspc.hex(), "ppid": self.pck.ppid.hex()}

    def details(self) -> dict[str, Any]:
        """Return the statuses apart and the PCK certificate's extension."""
        return {
            "platform_tcb_status": str(self.tcb.platform.status),
            "qe_tcb_status": str(self.tcb.quoting_enclave.status),
            "pck": self.pck.to_dict(),
        }


@dataclass(frozen=True)
class SgxVerified(IntelVerified):
    """A genuine quote of an enclave."""

    quote: QuoteV3

    @property
    def measurement(self) -> bytes:
        """MRENCLAVE, 32 bytes."""
        return self.quote.body.mr_enclave


@dataclass(frozen=True)
class TdxVerified(IntelVerified):
    """A genuine quote of a trust domain."""

    quote: TdQuote

    @property
    def measurement(self) -> bytes:
        """MRTD, 48 bytes: what the TD was built from.  What it started since is in the RTMRs."""
        return self.quote.body.mr_td

    @property
    def tcb_components(self) -> dict[str, int]:
        """Those of the platform, and of the TDX module the lower of the TD's launch and of now, for each component.

        TEE_TCB_SVN is of the launch; TEE_TCB_SVN2, which a TD report 1.5 has besides, is of now.  Neither alone would
        do: a module that is old now can read the TD, and one that was old at its launch could have.
        """
        body = self.quote.body
        launch = body.tee_tcb_svn
        lower = map(min, launch, body.tee_tcb_svn2 or launch)
        return super().tcb_components | dict(zip(TDX_NAMES, lower, strict=True))

    def details(self) -> dict[str, Any]:
        """Return the statuses apart, with the TDX module's and the one of now, and the PCK certificate's extension."""
        module, current = self.tcb.module, self.tcb.current
        return super().details() | {
            "tdx_module_tcb_status": None if module is None else str(module.status),
            "current_tcb_status": None if current is None else str(current),
        }
