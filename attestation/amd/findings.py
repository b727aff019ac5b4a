"""Findings of an SEV-SNP appraisal that come in one form: version floors, masks, lists of names."""

from __future__ import annotations

from attestation.amd.errors import SnpFinding
from attestation.amd.verified import dotted
from attestation.findings import Finding, Phase, check


def at_least(
    code: SnpFinding, found: tuple[int, ...], least: str | None, *, remedy: str, phase: Phase = Phase.ENCLAVE
) -> Finding:
    """Hold a version against a floor of as many numbers; None leaves it open."""
    return check(
        code,
        passed=least is None or found >= tuple(map(int, least.split("."))),
        expected="any" if least is None else f"at least {least}",
        found=dotted(found),
        remedy=remedy,
        phase=phase,
    )


def within_mask(
    code: SnpFinding, found: int, allowed: int, *, dangerous: bool, remedy: str, phase: Phase = Phase.ENCLAVE
) -> Finding:
    """Refuse bits outside a mask; dangerous: whether some are beyond what is known to be safe."""
    return check(
        code,
        passed=not found & ~allowed,
        expected=f"no bit outside {allowed:#x}",
        found=f"{found:#x}",
        dangerous=dangerous,
        remedy=remedy,
        phase=phase,
    )


def all_of(items: tuple[str, ...]) -> str:
    """Return names as text."""
    return ", ".join(items) or "none"
