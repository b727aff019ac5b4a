"""The checks of an appraisal that only Azure's VMs have; their parts are held against the tables of their own TEEs."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.azure.errors import AzureFinding
from attestation.azure.verified import AzureVerified
from attestation.findings import Finding, check, one_of
from attestation.policy.azure import AzurePolicy


def azure_checks(verified: AzureVerified, policy: AzurePolicy) -> Iterator[Finding]:
    """Hold what the paravisor says of the VM against the policy."""
    claims = verified.claims
    yield check(
        AzureFinding.VM_ID,
        passed=not policy.vm_ids or claims.vm_id in policy.accepted_ids,
        expected=one_of(policy.accepted_ids),
        found=claims.vm_id or "not said",
        remedy=f"use a virtual machine that [{verified.tee}] vm_ids names",
    )
    secure = claims.flag("secure-boot")
    yield check(
        AzureFinding.SECURE_BOOT,
        passed=secure is True or policy.insecure_boot,
        expected="either" if policy.insecure_boot else "true",
        found=_said(value=secure),
        dangerous=secure is not True,
        remedy="switch secure boot on, or name what is booted by its PCRs and set insecure_boot",
    )
    console = claims.flag("console-enabled")
    yield check(
        AzureFinding.CONSOLE,
        passed=console is False or policy.console,
        expected="either" if policy.console else "false",
        found=_said(value=console),
        dangerous=console is not False,
        remedy="close the console, or set console if nothing inside the guest listens to it",
    )


def _said(*, value: bool | None) -> str:
    return "not said" if value is None else str(value).lower()
