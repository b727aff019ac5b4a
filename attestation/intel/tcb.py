"""TCB info and QE identity: signed JSON that says which security versions are good.

Source: Intel SGX and TDX Provisioning Certification Service API, version 4, "Get SGX TCB Info" (with its section on
how the TCB status of a platform is determined) and "Get SGX QE Identity"; the merging of both statuses follows the
function convergeTcbStatusWithQeTcbStatus of Intel's Quote Verification Library.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from attestation import strict_json
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.abi import ReportBody
from attestation.intel.pck import COMPONENTS, PckExtension
from attestation.validity import Validity, parse_rfc3339
from manifests import fields
from manifests.errors import ManifestError

T = TypeVar("T")

MAX_JSON = 1024 * 1024
"""TCB info takes 5 to 20 KiB."""
MAX_LEVELS = 1024
MAX_ADVISORIES = 1024

_TCB_INFO = ("SGX", 3)
_QE_IDENTITY = ("QE", 2)
_SGX_TCB_TYPE = 0


class TcbStatus(StrEnum):
    """How a platform's security versions stand, in Intel's words."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


_QE_STATUSES = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})

_WITH_OLD_QE = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}


@dataclass(frozen=True)
class TcbLevel:
    """One level: the least SVNs that reach it, and what reaching it means.

    minimum: the 16 component SVNs followed by PCESVN, or the one ISVSVN of a quoting enclave.  date: Unix seconds;
    every advisory published before it has been dealt with by this level, up to those in `advisories`.
    """

    minimum: tuple[int, ...]
    status: TcbStatus
    date: int
    advisories: tuple[str, ...]

    def reached(self, found: tuple[int, ...]) -> bool:
        """Tell whether every security version reaches this level's."""
        return all(have >= need for have, need in zip(found, self.minimum, strict=True))


@dataclass(frozen=True)
class TcbInfo:
    """TCB info of one platform family.  fmspc: 6 bytes; pce_id: 2 bytes; levels from newest to oldest."""

    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    levels: tuple[TcbLevel, ...]
    validity: Validity


@dataclass(frozen=True)
class QeIdentity:
    """How Intel's quoting enclave looks.  Values and masks are bytes as they stand in a report."""

    mr_signer: bytes
    isv_prod_id: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    evaluation_number: int
    levels: tuple[TcbLevel, ...]
    validity: Validity


def parse_tcb_info(body: bytes) -> TcbInfo:
    """Decode TCB info of version 3, whose signature has been verified.

    Raises EvidenceError `json-malformed`, `tcb-info-malformed` or `tcb-info-unsupported`.
    """
    return _guarded(EvidenceCode.TCB_INFO_MALFORMED, lambda: _tcb_info(_load(body)))


def parse_qe_identity(body: bytes) -> QeIdentity:
    """Decode the identity of the SGX quoting enclave, version 2, whose signature has been verified.

    Raises EvidenceError `json-malformed`, `qe-identity-malformed` or `qe-identity-unsupported`.
    """
    return _guarded(EvidenceCode.QE_IDENTITY_MALFORMED, lambda: _qe_identity(_load(body)))


def match_platform(info: TcbInfo, pck: PckExtension) -> TcbLevel:
    """Return the first level that the platform reaches; raises EvidenceError.

    FMSPC and PCE id must be the certificate's own (`tcb-info-fmspc`, `tcb-info-pce`); below every level is
    `tcb-no-match`, a revoked one `tcb-revoked`.
    """
    if info.fmspc != pck.fmspc:
        raise _mismatch(EvidenceCode.TCB_INFO_FMSPC, pck.fmspc, info.fmspc)
    if info.pce_id != pck.pce_id:
        raise _mismatch(EvidenceCode.TCB_INFO_PCE, pck.pce_id, info.pce_id)
    return _first_reached(info.levels, (*pck.components, pck.pce_svn), EvidenceCode.TCB_NO_MATCH)


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
    return _first_reached(identity.levels, (report.isv_svn,), EvidenceCode.QE_TCB_NO_MATCH)


def merge(platform: TcbStatus, quoting_enclave: TcbStatus) -> TcbStatus:
    """Return the status of both together; neither is Revoked, which is refused before."""
    if quoting_enclave is TcbStatus.OUT_OF_DATE:
        return _WITH_OLD_QE.get(platform, platform)
    return platform


def _first_reached(levels: tuple[TcbLevel, ...], found: tuple[int, ...], none: EvidenceCode) -> TcbLevel:
    for level in levels:
        if level.reached(found):
            if level.status is TcbStatus.REVOKED:
                raise EvidenceError(
                    EvidenceCode.TCB_REVOKED,
                    EvidenceCode.TCB_REVOKED.meaning,
                    found=found,
                    remedy="update the platform's firmware; no policy accepts a revoked level",
                )
            return level
    raise EvidenceError(none, none.meaning, expected=levels[-1].minimum if levels else None, found=found)


def _mismatch(code: EvidenceCode, expected: bytes, found: bytes) -> EvidenceError:
    remedy = "use the collateral of this platform's family"
    return EvidenceError(code, code.meaning, expected=expected.hex(), found=found.hex(), remedy=remedy)


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(v & m for v, m in zip(value, mask, strict=True))


# ------------------------------------------------------------------------------------------------ decoding


