"""Which change of a policy lets a refused check pass: by code, the field that decides, or why none is proposed.

`attestation.whatif` tries each.  What only the verified evidence tells is made in `attestation.whatif_parts` and
`attestation.whatif_snp`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attestation.amd.verified import SnpVerified
from attestation.changes import Change, Without
from attestation.errors import FindingCode, SessionFinding
from attestation.eventlog.errors import EventLogFinding
from attestation.findings import Finding
from attestation.intel.errors import TdxFinding
from attestation.nvidia.errors import NvidiaFinding
from attestation.platforms import denied_by
from attestation.policy import TEE_TABLES, EvidencePolicy, Policy
from attestation.policy.snp import SnpPolicy
from attestation.policy.tables import ANY
from attestation.policy.tpm import TpmPolicy
from attestation.verified import Verified
from attestation.whatif_parts import PART_CODES, part_changes, quoted
from attestation.whatif_snp import SNP_CODES, snp_changes
from manifests.errors import ErrorCode

_LISTS: Final[Mapping[str, str]] = {
    "sgx-mrenclave": "mrenclave",
    "sgx-mrsigner": "mrsigner",
    "sgx-config-id": "config_id",
    "tdx-mrtd": "mrtd",
    "tdx-rtmr0": "rtmr0",
    "tdx-rtmr1": "rtmr1",
    "tdx-rtmr2": "rtmr2",
    "tdx-rtmr3": "rtmr3",
    "tdx-mrconfigid": "mrconfigid",
    "tdx-mrowner": "mrowner",
    "tdx-mrownerconfig": "mrownerconfig",
    "tdx-mrservicetd": "mrservicetd",
    "tdx-mrseam": "mrseam",
    "snp-measurement": "measurement",
    "snp-host-data": "host_data",
    "snp-family-id": "family_id",
    "snp-image-id": "image_id",
    "snp-id-key": "id_key_digest",
    "snp-report-id": "report_id",
    "snp-chip-id": "chip_id",
    "nvidia-device-serial": "device_serials",
    "nvidia-device-key": "device_keys",
    "nvidia-firmware-id": "fwids",
    "platform-fmspc": "fmspc",
    "platform-ppid": "ppid",
}
"""Checks of a value against a list of hex: the list's field."""

_SINGLE: Final[Mapping[str, str]] = {
    "sgx-isv-ext-prod-id": "isv_ext_prod_id",
    "sgx-isv-family-id": "isv_family_id",
}
"""Checks of a value against one value of hex."""

_NUMBERS: Final[Mapping[str, str]] = {
    "sgx-isv-prod-id": "isv_prod_id",
    "sgx-isv-svn": "isv_svn_min",
    "snp-guest-svn": "guest_svn_min",
    "snp-vmpl": "vmpl_max",
    "snp-report-version": "report_version_min",
    "qe-isv-svn": "qe_isv_svn_min",
}
"""Checks of a number against a floor, a ceiling, or one number."""

_MASKS: Final[Mapping[str, str]] = {
    "sgx-xfrm": "xfrm_allowed",
    "sgx-miscselect": "miscselect_allowed",
    "sgx-cet-attributes": "cet_attributes_allowed",
    "tdx-xfam": "xfam_allowed",
    "snp-platform-info": "platform_info_allowed",
}
"""Checks of bits against those that may be set."""

_VALUES: Final = {**_LISTS, **_SINGLE, **_NUMBERS, **_MASKS}
"""The field for every check of a value."""

_NAMED: Final[Mapping[str, tuple[str, str]]] = {
    "snp-smt": ("policy_allowed", "SMT"),
    "snp-cxl": ("policy_allowed", "CXL_ALLOW"),
}
"""Checks that one word in a list permits."""

_REGISTERS: Final[Mapping[str, re.Pattern[str]]] = {
    "nitro-pcr": re.compile(r".* -> pcr(?P<register>[0-9]+): (?P<value>[0-9a-f]{96})$", re.DOTALL),
    "tpm-pcr": re.compile(r"PCR (?P<register>[0-9]+) \((?P<bank>\w+)\) .* -> (?P<value>(?:[0-9a-f]{2})+)$", re.DOTALL),
}
"""Checks of a register, whose number is part of what was expected and found."""

_PCR: Final = re.compile(r"PCR (?P<register>[0-9]+) \(")
"""How a given log's check of a PCR begins to say what it expected; one of an RTMR has no field."""

