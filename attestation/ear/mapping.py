"""Which claim of AR4SI each finding speaks about, and what it makes of it.  docs/ear.md has this as a table.

A check that passed gives the claim its affirming value, one that passed only because the policy names something
dangerous the value for a warning, and one that failed the value for a refusal.  Of several the worst counts.  Nothing
is ever said about file systems, storage and sourced data: no evidence shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from attestation.ear.ar4si import (
    APPROVED,
    APPROVED_AT_BOOT,
    CONTRAINDICATED,
    CRYPTOGRAPHY_FAILED,
    KNOWN_VULNERABILITIES,
    NO_CLAIM,
    UNRECOGNISED,
    Claim,
    worse,
)
from attestation.findings import Finding, Severity
from manifests.errors import ErrorCode


@dataclass(frozen=True)
class Group:
    """Findings that speak about one claim in one way: its values where they pass, pass by name, and fail."""

    claim: Claim
    passed: int
    warned: int
    refused: int
    codes: tuple[str, ...]


GROUPS: Final = (
    Group(  # is it the vendor's, and the vendor's of that family
        Claim.HARDWARE,
        APPROVED,
        UNRECOGNISED,
        UNRECOGNISED,
        (
            "platform-tee",
            "platform-bare",
            "platform-class",
            "platform-root",
            "platform-fmspc",
            "snp-product",
            "snp-signing-key",
            "tdx-mrsignerseam",
            "nvidia-product",
            "session-device-class",
        ),
    ),
    Group(  # is its firmware good, and is what is known of it new enough to tell
        Claim.HARDWARE,
        APPROVED,
        KNOWN_VULNERABILITIES,
        CONTRAINDICATED,
        (
            "tcb-status",
            "tcb-advisories",
            "tcb-date",
            "tcb-evaluation",
            "tcb-components",
            "qe-isv-svn",
            "collateral-age",
            "collateral-dates",
            "hardware-feed-dates",
            "hardware-feed-age",
            "tdx-mrseam",
            "tdx-seam-attributes",
            "snp-reported-tcb",
            "snp-committed-tcb",
            "snp-launch-tcb",
            "snp-firmware",
            "snp-provisional",
            "snp-mitigations",
            "snp-platform-required",
            "snp-platform-info",
            "snp-report-version",
            "tpm-firmware",
            "tpm-clock",
            "nvidia-driver-version",
            "nvidia-vbios-version",
            "nvidia-driver-rim",
            "nvidia-vbios-rim",
            "nvidia-rim-tag",
            "nvidia-rim-conflict",
            "nvidia-measurements",
            "nvidia-flags",
            "nvidia-fwid",
            "nvidia-firmware-id",
            "nvidia-firmware-svn",
        ),
    ),
    Group(  # is it one of the machines that are meant
        Claim.INSTANCE_IDENTITY,
        APPROVED,
        CONTRAINDICATED,
        UNRECOGNISED,
        (
            "platform-ppid",
            "snp-chip-id",
            "snp-csp-id",
            "snp-report-id",
            "nitro-module-id",
            "tpm-ak",
            "azure-vm-id",
            "nvidia-device-serial",
            "nvidia-device-key",
        ),
    ),
    Group(  # is it none of the machines that are known to be broken
        Claim.INSTANCE_IDENTITY,
        APPROVED,
        CONTRAINDICATED,
        CONTRAINDICATED,
        ("platform-denied", "platform-broken", "snp-revocation"),
    ),
    Group(  # was the evidence made for this
        Claim.INSTANCE_IDENTITY, APPROVED, CONTRAINDICATED, CRYPTOGRAPHY_FAILED, ("report-data",)
    ),
    Group(  # is the code the one that is meant
        Claim.EXECUTABLES,
        APPROVED_AT_BOOT,
        KNOWN_VULNERABILITIES,
        CONTRAINDICATED,
        (
            "sgx-mrenclave",
            "sgx-mrsigner",
            "sgx-isv-prod-id",
            "sgx-isv-svn",
            "sgx-isv-ext-prod-id",
            "sgx-isv-family-id",
            "tdx-mrtd",
            "tdx-rtmr0",
            "tdx-rtmr1",
            "tdx-rtmr2",
            "tdx-rtmr3",
            "tdx-mrservicetd",
            "snp-measurement",
            "snp-guest-svn",
            "snp-id-key",
            "snp-author-key",
            "snp-family-id",
            "snp-image-id",
            "nitro-pcr",
            "tpm-pcr",
            "tpm-event-log",
            "tpm-event-log-pcrs",
            "eventlog-registers",
            "eventlog-replay",
        ),
    ),
    Group(  # is it set up as is meant
        Claim.CONFIGURATION,
        APPROVED,
        KNOWN_VULNERABILITIES,
        CONTRAINDICATED,
        (
            "sgx-init",
            "sgx-mode64",
            "sgx-provision-key",
            "sgx-einittoken-key",
            "sgx-attributes",
            "sgx-xfrm",
            "sgx-miscselect",
            "sgx-cet-attributes",
            "sgx-config-id",
            "sgx-config-svn",
            "tdx-mrconfigid",
            "tdx-mrowner",
            "tdx-mrownerconfig",
            "tdx-sept-ve",
            "tdx-migratable",
            "tdx-attributes",
            "tdx-xfam",
            "snp-migration",
            "snp-migration-agent",
            "snp-smt",
            "snp-cxl",
            "snp-policy-required",
            "snp-policy-unknown",
            "snp-policy-abi",
            "snp-vmpl",
            "snp-host-data",
            "azure-secure-boot",
            "azure-console",
            "nvidia-mode",
            "session-devices",
        ),
    ),
    Group(  # can anyone outside look in: a debugger can, whoever permits it
        Claim.RUNTIME_OPAQUE, APPROVED, CONTRAINDICATED, CONTRAINDICATED, ("sgx-debug", "tdx-debug", "snp-debug")
    ),
    Group(  # no memory encryption is claimed for these, so that passing says nothing
        Claim.RUNTIME_OPAQUE, NO_CLAIM, CONTRAINDICATED, CONTRAINDICATED, ("nitro-debug",)
    ),
)

_OTHERS = Group(Claim.CONFIGURATION, APPROVED, KNOWN_VULNERABILITIES, CONTRAINDICATED, ())
"""A code that no group names: it cannot be lost."""

BY_CODE: Final = {code: group for group in GROUPS for code in group.codes}


def group_of(code: ErrorCode) -> Group:
    """Return what a finding's code speaks about."""
    return BY_CODE.get(str(code), _OTHERS)


def vector(findings: Iterable[Finding], *, simulated: bool) -> dict[Claim, int]:
    """Return the trustworthiness vector of an appraisal; claims about which nothing is said are left out.

    A simulated platform is no hardware that anyone should recognise, and whoever runs it sees all of its memory.
    """
    values: dict[Claim, int] = {}
    for claim, value in _statements(findings):
        values[claim] = worse(values.get(claim, NO_CLAIM), value)
    if simulated:
        values[Claim.HARDWARE] = worse(values.get(Claim.HARDWARE, NO_CLAIM), UNRECOGNISED)
        values[Claim.RUNTIME_OPAQUE] = CONTRAINDICATED
    return {claim: values[claim] for claim in Claim if values.get(claim, NO_CLAIM) != NO_CLAIM}


def _statements(findings: Iterable[Finding]) -> Iterator[tuple[Claim, int]]:
    for finding in findings:
        group = group_of(finding.code)
        values = {Severity.OK: group.passed, Severity.WARNING: group.warned}
        yield group.claim, values.get(finding.severity, group.refused)
