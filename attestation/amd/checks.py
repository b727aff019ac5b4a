"""The checks of an SEV-SNP appraisal, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.amd.guest_checks import guest_checks
from attestation.amd.machine_checks import machine_checks
from attestation.amd.verified import SnpVerified
from attestation.findings import Finding
from attestation.policy.snp import SnpPolicy


def snp_checks(verified: SnpVerified, policy: SnpPolicy) -> Iterator[Finding]:
    """Hold the machine and its firmware, then the guest, against the policy."""
    yield from machine_checks(verified, policy)
    yield from guest_checks(verified.report, policy)
