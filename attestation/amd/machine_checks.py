"""The checks of an SEV-SNP appraisal that look at the machine and its firmware."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.amd.abi import PlatformInfo, Report, SigningKey
from attestation.amd.errors import SnpFinding
from attestation.amd.findings import all_of, at_least, within_mask
from attestation.amd.tcb import Tcb
from attestation.amd.verified import SnpVerified, dotted, names
from attestation.findings import Finding, Phase, check, one_of
from attestation.policy.schema import accepts_danger
from attestation.policy.snp import Floor, SnpPolicy


def machine_checks(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    """Hold the processor, its key, its firmware and its configuration against the policy."""
    yield from _machine(verified, policy)
    yield from _key(verified, policy)
    yield from _versions(verified, policy)
    yield from _platform(verified.report, policy)


def _machine(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    report = verified.report
    yield check(
        SnpFinding.PRODUCT,
        passed=str(verified.product) in policy.products,
        expected=one_of(policy.products),
        found=verified.product,
        remedy="use a machine of such a product, or set its floors in [snp] reported_tcb_min",
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


def _key(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    report, csp_id = verified.report, verified.endorsement.csp_id
    yield check(
        SnpFinding.SIGNING_KEY,
        passed=report.signing_key.name.lower() in policy.signing_keys,
        expected=one_of(policy.signing_keys),
        found=report.signing_key.name.lower() + (", the chip's own key is masked" if report.chip_key_masked else ""),
        remedy='to accept keys that AMD lends to a cloud provider, name "vlek" in [snp] signing_keys, and csp_id',
        phase=Phase.PLATFORM,
    )
    yield check(
        SnpFinding.CSP_ID,
        passed=csp_id is None or csp_id in policy.csp_id,
        expected=one_of(policy.csp_id) if policy.csp_id else "none",
        found=csp_id or "none",
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
    yield at_least(
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
        expected=all_of(policy.platform_info_required),
        found=all_of(tuple(found)),
        remedy=f"configure the platform with {all_of(tuple(missing))}",
        phase=Phase.PLATFORM,
    )
    yield within_mask(
        SnpFinding.PLATFORM_INFO,
        report.platform_info,
        policy.platform_info_allowed,
        dangerous=accepts_danger(policy, "platform_info_allowed", report.platform_info),
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
