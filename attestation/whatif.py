"""What would change a verdict: other presets, or the least changes of a policy.

Every answer is a real appraisal under a policy that loads; where there is none, the answer is why it does not load.

A change only says what it takes for a check to pass.  Whether it should pass is for whoever writes the policy: what
the policy's own tables declare as dangerous is marked.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attestation.amd.verified import SnpVerified
from attestation.appraise import appraise
from attestation.changes import Change, Excluded, Floors, reason, widest, with_all
from attestation.drafts import draft
from attestation.errors import FindingCode, SessionFinding
from attestation.findings import Finding, Phase, Severity
from attestation.policy import TEE_TABLES, Policy, SgxPolicy, TdxPolicy, load_policy
from attestation.policy.snp import SnpPolicy
from attestation.report import Report
from attestation.verified import Verified
from attestation.whatif_snp import snp_changes
from manifests.errors import StrongroomError

PRESET_NAMES: Final = ("strict", "production")
"""The presets for hardware; that for simulation says nothing about anything else."""


@dataclass(frozen=True)
class Preset:
    """What a policy under a preset makes of the evidence.

    refused: codes of the checks that fail.  excluded: why the policy does not load under the preset; None: it does.
    """

    name: str
    refused: tuple[str, ...]
    excluded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        passes = not self.refused and self.excluded is None
        return {"preset": self.name, "passes": passes, "refused": list(self.refused), "excluded": self.excluded}


@dataclass(frozen=True)
class Changes:
    """The changes under which a refusal becomes a pass.

    remaining: codes that no change of the policy helps.  excluded: changes for some of these that the policy cannot
    have, such as those that its preset rules out.
    """

    changes: tuple[Change, ...]
    remaining: tuple[str, ...]
    excluded: tuple[Excluded, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        return {
            "passes": not self.remaining,
            "changes": [change.to_dict() for change in self.changes],
            "remaining": list(self.remaining),
            "excluded": [each.to_dict() for each in self.excluded],
        }


def under_presets(report: Report) -> tuple[Preset, ...]:
    """Appraise the evidence under the policy with each preset for hardware; without a policy, under one that names it.

    Empty for what is not genuine, and for simulated platforms, which such a preset never accepts.
    """
    if report.verified is None or not report.genuine or report.verified.simulated:
        return ()
    return tuple(_under(report, report.verified, name) for name in PRESET_NAMES)


def _under(report: Report, verified: Verified, name: str) -> Preset:
    """Load the policy under another preset, and appraise; without a policy, one that names what the evidence shows."""
    try:
        policy = load_policy(draft(_parts(report), name) if report.policy is None else report.policy.written(name))
    except StrongroomError as error:
        return Preset(name, (), reason(error))
    return Preset(name, _refused(_judged(report, verified, policy)))


def least_changes(report: Report) -> Changes | None:
    """Find the changes that make the policy accept; None where it does, or is not the reason.

    Each change is tried: the policy has to load with it, under its own preset, and only what helps its check is kept.
    """
    if report.policy is None or report.verified is None or not report.genuine or report.accepted:
        return None
    changes = tuple(widest(_proposed(report.refused, report.policy, *_parts(report))))
    tried = with_all(report.policy, changes)
    excluded, remaining = tried.excluded, _refused(_judged(report, report.verified, tried.policy))
    while any(change.code in remaining for change in tried.made):
        tried = with_all(report.policy, tuple(change for change in tried.made if change.code not in remaining))
        excluded, remaining = excluded + tried.excluded, _refused(_judged(report, report.verified, tried.policy))
    return Changes(tried.made, remaining, tuple(each for each in excluded if each.change.code in remaining))


def _parts(report: Report) -> tuple[Verified, ...]:
    """Return everything that was appraised, with the devices beside a processor."""
    return tuple(part for each in (report.verified, report.devices) if each is not None for part in each.parts)


def _judged(report: Report, verified: Verified, policy: Policy) -> tuple[Finding, ...]:
    """Judge all evidence anew under a policy; what no policy changes is as the report has it."""
    fixed = tuple(
        each for each in report.findings if isinstance(each.code, SessionFinding) or each.phase is Phase.VERIFY
    )
    found = appraise(verified, policy, report.now, report_data=report.report_data).findings
    if report.devices is None:
        return (*found, *fixed)
    asked = None if report.session is None else report.session.asked
    return (*found, *fixed, *appraise(report.devices, policy, report.now, report_data=asked, beside=True).findings)


def _refused(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    refused = (str(finding.code) for finding in findings if finding.severity is Severity.REFUSAL)
    return tuple(dict.fromkeys(refused))


# ------------------------------------------------------------------------------------------------ proposals

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
    "sgx-config-svn": "config_svn",
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

_FLAGS: Final[Mapping[str, str]] = {
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


def _proposed(refused: tuple[Finding, ...], policy: Policy, *wholes: Verified) -> Iterator[Change]:
    """Yield a change for each refused check that some field of its table decides."""
    parts = tuple(part for whole in wholes for part in whole.parts)
    tables = dict.fromkeys(part.tee for part in parts)
    for finding in refused:
        yield from _for_evidence(finding)
        for tee in tables:
            yield from (change for change in _for_table(finding, tee) if _has(tee, change.field))
        for part in parts:
            yield from _for_part(str(finding.code), part, policy)


def _has(tee: str, field: str) -> bool:
    """Tell whether a TEE's table has a field: a check that several TEEs share is decided by the tables of some."""
    return any(item.name == field for item in dataclasses.fields(TEE_TABLES[tee]))


