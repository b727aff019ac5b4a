"""TCB info and QE identity: signed JSON that says which security versions are good.

Source: Intel SGX and TDX Provisioning Certification Service API, version 4: "Get SGX TCB Info", "Get TDX TCB Info",
"Get SGX QE Identity", "Get TDX QE Identity".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from attestation import strict_json
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel.levels import COMPONENT_STATUSES, PLATFORM_STATUSES, TcbLevel, TcbStatus
from attestation.intel.pck import COMPONENTS
from attestation.validity import Validity, parse_rfc3339
from manifests import fields
from manifests.errors import ManifestError

T = TypeVar("T")

MAX_JSON = 1024 * 1024
"""TCB info takes 5 to 20 KiB."""
MAX_LEVELS = 1024
MAX_ADVISORIES = 1024
MAX_MODULES = 256

_TCB_INFO = {"sgx": ("SGX", 3), "tdx": ("TDX", 3)}
_QE_IDENTITY = {"sgx": ("QE", 2), "tdx": ("TD_QE", 2)}
"""By TEE, the id and version of its document."""
_STATUSES = {str(status): status for status in TcbStatus}
_TCB_TYPE = 0
"""The only order of components that is defined."""


@dataclass(frozen=True)
class Module:
    """How a TDX module looks.  mr_signer: 48 bytes; attributes and mask: 8 bytes as they stand in a report."""

    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes


@dataclass(frozen=True)
class ModuleIdentity(Module):
    """A TDX module of one major version (1 to 255), with TCB levels of its own."""

    version: int
    levels: tuple[TcbLevel, ...]


@dataclass(frozen=True)
class TcbInfo:
    """TCB info of one platform family.  fmspc: 6 bytes; pce_id: 2 bytes; levels from newest to oldest.

    module: of TDX, what holds for modules of major version 0; modules: the identities of the later ones.
    """

    tee: str
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    levels: tuple[TcbLevel, ...]
    validity: Validity
    module: Module | None = None
    modules: tuple[ModuleIdentity, ...] = ()


@dataclass(frozen=True)
class QeIdentity:
    """How Intel's quoting enclave looks.  Values and masks are bytes as they stand in a report."""

    tee: str
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
    """Decode TCB info of SGX or TDX, version 3, whose signature has been verified.

    Raises EvidenceError `json-malformed`, `tcb-info-malformed` or `tcb-info-unsupported`.
    """
    return _guarded(EvidenceCode.TCB_INFO_MALFORMED, lambda: _tcb_info(_load(body)))


def parse_qe_identity(body: bytes) -> QeIdentity:
    """Decode the identity of the quoting enclave of SGX or TDX, version 2, whose signature has been verified.

    Raises EvidenceError `json-malformed`, `qe-identity-malformed` or `qe-identity-unsupported`.
    """
    return _guarded(EvidenceCode.QE_IDENTITY_MALFORMED, lambda: _qe_identity(_load(body)))


def _guarded(code: EvidenceCode, decode: Callable[[], T]) -> T:
    """Run a decoder, turning what the field readers raise into `code`."""
    try:
        return decode()
    except ManifestError as error:
        raise EvidenceError(code, error.message, expected=error.expected, found=error.found) from None
    except (KeyError, TypeError, ValueError) as error:  # TypeError: a field of something that is no map
        what = f"field {error} is missing" if isinstance(error, KeyError) else "a field has a wrong form"
        raise EvidenceError(code, f"{code.meaning}: {what}") from None


def _load(body: bytes) -> dict[str, Any]:
    """Unknown fields are allowed: the vendor adds some without a new version, and the signature covers them."""
    return fields.of_type(strict_json.loads(body.decode("utf-8"), max_size=MAX_JSON), "document", dict)


def _tcb_info(value: dict[str, Any]) -> TcbInfo:
    tee = _kind(value, _TCB_INFO, EvidenceCode.TCB_INFO_UNSUPPORTED)
    fields.number(value["tcbType"], "tcbType", _TCB_TYPE, _TCB_TYPE)
    is_tdx = tee == "tdx"
    minimum = _td_platform_minimum if is_tdx else _platform_minimum
    return TcbInfo(
        tee=tee,
        fmspc=_hex(value["fmspc"], 6),
        pce_id=_hex(value["pceId"], 2),
        evaluation_number=fields.number(value["tcbEvaluationDataNumber"], "tcbEvaluationDataNumber", 0),
        levels=_levels(value["tcbLevels"], minimum, PLATFORM_STATUSES),
        validity=_validity(value, "TCB info", EvidenceCode.TCB_INFO_EARLY, EvidenceCode.TCB_INFO_EXPIRED),
        module=Module(**_module(_map(value["tdxModule"], "tdxModule"))) if is_tdx else None,
        modules=_modules(value.get("tdxModuleIdentities", [])) if is_tdx else (),
    )


