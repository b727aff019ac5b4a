"""The checks of an SEV-SNP appraisal that look at the guest."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.amd.abi import GUEST_POLICY_KNOWN, GuestPolicy, Report
from attestation.amd.errors import SnpFinding
from attestation.amd.findings import all_of, at_least, within_mask
from attestation.amd.verified import names
from attestation.findings import Finding, check, named, one_of
from attestation.policy.schema import accepts_danger
from attestation.policy.snp import SnpPolicy

_NO_AGENT = (bytes(32), b"\xff" * 32)
"""REPORT_ID_MA of a guest without a migration agent: all ones; firmware that leaves the field unset says zero."""
_HOST = 0xFFFFFFFF
"""VMPL of a report that the host asked for."""


def guest_checks(report: Report, policy: SnpPolicy) -> Iterator[Finding]:
    """Hold what was launched, what its policy admits and demands, and whose it is, against the policy."""
    yield _listed(
        SnpFinding.MEASUREMENT,
        report.measurement,
        policy.measurement,
        remedy="compare the image, the firmware and the number of processors with the measured ones",
    )
    yield from _dangers(report, policy)
    yield from _guest_policy(report, policy)
    yield from _identity(report, policy)


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
    listed = not policy.report_id_ma or report.report_id_ma in policy.report_id_ma
    expected = f"none, or {one_of(policy.report_id_ma)}" if policy.migration_agent else "none"
    return check(
        SnpFinding.MIGRATION_AGENT,
        passed=not present or (policy.migration_agent and listed),
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
        expected=all_of(policy.policy_required),
        found=all_of(tuple(found)),
        remedy=f"start the guest with {all_of(tuple(missing))} in its policy",
    )
    yield within_mask(
        SnpFinding.POLICY_UNKNOWN,
        report.policy,
        GUEST_POLICY_KNOWN | policy.policy_bits_allowed,
        dangerous=accepts_danger(policy, "policy_bits_allowed", report.policy & ~GUEST_POLICY_KNOWN),
        remedy="find out what the bits admit, then name them in [snp] policy_bits_allowed",
    )
    yield at_least(
        SnpFinding.POLICY_ABI,
        report.policy_abi,
        policy.policy_abi_min,
        remedy="start the guest with this interface version in its policy",
    )
    yield check(
        SnpFinding.VMPL,
        passed=report.vmpl <= policy.vmpl_max,
        expected=f"at most {policy.vmpl_max}",
        found="the host's own request" if report.vmpl == _HOST else report.vmpl,
        dangerous=accepts_danger(policy, "vmpl_max", report.vmpl),
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
    return check(code, passed=found in allowed, expected=named(allowed), found=found.hex(), remedy=remedy)
