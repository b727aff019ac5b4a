"""The simulated platform's trust domains: quotes of versions 4 and 5 in Intel's format, and TDX collateral.

A platform of the same seed has the same certificates as for its enclaves, as on real machines, and a quoting enclave of
its own for trust domains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from attestation.collateral import CollateralKey
from attestation.intel.collateral import IntelCollateral
from attestation.intel.pem import encode_chain
from attestation.intel.quote import ECDSA_P256, INTEL_QE_VENDOR
from attestation.intel.report import Attributes, ReportBody
from attestation.intel.td_abi import TDX, TdAttributes, TdHeader, TdQuote, TdReport
from attestation.sim import issue
from attestation.sim.pki import Lifetimes, derive, derive_key
from attestation.sim.platform import FMSPC, SimulatedPlatform
from attestation.sim.signature import raw_point, sign_raw
from attestation.sim.state import UNLISTED, State
from manifests.signing import label

MODULE_VERSION = 3
MODULE_SVN = 4
_MICROCODE = 2
_COMPONENTS = (9, 0, _MICROCODE, *[0] * 13)
"""What TCB info asks of the TDX components; the first is of modules without a major version."""

TEE_TCB_SVN = bytes((MODULE_SVN, MODULE_VERSION, _MICROCODE, *[0] * 13))
_BEFORE_UPDATE = bytes((MODULE_SVN - 1, MODULE_VERSION, _MICROCODE, *[0] * 13))
_ZERO = bytes(48)
_XFAM = 0x602E7
"""x87, SSE, AVX, AVX-512, PKRU and AMX, as on a server."""
_AUTH_DATA = bytes(range(32))
_QE_PRODUCT = 2
_NO_TD = TdReport(
    tee_tcb_svn=TEE_TCB_SVN,
    mr_seam=hashlib.sha384(label("simulated TDX module")).digest(),
    mr_signer_seam=_ZERO,
    seam_attributes=0,
    td_attributes=int(TdAttributes.SEPT_VE_DISABLE),
    xfam=_XFAM,
    mr_td=_ZERO,
    mr_config_id=_ZERO,
    mr_owner=_ZERO,
    mr_owner_config=_ZERO,
    rtmr0=_ZERO,
    rtmr1=_ZERO,
    rtmr2=_ZERO,
    rtmr3=_ZERO,
    report_data=bytes(64),
)


@dataclass(frozen=True)
class TdxState(State):
    """The states on demand of a platform with trust domains.

    module_status, module_advisories: of the TDX module's own level.  relaunch: the module was updated since the TDs
    were launched, and what they were launched under is out of date.
    """

    module_status: str = "UpToDate"
    module_advisories: tuple[str, ...] = ()
    relaunch: bool = False


class SimulatedTdx:
    """One machine with trust domains.  Everything follows from a 32-byte seed and the time of its making."""

    def __init__(
        self, seed: bytes, created: int, state: TdxState | None = None, lifetimes: Lifetimes | None = None
    ) -> None:
        """Derive all keys and certificates."""
        self.state = state or TdxState()
        platform = SimulatedPlatform(seed, created, self.state, lifetimes)
        self.pki, self.root_pem, self.root_fingerprint = platform.pki, platform.root_pem, platform.root_fingerprint
        self.qe_signer = hashlib.sha256(raw_point(derive_key(seed, "TD quoting enclave signer"))).digest()
        self.attestation_key = derive_key(seed, "TD attestation")
        self._user_data = derive(seed, "platform id")[:16] + bytes(4)

    @property
    def collateral_key(self) -> CollateralKey:
        """What the platform's collateral is filed under."""
        return CollateralKey("tdx", FMSPC.hex(), "processor")

    # ------------------------------------------------------------------------------------------- evidence

    def evidence(self, mr_td: bytes, report_data: bytes, *, version: int = 4, **changes: Any) -> bytes:
        """Return the quote of a TD with this MRTD (48 bytes) and report data (64 bytes).

        A quote of version 5 has a TD report 1.5; `changes` are fields of TdReport.
        """
        return self.quote(self.report(mr_td, report_data, current=version >= 5, **changes), version).serialize()

    def report(self, mr_td: bytes, report_data: bytes, *, current: bool = False, **changes: Any) -> TdReport:
        """Return the report of a TD in the platform's state; `current` makes it a TD report 1.5."""
        state = self.state
        fields: dict[str, Any] = {"mr_td": mr_td, "report_data": report_data}
        fields["td_attributes"] = _NO_TD.td_attributes | (TdAttributes.DEBUG if state.debug else 0)
        fields["tee_tcb_svn"] = _BEFORE_UPDATE if state.relaunch else TEE_TCB_SVN
        if current:
            fields |= {"tee_tcb_svn2": TEE_TCB_SVN, "mr_service_td": _ZERO}
        return replace(_NO_TD, **(fields | changes))

    def quote(
        self,
        report: TdReport,
        version: int = 4,
        *,
        header: Mapping[str, Any] | None = None,
        qe_report: Mapping[str, Any] | None = None,
        chain: tuple[bytes, ...] | None = None,
    ) -> TdQuote:
        """Sign a quote; `header` and `qe_report` change fields before signing, `chain` is DER instead of the own."""
        key = raw_point(self.attestation_key)
        enclave = replace(self._quoting_enclave(key), **(qe_report or {}))
        certificates = chain if chain is not None else (self.pki.pck.der, self.pki.pck_ca.der, self.pki.root.der)
        unsigned = TdQuote(
            header=replace(TdHeader(version, ECDSA_P256, TDX, INTEL_QE_VENDOR, self._user_data), **(header or {})),
            body=report,
            signature=bytes(64),
            attestation_key=key,
            qe_report=enclave,
            qe_report_signature=self.pki.pck.sign_raw(enclave.serialize()),
            qe_auth_data=_AUTH_DATA,
            certification_data=encode_chain(*certificates) + b"\0",
        )
        return replace(unsigned, signature=sign_raw(self.attestation_key, unsigned.signed))

    def _quoting_enclave(self, attestation_key: bytes) -> ReportBody:
        return ReportBody(
            cpu_svn=self.pki.extension.cpu_svn,
            misc_select=0,
            cet_attributes=0,
            isv_ext_prod_id=bytes(16),
            flags=int(Attributes.INIT | Attributes.MODE64BIT | Attributes.PROVISION_KEY),
            xfrm=0xE7,
            mr_enclave=hashlib.sha256(label("simulated TD quoting enclave")).digest(),
            mr_signer=self.qe_signer,
            config_id=bytes(64),
            isv_prod_id=_QE_PRODUCT,
            isv_svn=issue.QE_ISV_SVN,
            config_svn=0,
            isv_family_id=bytes(16),
            report_data=hashlib.sha256(attestation_key + _AUTH_DATA).digest() + bytes(32),
        )

    # ----------------------------------------------------------------------------------------- collateral

    def collateral(self, now: int) -> IntelCollateral:
        """Issue collateral at `now` (Unix seconds), in the platform's state."""
        return self.collateral_with(issue.spans(self.state, now))

    def collateral_with(
        self, dates: Mapping[str, issue.Span], publication: issue.Publication | None = None
    ) -> IntelCollateral:
        """Issue collateral with explicit (issued, next update) of each document, or with other documents."""
        return issue.publish(self.pki, publication or self.publication(), self.state, dates)

    def publication(self, **tcb_info: Any) -> issue.Publication:
        """Return TCB info and QE identity in the platform's state; a keyword replaces a field of the TCB info."""
        identity = issue.qe_identity("TD_QE", _QE_PRODUCT, self.qe_signer, self.state)
        return issue.Publication(self._tcb_info() | tcb_info, identity, self.pki.tcb_signing)

    def _tcb_info(self) -> dict[str, Any]:
        platform = self.pki.extension
        newer = (platform.components[0] + 1, *platform.components[1:])

        def tcb(components: tuple[int, ...]) -> dict[str, Any]:
            return {
                "sgxtcbcomponents": [{"svn": svn} for svn in components],
                "pcesvn": platform.pce_svn,
                "tdxtcbcomponents": [{"svn": svn} for svn in _COMPONENTS],
            }

        state = self.state
        return {
            "id": "TDX",
            "version": 3,
            "fmspc": platform.fmspc.hex().upper(),
            "pceId": platform.pce_id.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": state.evaluation_number,
            "tdxModule": _MODULE,
            "tdxModuleIdentities": [{"id": f"TDX_{MODULE_VERSION:02X}", **_MODULE, "tcbLevels": self._module_levels()}],
            "tcbLevels": issue.levels(state.tcb_status, tcb(newer), tcb(platform.components), state.advisories),
        }

    def _module_levels(self) -> list[dict[str, Any]]:
        status = self.state.module_status
        newer, own = {"isvsvn": MODULE_SVN + 1}, {"isvsvn": MODULE_SVN}
        levels = issue.levels(status, newer, own, self.state.module_advisories)
        if status == UNLISTED:
            return levels
        old = {"tcb": {"isvsvn": MODULE_SVN - 1}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "OutOfDate"}
        return [*levels, old]


_MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