def _qe_identity(value: dict[str, Any]) -> QeIdentity:
    return QeIdentity(
        tee=_kind(value, _QE_IDENTITY, EvidenceCode.QE_IDENTITY_UNSUPPORTED),
        mr_signer=_hex(value["mrsigner"], 32),
        isv_prod_id=fields.number(value["isvprodid"], "isvprodid", 0, 65535),
        misc_select=_hex(value["miscselect"], 4),
        misc_select_mask=_hex(value["miscselectMask"], 4),
        attributes=_hex(value["attributes"], 16),
        attributes_mask=_hex(value["attributesMask"], 16),
        evaluation_number=fields.number(value["tcbEvaluationDataNumber"], "tcbEvaluationDataNumber", 0),
        levels=_levels(value["tcbLevels"], _one_minimum, COMPONENT_STATUSES),
        validity=_validity(value, "QE identity", EvidenceCode.QE_IDENTITY_EARLY, EvidenceCode.QE_IDENTITY_EXPIRED),
    )


def _kind(value: dict[str, Any], kinds: Mapping[str, tuple[str, int]], code: EvidenceCode) -> str:
    """Return the TEE whose document this is."""
    found = (value["id"], value["version"])
    for tee, kind in kinds.items():
        if found == kind:
            return tee
    raise EvidenceError(code, code.meaning, expected=tuple(kinds.values()), found=found)


def _validity(value: dict[str, Any], what: str, early: EvidenceCode, late: EvidenceCode) -> Validity:
    """Return the document's dates.  Intel's library still takes it in the second of its nextUpdate."""
    start = parse_rfc3339(fields.of_type(value["issueDate"], "issueDate", str))
    end = parse_rfc3339(fields.of_type(value["nextUpdate"], "nextUpdate", str))
    return Validity(what, start, end + 1, early, late)


def _module(value: dict[str, Any]) -> dict[str, bytes]:
    return {
        "mr_signer": _hex(value["mrsigner"], 48),
        "attributes": _hex(value["attributes"], 8),
        "attributes_mask": _hex(value["attributesMask"], 8),
    }


def _modules(value: object) -> tuple[ModuleIdentity, ...]:
    items = [_map(item, "identity") for item in fields.list_of(value, "tdxModuleIdentities", MAX_MODULES)]
    found = tuple(_module_identity(item) for item in items)
    if len({item.version for item in found}) != len(found):
        raise ValueError("two identities of one version")
    return found


def _module_identity(value: dict[str, Any]) -> ModuleIdentity:
    """Decode one identity; its id is "TDX_" and the major version in two hex digits."""
    named = re.fullmatch(r"TDX_([0-9A-Fa-f]{2})", fields.of_type(value["id"], "id", str))
    if named is None:
        raise ValueError("not the id of a TDX module")
    levels = _levels(value["tcbLevels"], _one_minimum, COMPONENT_STATUSES)
    return ModuleIdentity(version=int(named[1], 16), levels=levels, **_module(value))


def _levels(
    value: object, minimum: Callable[[dict[str, Any]], tuple[int, ...]], statuses: frozenset[TcbStatus]
) -> tuple[TcbLevel, ...]:
    return tuple([_level(item, minimum, statuses) for item in fields.list_of(value, "tcbLevels", MAX_LEVELS)])


def _level(
    item: dict[str, Any], minimum: Callable[[dict[str, Any]], tuple[int, ...]], statuses: frozenset[TcbStatus]
) -> TcbLevel:
    status = _STATUSES.get(item["tcbStatus"])
    if status is None or status not in statuses:
        raise ValueError("this document has no such status")
    return TcbLevel(minimum(item["tcb"]), status, parse_rfc3339(item["tcbDate"]), _advisories(item))


def _advisories(item: dict[str, Any]) -> tuple[str, ...]:
    if "advisoryIDs" not in item:
        return ()
    found = fields.list_of(item["advisoryIDs"], "advisoryIDs", MAX_ADVISORIES)
    return tuple([fields.text(advisory, "advisoryIDs", 64) for advisory in found])


def _platform_minimum(tcb: dict[str, Any]) -> tuple[int, ...]:
    return (*_components(tcb["sgxtcbcomponents"]), fields.number(tcb["pcesvn"], "pcesvn", 0, 65535))


def _td_platform_minimum(tcb: dict[str, Any]) -> tuple[int, ...]:
    return (*_platform_minimum(tcb), *_components(tcb["tdxtcbcomponents"]))


def _components(components: list[dict[str, Any]]) -> bytes:
    """Return the 16 SVNs of one byte each."""
    svns = [component["svn"] for component in components]
    if len(svns) != COMPONENTS or {*map(type, svns)} != {int}:
        raise ValueError("there are 16 components, and their SVNs are numbers")
    return bytes(svns)  # ValueError for one that is not between 0 and 255


def _one_minimum(tcb: dict[str, Any]) -> tuple[int, ...]:
    return (fields.number(tcb["isvsvn"], "isvsvn", 0, 65535),)


def _map(value: object, name: str) -> dict[str, Any]:
    return fields.of_type(value, name, dict)


def _hex(value: object, size: int) -> bytes:
    text = fields.of_type(value, "hex string", str)
    data = bytes.fromhex(text) if len(text) == 2 * size else b""  # which skips white space, and is then too short
    if len(data) != size:
        raise ValueError("not a hex string of its length")
    return data