def _for_part(code: str, part: Verified, policy: Policy) -> Iterator[Change]:
    """Yield the changes that follow from the verified evidence, not from what its check shows."""
    table = policy.table(part.tee)
    if isinstance(part, SnpVerified) and isinstance(table, SnpPolicy):
        yield from snp_changes(code, part, table)
    elif code == FindingCode.TCB_COMPONENTS and isinstance(table, SgxPolicy | TdxPolicy):
        found = part.tcb_components
        lower = {name: found[name] for name, least in table.tcb_components_min if found[name] < least}
        written = ", ".join(f"{name} = {version}" for name, version in lower.items())
        value = Floors(tuple(lower.items()))
        yield Change(code, part.tee, "tcb_components_min", value, f"[{part.tee}.tcb_components_min] {written}")


def _for_table(finding: Finding, tee: str) -> Iterator[Change]:
    """Yield the change of the TEE's own table for one of its checks."""
    code, found = str(finding.code), finding.found
    if not code.startswith((f"{tee}-", "platform-", "qe-", "azure-")):
        return
    if code in _FLAGS:
        field = _FLAGS[code]
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


def _for_evidence(finding: Finding) -> Iterator[Change]:
    """Yield the change of [evidence] for a check that holds for every TEE."""
    maker = _EVIDENCE.get(str(finding.code))
    if maker is not None:
        field, value, text = maker(finding.found)
        yield Change(str(finding.code), "evidence", field, value, f"[evidence] {text}")


_Made = tuple[str, Any, str]


def _status(found: str) -> _Made:
    return "tcb_status", (found,), f'tcb_status: add "{found}"'


def _advisories(found: str) -> _Made:
    return "advisories_accepted", tuple(found.split(", ")), f"advisories_accepted: add {found}"


def _age(field: str) -> Callable[[str], _Made]:
    """Admit an age as it was found, such as "86400 s"."""
    return lambda found: (field, int(found.partition(" ")[0]), f"{field} = {found.partition(' ')[0]}")


def _evaluation(found: str) -> _Made:
    return "tcb_evaluation_min", int(found), f"tcb_evaluation_min = {found}"


def _date(found: str) -> _Made:
    return "tcb_date_min", found, f'tcb_date_min = "{found}"'


_EVIDENCE: Final[Mapping[str, Callable[[str], _Made]]] = {
    "tcb-status": _status,
    "tcb-advisories": _advisories,
    "tcb-evaluation": _evaluation,
    "tcb-date": _date,
    "collateral-age": _age("max_collateral_age"),
    "hardware-feed-age": _age("broken_hardware_max_age"),
}
