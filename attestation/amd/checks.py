"""The checks of an SEV-SNP appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.amd.abi import GUEST_POLICY_KNOWN, GuestPolicy, PlatformInfo, Report, SigningKey
from attestation.amd.errors import SnpFinding
from attestation.amd.tcb import Tcb
from attestation.amd.verified import SnpVerified, dotted, names
from attestation.findings import Finding, Phase, check, one_of
from attestation.policy.snp import Floor, SnpPolicy

_NO_AGENT = (bytes(32), b"\xff" * 32)
"""REPORT_ID_MA of a guest without a migration agent: all ones; firmware that has the field unset says zero."""


def snp_checks(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    """Hold the machine, its firmware and the guest against the policy."""
    yield from _machine(verified, policy)
    yield from _versions(verified, policy)
    yield from _platform(verified.report, policy)
    yield _listed(SnpFinding.MEASUREMENT, verified.report.measurement, policy.measurement, remedy=_MEASUREMENT)
    yield from _dangers(verified.report, policy)
    yield from _guest_policy(verified.report, policy)
    yield from _identity(verified.report, policy)


_MEASUREMENT = "compare the image, the firmware and the number of processors with the measured ones"


# ------------------------------------------------------------------------------------------------ the machine


def _machine(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    report, endorsement = verified.report, verified.endorsement
    yield check(
        SnpFinding.PRODUCT,
        passed=str(verified.product) in policy.products,
        expected=one_of(policy.products),
        found=verified.product,
        remedy="use a machine of such a product, or set its floors in [snp] reported_tcb_min",
        phase=Phase.PLATFORM,
    )
    yield check(
        SnpFinding.SIGNING_KEY,
        passed=report.signing_key.name.lower() in policy.signing_keys,
        expected=one_of(policy.signing_keys),
        found=report.signing_key.name.lower() + (", the chip's own key is masked" if report.chip_key_masked else ""),
        remedy='to accept keys that AMD lends to a cloud provider, name "vlek" in [snp] signing_keys, and csp_id',
        phase=Phase.PLATFORM,
    )
    masked = "masked by the host" if report.signing_key is SigningKey.VLEK else "zero"
    yield check(
        SnpFinding.CHIP_ID,
        passed=not policy.chip_id or report.chip_id in policy.chip_id,
        expected=one_of(policy.chip_id),
        found=report.chip_id.hex() if any(report.chip_id) else masked,
        remedy="use a machine that [snp] chip_id names",
        phase=Phase.PLATFORM,
    )
    yield check(
        SnpFinding.CSP_ID,
        passed=endorsement.csp_id is None or endorsement.csp_id in policy.csp_id,
        expected=one_of(policy.csp_id) if policy.csp_id else "none",
        found=endorsement.csp_id or "none",
        remedy="use a machine of a cloud provider that [snp] csp_id names",
        phase=Phase.PLATFORM,
    )
    yield check(
        SnpFinding.REVOCATION,
        passed=verified.revocation_checked or policy.dangerous_crl_absent,
        expected="with or without a revocation list" if policy.dangerous_crl_absent else "a revocation list",
        found="a revocation list" if verified.revocation_checked else "none in the collateral",
        dangerous=not verified.revocation_checked,
        remedy="add the ARK's revocation list to the collateral; AMD's key distribution service has it",
        phase=Phase.PLATFORM,
    )


def _versions(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    report, tcb = verified.report, verified.tcb
    for code, found, floors, then in (
        (SnpFinding.REPORTED_TCB, tcb.reported, policy.reported_tcb_min, "let the host report it"),
        (SnpFinding.COMMITTED_TCB, tcb.committed, policy.committed_tcb_min, "let the host commit it"),
        (SnpFinding.LAUNCH_TCB, tcb.launch, policy.launch_tcb_min, "start the guest anew"),
    ):
        yield _floor(code, found, floors, remedy=f"update the platform's firmware, and {then}")
    yield _least(
        SnpFinding.FIRMWARE,
        report.committed_firmware,
        policy.firmware_min,
        remedy="update the platform's firmware, and let the host commit it",
        phase=Phase.PLATFORM,
    )
    settled = tcb.current == tcb.committed and report.current_firmware == report.committed_firmware
    yield check(
        SnpFinding.PROVISIONAL,
        passed=settled or policy.provisional_firmware,
        expected="current or committed" if policy.provisional_firmware else "current = committed",
        found=f"current {dotted(report.current_firmware)} ({tcb.current}); "
        f"committed {dotted(report.committed_firmware)} ({tcb.committed})",
        dangerous=not settled,
        remedy="let the host commit its firmware, or accept what can be rolled back with provisional_firmware",
        phase=Phase.PLATFORM,
    )
    yield _mitigations(report, policy.mitigations_required)


def _floor(code: SnpFinding, found: Tcb, floors: tuple[Floor, ...], *, remedy: str) -> Finding:
    """Hold a TCB version against the floors of its product; a product without any is refused by its own check."""
    floor = dict(dict(floors).get(str(found.product), ()))
    have = found.to_dict()
    return check(
        code,
        passed=all(have[name] >= least for name, least in floor.items()),
        expected="at least " + ", ".join(f"{name} {least}" for name, least in floor.items()) if floor else "any",
        found=found,
        remedy=remedy,
        phase=Phase.PLATFORM,
    )


def _least(
    code: SnpFinding, found: tuple[int, ...], least: str | None, *, remedy: str, phase: Phase = Phase.ENCLAVE
) -> Finding:
    return check(
        code,
        passed=least is None or found >= tuple(map(int, least.split("."))),
        expected="any" if least is None else f"at least {least}",
        found=dotted(found),
        remedy=remedy,
        phase=phase,
    )


def _mitigations(report: Report, required: int) -> Finding:
    launch, current = report.launch_mit_vector, report.current_mit_vector
    both = (launch or 0) & (current or 0)
    return check(
        SnpFinding.MITIGATIONS,
        passed=not required & ~both,
        expected=f"all of {required:#x}, at launch and now" if required else "any",
        found="not in reports of this version" if launch is None else f"launch {launch:#x}, current {current:#x}",
        remedy="update the platform's firmware, and start the guest anew",
        phase=Phase.PLATFORM,
    )


def _platform(report: Report, policy: SnpPolicy) -> Iterator[Finding]:
    found = names(PlatformInfo, report.platform_info)
    missing = [name for name in policy.platform_info_required if name not in found]
    yield check(
        SnpFinding.PLATFORM_REQUIRED,
        passed=not missing,
        expected=_all_of(policy.platform_info_required),
        found=_all_of(tuple(found)),
        remedy=f"configure the platform with {_all_of(tuple(missing))}",
        phase=Phase.PLATFORM,
    )
    yield _mask(
        SnpFinding.PLATFORM_INFO,
        report.platform_info,
        policy.platform_info_allowed,
        remedy="find out what the platform has enabled, then widen [snp] platform_info_allowed",
        phase=Phase.PLATFORM,
    )
    yield check(
        SnpFinding.REPORT_VERSION,
        passed=report.version >= policy.report_version_min,
        expected=f"at least {policy.report_version_min}",
        found=report.version,
        remedy="update the platform's firmware",
        phase=Phase.PLATFORM,
    )


# ------------------------------------------------------------------------------------------------ the guest


def _dangers(report: Report, policy: SnpPolicy) -> Iterator[Finding]:
    """Hold what a guest's policy may admit only where it is named."""
    smt, cxl = ("SMT" in policy.policy_allowed), ("CXL_ALLOW" in policy.policy_allowed)
    yield _danger(
        SnpFinding.DEBUG,
        report,
        GuestPolicy.DEBUG,
        allowed=policy.debug,
        remedy="start the guest without DEBUG in its policy: the host can read everything in this one",
    )
    yield _danger(
        SnpFinding.MIGRATION,
        report,
        GuestPolicy.MIGRATE_MA,
        allowed=policy.migration_agent,
        remedy="start the guest without MIGRATE_MA in its policy: an agent can hand this one to another machine",
    )
    yield _danger(
        SnpFinding.SMT,
        report,
        GuestPolicy.SMT,
        allowed=smt,
        dangerous=False,
        remedy='start the guest without SMT in its policy, or name "SMT" in [snp] policy_allowed',
    )
    yield _danger(
        SnpFinding.CXL,
        report,
        GuestPolicy.CXL_ALLOW,
        allowed=cxl,
        dangerous=False,
        remedy='start the guest without CXL_ALLOW in its policy, or name "CXL_ALLOW" in [snp] policy_allowed',
    )
    yield _agent(report, policy)


