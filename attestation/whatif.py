"""What would change a verdict: other presets, or the least changes of a policy.  Every answer is a real appraisal.

A change only says what it takes for a check to pass.  Whether it should pass is for whoever writes the policy: what
opens the enclave to anybody is marked as dangerous.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attestation import genuine
from attestation.amd.verified import SnpVerified
from attestation.appraise import appraise
from attestation.change import Change, Floors, applied
from attestation.errors import FindingCode, SessionFinding
from attestation.findings import Finding, Phase, Severity
from attestation.policy import EvidencePolicy, Policy, SgxPolicy, TdxPolicy
from attestation.policy.presets import PRESETS
from attestation.policy.snp import SnpPolicy
from attestation.report import Report
from attestation.verified import Verified
from attestation.whatif_snp import snp_changes

PRESET_NAMES: Final = ("strict", "production")
"""The presets for hardware; that for simulation says nothing about anything else."""


@dataclass(frozen=True)
class Preset:
    """What a preset's terms make of the evidence.  refused: codes of the checks that it would fail."""

    name: str
    refused: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        return {"preset": self.name, "passes": not self.refused, "refused": list(self.refused)}


@dataclass(frozen=True)
class Changes:
    """The changes under which a refusal becomes a pass.  remaining: codes that no change of the policy helps."""

    changes: tuple[Change, ...]
    remaining: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        return {
            "passes": not self.remaining,
            "changes": [change.to_dict() for change in self.changes],
            "remaining": list(self.remaining),
        }


def under_presets(report: Report) -> tuple[Preset, ...]:
    """Appraise the evidence under the terms of each preset for hardware, with the policy's tables where there is one.

    Empty for what is not genuine, and for simulated platforms, which such a preset never accepts.
    """
    if report.verified is None or not report.genuine or report.verified.simulated:
        return ()
    return tuple(_under(report.verified, report, name) for name in PRESET_NAMES)


def _under(verified: Verified, report: Report, name: str) -> Preset:
    terms: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in PRESETS[name].evidence.items()
    }
    if report.policy is None:
        evidence = EvidencePolicy(**terms)
        found = genuine.judge(verified, report.now, report_data=report.report_data, evidence=evidence)
        found += _of_devices(report, None, evidence)
    else:
        policy = dataclasses.replace(report.policy, evidence=dataclasses.replace(report.policy.evidence, **terms))
        found = appraise(verified, policy, report.now, report_data=report.report_data).findings
        found += _of_devices(report, policy)
    return Preset(name, _refused(found))


def least_changes(report: Report) -> Changes | None:
    """Find the changes that make the policy accept; None where it does, or is not the reason.

    Each change is tried, and only what helps its check is kept.
    """
    if report.policy is None or report.verified is None or not report.genuine or report.accepted:
        return None
    policy, kept = report.policy, []
    for change in dict.fromkeys(_proposed(report.refused, report.verified, policy)):
        changed = applied(policy, change)
        if changed is not None:
            policy = changed
            kept.append(change)
    found = appraise(report.verified, policy, report.now, report_data=report.report_data).findings
    remaining = _refused((*found, *_of_devices(report, policy)))
    return Changes(tuple(change for change in kept if change.code not in remaining), remaining)


def _of_devices(
    report: Report, policy: Policy | None, evidence: EvidencePolicy = genuine.EVIDENCE
) -> tuple[Finding, ...]:
    """Judge the devices beside a processor anew; what no policy changes is as the report has it."""
    fixed = tuple(
        each for each in report.findings if isinstance(each.code, SessionFinding) or each.phase is Phase.VERIFY
    )
    if report.devices is None:
        return fixed
    asked = None if report.session is None else report.session.asked
    if policy is None:
        return fixed + genuine.judge(report.devices, report.now, report_data=asked, evidence=evidence)
    return fixed + appraise(report.devices, policy, report.now, report_data=asked, beside=True).findings


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

_FLAGS: Final[Mapping[str, tuple[str, bool]]] = {
    "sgx-debug": ("debug", True),
    "sgx-provision-key": ("provision_key", True),
    "sgx-einittoken-key": ("einittoken_key", True),
    "tdx-debug": ("debug", True),
    "tdx-sept-ve": ("sept_ve", True),
    "tdx-migratable": ("migratable", True),
    "snp-debug": ("debug", True),
    "snp-migration": ("migration_agent", True),
    "snp-revocation": ("dangerous_crl_absent", True),
    "snp-provisional": ("provisional_firmware", False),
    "nitro-debug": ("debug", True),
    "tpm-clock": ("unsafe_clock", False),
    "azure-secure-boot": ("insecure_boot", True),
    "azure-console": ("console", True),
    "nvidia-fwid": ("fwid_absent", False),
}
"""Checks that one flag switches off, and whether that is dangerous."""


def _proposed(refused: tuple[Finding, ...], verified: Verified, policy: Policy) -> Iterator[Change]:
    """Yield a change for each refused check that some field of its table decides."""
    for finding in refused:
        yield from _for_evidence(finding)
        for part in verified.parts:
            yield from _for_table(finding, part.tee)
            yield from _for_part(str(finding.code), part, policy)


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
        field, dangerous = _FLAGS[code]
        yield Change(code, tee, field, value=True, text=f"[{tee}] {field} = true", dangerous=dangerous)
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