def _guarded(code: EvidenceCode, decode: Callable[[], T]) -> T:
    """Run a decoder, turning what the field readers raise into `code`."""
    try:
        return decode()
    except ManifestError as error:
        raise EvidenceError(code, error.message, expected=error.expected, found=error.found) from None
    except (KeyError, ValueError) as error:
        what = f"field {error} is missing" if isinstance(error, KeyError) else "a field has a wrong form"
        raise EvidenceError(code, f"{code.meaning}: {what}") from None


def _load(body: bytes) -> dict[str, Any]:
    """Unknown fields are allowed: the vendor adds some without a new version, and the signature covers them."""
    return fields.of_type(strict_json.loads(body.decode("utf-8"), max_size=MAX_JSON), "document", dict)


def _tcb_info(value: dict[str, Any]) -> TcbInfo:
    _check_kind(value, _TCB_INFO, EvidenceCode.TCB_INFO_UNSUPPORTED)
    fields.number(value["tcbType"], "tcbType", _SGX_TCB_TYPE, _SGX_TCB_TYPE)
    return TcbInfo(
        fmspc=_hex(value["fmspc"], 6),
        pce_id=_hex(value["pceId"], 2),
        evaluation_number=fields.number(value["tcbEvaluationDataNumber"], "tcbEvaluationDataNumber", 0),
        levels=_levels(value["tcbLevels"], _platform_minimum, frozenset(TcbStatus)),
        validity=_validity(value, "TCB info", EvidenceCode.TCB_INFO_EARLY, EvidenceCode.TCB_INFO_EXPIRED),
    )


def _qe_identity(value: dict[str, Any]) -> QeIdentity:
    _check_kind(value, _QE_IDENTITY, EvidenceCode.QE_IDENTITY_UNSUPPORTED)
    return QeIdentity(
        mr_signer=_hex(value["mrsigner"], 32),
        isv_prod_id=fields.number(value["isvprodid"], "isvprodid", 0, 65535),
        misc_select=_hex(value["miscselect"], 4),
        misc_select_mask=_hex(value["miscselectMask"], 4),
        attributes=_hex(value["attributes"], 16),
        attributes_mask=_hex(value["attributesMask"], 16),
        evaluation_number=fields.number(value["tcbEvaluationDataNumber"], "tcbEvaluationDataNumber", 0),
        levels=_levels(value["tcbLevels"], _enclave_minimum, _QE_STATUSES),
        validity=_validity(value, "QE identity", EvidenceCode.QE_IDENTITY_EARLY, EvidenceCode.QE_IDENTITY_EXPIRED),
    )


def _check_kind(value: dict[str, Any], expected: tuple[str, int], code: EvidenceCode) -> None:
    found = (value["id"], value["version"])
    if found != expected:
        raise EvidenceError(code, code.meaning, expected=expected, found=found)


def _validity(value: dict[str, Any], what: str, early: EvidenceCode, late: EvidenceCode) -> Validity:
    """Return the document's dates.  Intel's library still takes it in the second of its nextUpdate."""
    start = parse_rfc3339(fields.of_type(value["issueDate"], "issueDate", str))
    end = parse_rfc3339(fields.of_type(value["nextUpdate"], "nextUpdate", str))
    return Validity(what, start, end + 1, early, late)


def _levels(
    value: object, minimum: Callable[[dict[str, Any]], tuple[int, ...]], statuses: frozenset[TcbStatus]
) -> tuple[TcbLevel, ...]:
    items = [fields.of_type(item, "tcbLevels", dict) for item in fields.list_of(value, "tcbLevels", MAX_LEVELS)]
    return tuple(_level(item, minimum(fields.of_type(item["tcb"], "tcb", dict)), statuses) for item in items)


def _level(item: dict[str, Any], minimum: tuple[int, ...], statuses: frozenset[TcbStatus]) -> TcbLevel:
    status = fields.member(TcbStatus, item["tcbStatus"], "tcbStatus")
    if status not in statuses:
        raise ValueError("this document has no such status")
    advisories = fields.list_of(item.get("advisoryIDs", []), "advisoryIDs", MAX_ADVISORIES)
    return TcbLevel(
        minimum=minimum,
        status=status,
        date=parse_rfc3339(fields.of_type(item["tcbDate"], "tcbDate", str)),
        advisories=tuple(fields.text(advisory, "advisoryIDs", 64) for advisory in advisories),
    )


def _platform_minimum(tcb: dict[str, Any]) -> tuple[int, ...]:
    components = fields.list_of(tcb["sgxtcbcomponents"], "sgxtcbcomponents", COMPONENTS)
    if len(components) != COMPONENTS:
        raise ValueError("there are 16 components")
    svns = [fields.number(fields.of_type(item, "component", dict)["svn"], "svn", 0, 255) for item in components]
    return (*svns, fields.number(tcb["pcesvn"], "pcesvn", 0, 65535))


def _enclave_minimum(tcb: dict[str, Any]) -> tuple[int, ...]:
    return (fields.number(tcb["isvsvn"], "isvsvn", 0, 65535),)


def _hex(value: object, size: int) -> bytes:
    text = fields.of_type(value, "hex string", str)
    if re.fullmatch(r"[0-9a-fA-F]*", text) is None or len(text) != 2 * size:
        raise ValueError("not a hex string of its length")
    return bytes.fromhex(text)