def _danger(
    code: SnpFinding, report: Report, bit: GuestPolicy, *, allowed: bool, remedy: str, dangerous: bool = True
) -> Finding:
    present = bool(report.policy & bit)
    return check(
        code,
        passed=allowed or not present,
        expected="either" if allowed else "not set",
        found="set" if present else "not set",
        dangerous=present and dangerous,
        remedy=remedy,
    )


def _agent(report: Report, policy: SnpPolicy) -> Finding:
    """Hold the agent itself: the policy's bit only admits one."""
    present = report.report_id_ma not in _NO_AGENT
    named = not policy.report_id_ma or report.report_id_ma in policy.report_id_ma
    expected = f"none, or {one_of(policy.report_id_ma)}" if policy.migration_agent else "none"
    return check(
        SnpFinding.MIGRATION_AGENT,
        passed=not present or (policy.migration_agent and named),
        expected=expected,
        found=report.report_id_ma.hex() if present else "none",
        dangerous=present,
        remedy="verify the agent's own report, then name its id in [snp] report_id_ma",
    )


def _guest_policy(report: Report, policy: SnpPolicy) -> Iterator[Finding]:
    found = names(GuestPolicy, report.policy)
    missing = [name for name in policy.policy_required if name not in found]
    yield check(
        SnpFinding.POLICY_REQUIRED,
        passed=not missing,
        expected=_all_of(policy.policy_required),
        found=_all_of(tuple(found)),
        remedy=f"start the guest with {_all_of(tuple(missing))} in its policy",
    )
    yield _mask(
        SnpFinding.POLICY_UNKNOWN,
        report.policy,
        GUEST_POLICY_KNOWN | policy.policy_bits_allowed,
        remedy="find out what the bits admit, then name them in [snp] policy_bits_allowed",
    )
    yield _least(
        SnpFinding.POLICY_ABI,
        report.policy_abi,
        policy.policy_abi_min,
        remedy="start the guest with this interface version in its policy",
    )
    yield check(
        SnpFinding.VMPL,
        passed=report.vmpl <= policy.vmpl_max,
        expected=f"at most {policy.vmpl_max}",
        found="the host's own request" if report.vmpl == 0xFFFFFFFF else report.vmpl,
        remedy="ask for the report at this level, or raise [snp] vmpl_max if what runs above it is measured, too",
    )
    yield check(
        SnpFinding.GUEST_SVN,
        passed=report.guest_svn >= policy.guest_svn_min,
        expected=f"at least {policy.guest_svn_min}",
        found=report.guest_svn,
        remedy="update the guest",
    )


