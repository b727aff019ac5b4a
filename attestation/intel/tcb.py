"""How a platform, its quoting enclave and its TDX module stand by TCB info and QE identity.

Sources: Intel SGX and TDX Provisioning Certification Service API, version 4, "Get SGX TCB Info" and "Get TDX TCB Info"
(with their sections on how the TCB status of a platform is determined); Intel's Quote Verification Library (QVL),
EvaluateTcb.cpp (`sgxEvaluateTCB`, `tdxEvaluateTCB`), TcbLevelCheck.cpp (`checkTcbLevel`) and QuoteVerifier.cpp, with
the sections 4.1.2.5.x of its specification that they name.
"""

from __future__ import annotations

from dataclasses import dataclass

from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.errors import TdxCode
from attestation.intel.levels import TcbLevel, TcbStatus, first_reached, merge, with_relaunch
from attestation.intel.pck import PckExtension
from attestation.intel.report import ReportBody
from attestation.intel.tcb_documents import (
    Module,
    ModuleIdentity,
    QeIdentity,
    TcbInfo,
    parse_qe_identity,
    parse_tcb_info,
)
from attestation.intel.td_abi import TdReport

__all__ = [
    "QeIdentity",
    "TcbInfo",
    "TcbLevel",
    "TcbStatus",
    "TcbVerdict",
    "match_platform",
    "match_quoting_enclave",
    "merge",
    "parse_qe_identity",
    "parse_tcb_info",
    "td_verdict",
    "verdict",
    "with_relaunch",
]

_MODULE_SVN, _MODULE_VERSION = 0, 1
"""Places in TEE_TCB_SVN of the TDX module's SVN and of its major version."""
_ANY = 255


@dataclass(frozen=True)
class TcbVerdict:
    """How the security versions of a platform and what runs on it stand, apart and merged.

    module: the level of the TDX module under which a TD was launched; None for SGX, and for modules of major version
    0, which the platform's level rates.  current: the merged status of what the platform of a TD runs now, where its
    report says so (TD report 1.5).  advisories: those of all levels, without repetition.  date: Unix seconds, the
    earliest of all levels.  evaluation_number: the lower tcbEvaluationDataNumber of TCB info and QE identity.
    """

    status: TcbStatus
    platform: TcbLevel
    quoting_enclave: TcbLevel
    advisories: tuple[str, ...]
    date: int
    evaluation_number: int
    module: TcbLevel | None = None
    current: TcbStatus | None = None


def verdict(info: TcbInfo, identity: QeIdentity, pck: PckExtension, qe_report: ReportBody) -> TcbVerdict:
    """Return how the platform of an enclave stands (QVL 4.1.2.5.18); raises EvidenceError."""
    qe = match_quoting_enclave(identity, qe_report)
    platform = match_platform(info, pck)
    return TcbVerdict(
        status=merge(platform.status, qe.status),
        platform=platform,
        quoting_enclave=qe,
        advisories=_advisories(platform, qe),
        date=_date(platform, qe),
        evaluation_number=min(info.evaluation_number, identity.evaluation_number),
    )


def td_verdict(
    info: TcbInfo, identity: QeIdentity, pck: PckExtension, qe_report: ReportBody, report: TdReport
) -> TcbVerdict:
    """Return how the platform of a TD stands (QVL 4.1.2.5.12, .19 and .20); raises EvidenceError.

    The TCB under which the TD was launched and the one of now are rated alike; both must reach a level.
    """
    qe = match_quoting_enclave(identity, qe_report)
    _check_module(info, report)
    launch = _rate(info, pck, report.tee_tcb_svn)
    current = launch if report.tee_tcb_svn2 is None else _rate(info, pck, report.tee_tcb_svn2)
    status, status_now = _merged(launch, qe), _merged(current, qe)
    return TcbVerdict(
        status=with_relaunch(status, status_now),
        platform=launch[0],
        quoting_enclave=qe,
        advisories=_advisories(launch[0], qe, *launch[1:], *current),
        date=_date(qe, *launch, *current),
        evaluation_number=min(info.evaluation_number, identity.evaluation_number),
        module=launch[1] if len(launch) > 1 else None,
        current=None if report.tee_tcb_svn2 is None else status_now,
    )


def match_platform(info: TcbInfo, pck: PckExtension, tee_tcb_svn: bytes = b"") -> TcbLevel:
    """Return the first level that the platform reaches; raises EvidenceError.

    FMSPC and PCE id must be the certificate's own (`tcb-info-fmspc`, `tcb-info-pce`); below every level is
    `tcb-no-match`, a revoked one `tcb-revoked`.  tee_tcb_svn: of a TD, 16 bytes.  Where the TDX module has a major
    version, the first two of them are rated by the module's identity, and left out here.
    """
    if info.fmspc != pck.fmspc:
        raise _mismatch(EvidenceCode.TCB_INFO_FMSPC, pck.fmspc, info.fmspc)
    if info.pce_id != pck.pce_id:
        raise _mismatch(EvidenceCode.TCB_INFO_PCE, pck.pce_id, info.pce_id)
    rated = (_ANY, _ANY, *tee_tcb_svn[2:]) if any(tee_tcb_svn[1:2]) else tuple(tee_tcb_svn)
    platform = (*pck.components, pck.pce_svn)
    return first_reached(info.levels, (*platform, *rated), EvidenceCode.TCB_NO_MATCH, (*platform, *tee_tcb_svn))