FLAGS: Final[Mapping[str, str]] = {
    "sgx-debug": "debug",
    "sgx-provision-key": "provision_key",
    "sgx-einittoken-key": "einittoken_key",
    "tdx-debug": "debug",
    "tdx-sept-ve": "sept_ve",
    "tdx-migratable": "migratable",
    "snp-debug": "debug",
    "snp-migration": "migration_agent",
    "snp-revocation": "dangerous_crl_absent",
    "snp-provisional": "provisional_firmware",
    "nitro-debug": "debug",
    "tpm-clock": "unsafe_clock",
    "azure-secure-boot": "insecure_boot",
    "azure-console": "console",
    "nvidia-fwid": "fwid_absent",
}
"""Checks that one flag switches off."""


def proposed(refused: tuple[Finding, ...], policy: Policy, *wholes: Verified) -> Iterator[Change]:
    """Yield a change for each refused check that some field of its table decides."""
    parts = tuple(part for whole in wholes for part in whole.parts)
    tables = dict.fromkeys(part.tee for part in parts)
    yield from _for_log(refused, policy)
    for finding in refused:
        yield from _for_evidence(finding, policy.evidence)
        for tee in tables:
            yield from (change for change in _for_table(finding, tee) if _has(tee, change.field))
        for part in parts:
            yield from _for_part(str(finding.code), part, policy)


def _for_log(refused: tuple[Finding, ...], policy: Policy) -> Iterator[Change]:
    """Yield the change that admits the PCRs which a given log does not explain."""
    table = policy.table("tpm")
    found = (_PCR.match(finding.expected) for finding in refused if finding.code is EventLogFinding.REPLAY)
    indices = dict.fromkeys(int(match["register"]) for match in found if match is not None)
    if isinstance(table, TpmPolicy) and indices:
        text = f"[tpm] event_log_partial: add {', '.join(map(str, indices))}"
        yield Change(str(EventLogFinding.REPLAY), "tpm", "event_log_partial", tuple(indices), text)


def _has(tee: str, field: str) -> bool:
    """Tell whether a TEE's table has a field: a check that several TEEs share is decided by the tables of some."""
    return any(item.name == field for item in dataclasses.fields(TEE_TABLES[tee]))


def _for_part(code: str, part: Verified, policy: Policy) -> Iterator[Change]:
    """Yield the changes that follow from the verified evidence, not from what its check shows."""
    table = policy.table(part.tee)
    if code == FindingCode.DENIED:
        yield from _allowed(code, part, policy.evidence)
    elif isinstance(part, SnpVerified) and isinstance(table, SnpPolicy):
        yield from snp_changes(code, part, table)
    elif table is not None:
        yield from part_changes(code, part, table)


def _allowed(code: str, part: Verified, policy: EvidencePolicy) -> Iterator[Change]:
    """Take a machine off the lists that refuse it, or all machines off a list of which it could be any."""
    for name, ids in denied_by(part, policy):
        text = f"[evidence.platforms_denied] {name}: remove {quoted(ids)}"
        yield Change(code, "evidence", "platforms_denied", Without(ids, name), text)


def _for_table(finding: Finding, tee: str) -> Iterator[Change]:
    """Yield the change of the TEE's own table for one of its checks."""
    code, found = str(finding.code), finding.found
    if not code.startswith((f"{tee}-", "platform-", "qe-", "azure-")):
        return
    if code in FLAGS:
        field = FLAGS[code]
        yield Change(code, tee, field, value=True, text=f"[{tee}] {field} = true")
    elif code in _NAMED:
        field, word = _NAMED[code]
        yield Change(code, tee, field, (word,), f'[{tee}] {field}: add "{word}"')
    elif code in _REGISTERS:
        yield from _for_register(finding, tee)
    else:
        yield from _for_value(code, tee, found)


def _for_register(finding: Finding, tee: str) -> Iterator[Change]:
    """Yield the change that names a register's value, as the check says which register it is."""
    match = _REGISTERS[str(finding.code)].match(f"{finding.expected} -> {finding.found}")
    if match is None:
        return
    value: tuple[Any, ...] = (bytes.fromhex(match["value"]),)
    tables = [bank] if (bank := match.groupdict().get("bank")) else []
    register = f"pcr{match['register']}"
    for name in (register, *tables):
        value = ((name, value),)
    text = f'[{".".join((tee, "pcrs", *tables))}] {register}: add "{match["value"]}"'
    yield Change(str(finding.code), tee, "pcrs", value, text)