def _identity(report: Report, policy: SnpPolicy) -> Iterator[Finding]:
    for code, found, allowed, field in (
        (SnpFinding.HOST_DATA, report.host_data, policy.host_data, "host_data"),
        (SnpFinding.FAMILY_ID, report.family_id, policy.family_id, "family_id"),
        (SnpFinding.IMAGE_ID, report.image_id, policy.image_id, "image_id"),
        (SnpFinding.ID_KEY, report.id_key_digest, policy.id_key_digest, "id_key_digest"),
    ):
        yield _listed(code, found, allowed, remedy=f"name it in [snp] {field}, if you know whose it is")
    enabled = report.author_key_enabled
    yield check(
        SnpFinding.AUTHOR_KEY,
        passed=report.author_key_digest in policy.author_key_digest and enabled == any(report.author_key_digest),
        expected=one_of(policy.author_key_digest),
        found=report.author_key_digest.hex() + ("" if enabled else " (none vouches)"),
        remedy="name it in [snp] author_key_digest, if you know whose it is",
    )
    yield check(
        SnpFinding.REPORT_ID,
        passed=not policy.report_id or report.report_id in policy.report_id,
        expected=one_of(policy.report_id),
        found=report.report_id.hex(),
        remedy="treat the guest as another one: this id lasts from its start to its end",
    )


def _listed(code: SnpFinding, found: bytes, allowed: tuple[bytes, ...], *, remedy: str) -> Finding:
    return check(code, passed=found in allowed, expected=one_of(allowed), found=found.hex(), remedy=remedy)


def _mask(code: SnpFinding, found: int, allowed: int, *, remedy: str, phase: Phase = Phase.ENCLAVE) -> Finding:
    return check(
        code,
        passed=not found & ~allowed,
        expected=f"no bit outside {allowed:#x}",
        found=f"{found:#x}",
        remedy=remedy,
        phase=phase,
    )


def _all_of(items: tuple[str, ...]) -> str:
    return ", ".join(items) or "none"