def match_quoting_enclave(identity: QeIdentity, report: ReportBody) -> TcbLevel:
    """Return the first level that the quoting enclave reaches; raises EvidenceError.

    A report that is not of the identified enclave is `qe-report-identity`.
    """
    misc_select = report.misc_select.to_bytes(4, "little")
    attributes = report.flags.to_bytes(8, "little") + report.xfrm.to_bytes(8, "little")
    checks = {
        "MRSIGNER": (identity.mr_signer, report.mr_signer),
        "ISVPRODID": (identity.isv_prod_id.to_bytes(2, "big"), report.isv_prod_id.to_bytes(2, "big")),
        "MISCSELECT": (
            _masked(identity.misc_select, identity.misc_select_mask),
            _masked(misc_select, identity.misc_select_mask),
        ),
        "ATTRIBUTES": (
            _masked(identity.attributes, identity.attributes_mask),
            _masked(attributes, identity.attributes_mask),
        ),
    }
    for name, (expected, found) in checks.items():
        if expected != found:
            raise EvidenceError(
                EvidenceCode.QE_REPORT_IDENTITY,
                f"the quoting enclave has another {name} than the vendor's",
                expected=expected.hex(),
                found=found.hex(),
            )
    return first_reached(identity.levels, (report.isv_svn,), EvidenceCode.QE_TCB_NO_MATCH)


def _rate(info: TcbInfo, pck: PckExtension, tee_tcb_svn: bytes) -> tuple[TcbLevel, ...]:
    """Return the platform's level and, where the module has identities by major version, the module's own.

    QVL 4.1.2.5.2 (`tdxEvaluateTCB`).
    """
    platform = match_platform(info, pck, tee_tcb_svn)
    module = _module(info, tee_tcb_svn)
    if not isinstance(module, ModuleIdentity):
        return (platform,)
    return platform, first_reached(module.levels, (tee_tcb_svn[_MODULE_SVN],), TdxCode.MODULE_NO_MATCH)


def _module(info: TcbInfo, tee_tcb_svn: bytes) -> Module:
    """Return what the TCB info says of TDX modules of this major version."""
    version = tee_tcb_svn[_MODULE_VERSION]
    if version == 0 and info.module is not None:
        return info.module
    for module in info.modules:
        if module.version == version:
            return module
    raise EvidenceError(
        TdxCode.MODULE_UNKNOWN,
        TdxCode.MODULE_UNKNOWN.meaning,
        expected=[f"TDX_{module.version:02X}" for module in info.modules],
        found=f"TDX_{version:02X}",
        remedy="fetch newer collateral; if that does not know the module either, do not use the platform",
    )


def _check_module(info: TcbInfo, report: TdReport) -> None:
    """Hold MRSIGNERSEAM and SEAMATTRIBUTES against the module's identity (QVL 4.1.2.5.12)."""
    module = _module(info, report.tee_tcb_svn)
    attributes = report.seam_attributes.to_bytes(8, "little")
    for code, expected, found in (
        (TdxCode.MODULE_SIGNER, module.mr_signer, report.mr_signer_seam),
        (
            TdxCode.MODULE_ATTRIBUTES,
            _masked(module.attributes, module.attributes_mask),
            _masked(attributes, module.attributes_mask),
        ),
    ):
        if expected != found:
            remedy = "do not use this platform: its TDX module is not the one that Intel rates"
            raise EvidenceError(code, code.meaning, expected=expected.hex(), found=found.hex(), remedy=remedy)


def _merged(levels: tuple[TcbLevel, ...], qe: TcbLevel) -> TcbStatus:
    platform, *components = (level.status for level in (*levels, qe))
    return merge(platform, *components)


def _advisories(*levels: TcbLevel) -> tuple[str, ...]:
    return tuple(dict.fromkeys(advisory for level in levels for advisory in level.advisories))


def _date(*levels: TcbLevel) -> int:
    return min(level.date for level in levels)


def _mismatch(code: EvidenceCode, expected: bytes, found: bytes) -> EvidenceError:
    remedy = "use the collateral of this platform's family"
    return EvidenceError(code, code.meaning, expected=expected.hex(), found=found.hex(), remedy=remedy)


def _masked(value: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(value, "big") & int.from_bytes(mask, "big")).to_bytes(len(mask), "big")
