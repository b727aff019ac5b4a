"""The checks of a TDX appraisal, in the order in which they are reported.

Source of the bits: Intel TDX Module ABI Specification, tables "ATTRIBUTES" and "XFAM".
"""

from __future__ import annotations

from collections.abc import Iterator

from attestation.findings import Finding, Phase, check, named, one_of
from attestation.intel.errors import TdxFinding
from attestation.intel.machine_checks import bit_text, machine_checks, mask_check
from attestation.intel.td_abi import UNDER_DEBUG, TdAttributes, TdReport
from attestation.intel.verified import TdxVerified
from attestation.policy.schema import accepts_danger
from attestation.policy.tdx import TdxPolicy

_BASIC_XFAM = 0x3
"""x87 and SSE are always enabled (XFAM_FIXED1)."""

_JUDGED = UNDER_DEBUG | TdAttributes.SEPT_VE_DISABLE | TdAttributes.MIGRATABLE
"""The attributes that have a check of their own."""

_REMEDIES = {
    TdxFinding.MRTD: "compare the firmware and its configuration with the measured ones; a changed byte changes MRTD",
    TdxFinding.RTMR0: "replay --event-log: RTMR0 is the firmware's configuration, such as ACPI tables and variables",
    TdxFinding.RTMR1: "replay --event-log: RTMR1 is what was booted, such as boot loader and kernel",
    TdxFinding.RTMR2: "replay --event-log: RTMR2 is what the boot loader loaded, such as command line and initrd",
    TdxFinding.RTMR3: "replay --event-log: RTMR3 is what the running system extended",
    TdxFinding.MRCONFIGID: "name the configuration in [tdx] mrconfigid",
    TdxFinding.MROWNER: "name the owner in [tdx] mrowner",
    TdxFinding.MROWNERCONFIG: "name the owner's configuration in [tdx] mrownerconfig",
    TdxFinding.MRSERVICETD: "launch the TD without service TDs, or name their hash in [tdx] mrservicetd",
    TdxFinding.MRSEAM: "use a platform with a TDX module that [tdx] mrseam names",
}

_REGISTERS = (
    (TdxFinding.RTMR0, "rtmr0"),
    (TdxFinding.RTMR1, "rtmr1"),
    (TdxFinding.RTMR2, "rtmr2"),
    (TdxFinding.RTMR3, "rtmr3"),
)
"""Finding, and field of both report and policy."""

_OWNERS = (
    (TdxFinding.MRCONFIGID, "mr_config_id", "mrconfigid"),
    (TdxFinding.MROWNER, "mr_owner", "mrowner"),
    (TdxFinding.MROWNERCONFIG, "mr_owner_config", "mrownerconfig"),
)
"""Finding, field of the report, and field of the policy that names the accepted values."""


def tdx_checks(verified: TdxVerified, policy: TdxPolicy) -> Iterator[Finding]:
    """Hold the machine, its TDX module and the TD's report against the policy."""
    report = verified.quote.body
    yield from machine_checks(verified, policy)
    yield from _module(report, policy)
    yield from _measurements(report, policy)
    for code, field, listed in _OWNERS:
        yield _one_of(code, getattr(report, field), getattr(policy, listed))
    yield _one_of(TdxFinding.MRSERVICETD, report.mr_service_td or bytes(48), policy.mrservicetd)
    yield from _attributes(TdAttributes(report.td_attributes), policy)
    remedy = "launch the TD with fewer processor features, or widen [tdx] xfam_allowed"
    basic = report.xfam & _BASIC_XFAM == _BASIC_XFAM
    dangerous = accepts_danger(policy, "xfam_allowed", report.xfam)
    yield mask_check(TdxFinding.XFAM, report.xfam, policy.xfam_allowed, also=basic, dangerous=dangerous, remedy=remedy)


def _measurements(report: TdReport, policy: TdxPolicy) -> Iterator[Finding]:
    """Hold what was built and booted; without any RTMR, MRTD covers only the firmware, so that nothing is admitted."""
    yield _one_of(TdxFinding.MRTD, report.mr_td, policy.mrtd, needed=True)
    lists = [getattr(policy, field) for _, field in _REGISTERS]
    for (code, field), allowed in zip(_REGISTERS, lists, strict=True):
        yield _one_of(code, getattr(report, field), allowed, needed=not any(lists))


def _module(report: TdReport, policy: TdxPolicy) -> Iterator[Finding]:
    yield _one_of(TdxFinding.MRSEAM, report.mr_seam, policy.mrseam, phase=Phase.PLATFORM)
    for code, found in (
        (TdxFinding.MRSIGNERSEAM, report.mr_signer_seam.hex()),
        (TdxFinding.SEAM_ATTRIBUTES, f"{report.seam_attributes:016x}"),
    ):
        yield check(
            code,
            passed=not found.strip("0"),
            expected="zero",
            found=found,
            remedy="do not use this platform: Intel's own TDX modules have zero here",
            phase=Phase.PLATFORM,
        )


def _one_of(
    code: TdxFinding, found: bytes, allowed: tuple[bytes, ...], *, needed: bool = False, phase: Phase = Phase.ENCLAVE
) -> Finding:
    return check(
        code,
        passed=found in allowed or not (allowed or needed),
        expected=named(allowed) if needed else one_of(allowed),
        found=found.hex(),
        remedy=_REMEDIES[code],
        phase=phase,
    )


def _attributes(found: TdAttributes, policy: TdxPolicy) -> Iterator[Finding]:
    opened = found & UNDER_DEBUG
    yield check(
        TdxFinding.DEBUG,
        passed=policy.debug or not opened,
        expected="either" if policy.debug else "not set",
        found=" and ".join(flag.name or "" for flag in opened) or "not set",
        dangerous=bool(opened),
        remedy="launch the TD without debugging and profiling: the host can read everything in this one",
    )
    disabled = bool(found & TdAttributes.SEPT_VE_DISABLE)
    yield check(
        TdxFinding.SEPT_VE,
        passed=policy.sept_ve or disabled,
        expected="SEPT_VE_DISABLE either" if policy.sept_ve else "SEPT_VE_DISABLE set",
        found=f"SEPT_VE_DISABLE {bit_text(present=disabled)}",
        dangerous=not disabled,
        remedy="launch the TD with SEPT_VE_DISABLE, or set sept_ve = true if its kernel withstands such exceptions",
    )
    migratable = bool(found & TdAttributes.MIGRATABLE)
    yield check(
        TdxFinding.MIGRATABLE,
        passed=policy.migratable or not migratable,
        expected="either" if policy.migratable else "not set",
        found=bit_text(present=migratable),
        dangerous=migratable,
        remedy="launch the TD so that it cannot be migrated; else whoever holds the migration TD's keys can read it",
    )
    remedy = "launch the TD without them, or name them in [tdx] attributes_allowed"
    yield mask_check(TdxFinding.ATTRIBUTES, int(found & ~_JUDGED), policy.attributes_mask, remedy=remedy)
