"""The checks of the machine under an enclave or a trust domain, alike for both."""

from __future__ import annotations

from collections.abc import Iterator

from attestation.errors import FindingCode
from attestation.findings import Finding, check, one_of
from attestation.intel.verified import IntelVerified
from attestation.policy.sgx import SgxPolicy
from attestation.policy.tdx import TdxPolicy
from manifests.errors import ErrorCode


def machine_checks(verified: IntelVerified, policy: SgxPolicy | TdxPolicy) -> Iterator[Finding]:
    """Hold platform, TCB components and quoting enclave against the policy's lists and floors."""
    for code, found, allowed in (
        (FindingCode.FMSPC, verified.pck.fmspc, policy.fmspc),
        (FindingCode.PPID, verified.pck.ppid, policy.ppid),
    ):
        yield check(code, passed=not allowed or found in allowed, expected=one_of(allowed), found=found.hex())
    yield _components(verified, policy)
    found_svn, least = verified.quote.qe_report.isv_svn, policy.qe_isv_svn_min
    yield check(
        FindingCode.QE_ISV_SVN,
        passed=least is None or found_svn >= least,
        expected="any" if least is None else f"at least {least}",
        found=found_svn,
    )


def _components(verified: IntelVerified, policy: SgxPolicy | TdxPolicy) -> Finding:
    floors, found = policy.tcb_components_min, verified.tcb_components
    return check(
        FindingCode.TCB_COMPONENTS,
        passed=all(found[name] >= least for name, least in floors),
        expected=", ".join(f"{name} at least {least}" for name, least in floors) or "any",
        found=", ".join(f"{name} {found[name]}" for name, _ in floors or sorted(found.items())),
    )


def mask_check(
    code: ErrorCode, found: int, allowed: int, *, also: bool = True, dangerous: bool = False, remedy: str | None = None
) -> Finding:
    """Hold a set of bits against those that may be set; dangerous: whether some are beyond what is known to be safe."""
    return check(
        code,
        passed=also and not found & ~allowed,
        expected=f"no bit outside {allowed:#x}",
        found=f"{found:#x}",
        dangerous=dangerous,
        remedy=remedy,
    )


def bit_text(*, present: bool) -> str:
    """Return how a bit reads."""
    return "set" if present else "not set"