def _for_value(code: str, tee: str, found: str) -> Iterator[Change]:
    """Yield the change that names what was found, where that is a value of the field's kind."""
    field = _VALUES.get(code, "")
    if code in _NUMBERS and found.isdecimal():
        yield Change(code, tee, field, int(found), f"[{tee}] {field} = {found}")
    elif code in _MASKS and found.startswith("0x"):
        yield Change(code, tee, field, int(found, 16), f"[{tee}] {field}: add the bits of {found}")
    elif code in _LISTS and _is_hex(found):
        yield Change(code, tee, field, (bytes.fromhex(found),), f'[{tee}] {field}: add "{found}"')
    elif code in _SINGLE and _is_hex(found):
        yield Change(code, tee, field, bytes.fromhex(found), f'[{tee}] {field} = "{found}"')


def _is_hex(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except ValueError:
        return False


_Made = tuple[str, Any, str]


def _for_evidence(finding: Finding, policy: EvidencePolicy) -> Iterator[Change]:
    """Yield the change of [evidence] for a check that holds for every TEE."""
    maker = _EVIDENCE.get(str(finding.code))
    if maker is not None:
        field, value, text = maker(finding.found, policy)
        yield Change(str(finding.code), "evidence", field, value, f"[evidence] {text}")


def _status(found: str, _: EvidencePolicy) -> _Made:
    return "tcb_status", (found,), f'tcb_status: add "{found}"'


def _advisories(found: str, policy: EvidencePolicy) -> _Made:
    """Accept the advisories; where all are accepted but some, take these off the exceptions."""
    ids = tuple(found.split(", "))
    if ANY in policy.advisories_accepted:
        return "advisories_refused", Without(ids), f"advisories_refused: remove {found}"
    return "advisories_accepted", ids, f"advisories_accepted: add {found}"


def _age(field: str) -> Callable[[str, EvidencePolicy], _Made]:
    """Admit an age as it was found, such as "86400 s"."""
    return lambda found, _: (field, int(found.partition(" ")[0]), f"{field} = {found.partition(' ')[0]}")


def _evaluation(found: str, _: EvidencePolicy) -> _Made:
    return "tcb_evaluation_min", int(found), f"tcb_evaluation_min = {found}"


def _date(found: str, _: EvidencePolicy) -> _Made:
    return "tcb_date_min", found, f'tcb_date_min = "{found}"'


_EVIDENCE: Final[Mapping[str, Callable[[str, EvidencePolicy], _Made]]] = {
    "tcb-status": _status,
    "tcb-advisories": _advisories,
    "tcb-evaluation": _evaluation,
    "tcb-date": _date,
    "collateral-age": _age("max_collateral_age"),
    "hardware-feed-age": _age("broken_hardware_max_age"),
}

PROPOSED: Final = frozenset(
    {
        str(FindingCode.DENIED),
        *_VALUES,
        *_NAMED,
        *_REGISTERS,
        *FLAGS,
        *_EVIDENCE,
        str(EventLogFinding.REPLAY),
        *map(str, SNP_CODES),
        *map(str, PART_CODES),
    }
)
"""The checks for which a change is made; the others are in NOT_PROPOSED."""

NOT_PROPOSED: Final[Mapping[ErrorCode, str]] = {
    FindingCode.TEE: "which code of another TEE is accepted is a table of its own, and no field",
    FindingCode.BARE: "evidence is to be given whole: a table that is taken out would take its checks with it",
    FindingCode.CLASS: "a policy for hardware never becomes one for simulated platforms, nor the reverse",
    FindingCode.ROOT: "whom to trust is not read off the evidence that is to be trusted",
    FindingCode.COLLATERAL_DATES: "no field waives the dates of certificates and collateral",
    FindingCode.BROKEN: "the list is its signer's word, and no field makes an exception",
    FindingCode.FEED_DATES: "no field waives the dates of the list",
    FindingCode.REPORT_DATA: "what evidence must be bound to is the session's, and not the policy's",
    FindingCode.INIT: "no enclave that is not initialised is accepted",
    FindingCode.MODE64: "no enclave of 32 bits is accepted",
    TdxFinding.MRSIGNERSEAM: "no TDX module of another signer than Intel is accepted",
    TdxFinding.SEAM_ATTRIBUTES: "no TDX module with attributes is accepted",
    NvidiaFinding.RIM_CONFLICT: "manifests that contradict each other are fetched anew, whatever the policy",
    EventLogFinding.REGISTERS: "evidence without registers that the log extends is explained by no log",
    SessionFinding.DEVICES: "which devices an enclave uses is what it says itself",
    SessionFinding.DEVICE_CLASS: "hardware and simulated evidence are never mixed",
}
"""The checks that no change of a policy is proposed for, and why."""
