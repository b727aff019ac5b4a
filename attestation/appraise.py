"""Appraisal: verified evidence held against a policy.  Every check runs, and each reports.

Checks of one TEE live beside its verifier; those that hold for every TEE are here.  docs/attestation.md lists them.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from attestation import binding, evidence
from attestation.collateral import CollateralSource
from attestation.errors import EvidenceCode, EvidenceError, FindingCode, SessionFinding
from attestation.findings import Appraisal, AppraisalError, Finding, Phase, check, one_of
from attestation.intel.tcb import TcbStatus
from attestation.lasting import accepted_until
from attestation.platforms import platform_checks
from attestation.policy import EvidencePolicy, Policy
from attestation.policy.tables import ANY
from attestation.roots import VENDOR_ROOTS, Roots
from attestation.tees import BY_NAME
from attestation.types import Claims, EvidenceRecord, PlatformClass
from attestation.validity import ending, parse_rfc3339, rfc3339
from attestation.verified import Verified

__all__ = [
    "Appraisal",
    "AppraisalError",
    "Finding",
    "OpenedSession",
    "SessionAppraisal",
    "appraise",
    "appraise_session",
    "open_session",
]


_WRAPPINGS: Final = {"snp": ("azure-snp",), "tdx": ("azure-tdx",), "tpm": ("azure-snp", "azure-tdx")}
"""By TEE, what may wrap its evidence: a policy with a table for the wrapping does not take what was in it alone."""


def appraise(
    verified: Verified, policy: Policy, now: int, *, report_data: bytes | None = None, beside: bool = False
) -> Appraisal:
    """Hold verified evidence against a policy at `now` (Unix seconds).

    `report_data` (64 bytes) is what the evidence must be bound to; None leaves that open, and a verdict without it
    says nothing about who is at the other end.  Evidence that wraps other evidence is judged part by part, and one
    part that fails fails all.  `beside`: whether this is a device's evidence whose processor is appraised with it, by
    the caller.  Never raises for a refusal: see `Appraisal.require`.
    """
    findings = [_bare(verified.parts[0].tee, policy, beside=beside)]
    for part in verified.parts:
        label = part.label if beside or len(verified.parts) > 1 else None
        findings += [replace(finding, part=label) for finding in _part(part, policy, now)]
    if report_data is not None:
        findings.append(_binding(verified, report_data))
    return Appraisal(verified.simulated, tuple(findings))


def _bare(tee: str, policy: Policy, *, beside: bool) -> Finding:
    """Refuse the outermost evidence if its table is there for a part: whoever strips the rest strips its checks."""
    wanted = tuple(name for name in _WRAPPINGS.get(tee, ()) if name in policy.tables)
    if BY_NAME[tee].device and not beside:
        wanted = tuple(name for name in policy.tables if not BY_NAME[name].device)
    return check(
        FindingCode.BARE,
        passed=not wanted or tee not in policy.tables,  # without a table, platform-tee refuses it
        expected=f"{tee} together with {one_of(wanted)}" if wanted else tee,
        found=f"{tee} alone" if wanted else tee,
    )


def _part(verified: Verified, policy: Policy, now: int) -> Iterator[Finding]:
    """Run every check of one part: those of all TEEs, and those of its own."""
    table = policy.table(verified.tee)
    yield check(FindingCode.TEE, passed=table is not None, expected=one_of(tuple(policy.tables)), found=verified.tee)
    yield from _platform(verified, policy.evidence, table.anchors if table else ())
    yield from platform_checks(verified, policy.evidence, now)
    yield from _collateral(verified, policy.evidence, now)
    if table is not None:
        yield from BY_NAME[verified.tee].checks(verified, table)


def _platform(verified: Verified, policy: EvidencePolicy, anchors: tuple[bytes, ...]) -> Iterator[Finding]:
    wanted = PlatformClass.SIMULATED if policy.simulation else PlatformClass.HARDWARE
    yield check(
        FindingCode.CLASS,
        passed=verified.platform is wanted,
        expected=wanted,
        found=verified.platform,
        dangerous=policy.simulation,
    )
    yield _root(verified.root, policy, anchors)
    if verified.tcb_status is not None:
        yield from _status(verified, verified.tcb_status, policy)


def _status(verified: Verified, status: str, policy: EvidencePolicy) -> Iterator[Finding]:
    yield check(
        FindingCode.TCB_STATUS,
        passed=status in policy.tcb_status,
        expected=one_of(policy.tcb_status),
        found=status,
        dangerous=status != TcbStatus.UP_TO_DATE,
    )
    unknown = [advisory for advisory in verified.advisories if not _accepts(policy, advisory)]
    yield check(
        FindingCode.ADVISORIES,
        passed=not unknown,
        expected=_expected_advisories(policy),
        found=", ".join(unknown or verified.advisories) or "none",
        dangerous=bool(verified.advisories),
    )
    if verified.tcb_date is not None:
        yield check(
            FindingCode.TCB_DATE,
            passed=policy.tcb_date_min is None or verified.tcb_date >= parse_rfc3339(policy.tcb_date_min),
            expected="any" if policy.tcb_date_min is None else f"{policy.tcb_date_min} or later",
            found=rfc3339(verified.tcb_date),
        )


def _accepts(policy: EvidencePolicy, advisory: str) -> bool:
    if ANY in policy.advisories_accepted:
        return advisory not in policy.advisories_refused
    return advisory in policy.advisories_accepted


def _expected_advisories(policy: EvidencePolicy) -> str:
    if ANY in policy.advisories_accepted:
        return f"any but {', '.join(policy.advisories_refused)}" if policy.advisories_refused else "any"
    return f"none but {', '.join(policy.advisories_accepted)}" if policy.advisories_accepted else "none"


def _root(found: bytes, policy: EvidencePolicy, anchors: tuple[bytes, ...]) -> Finding:
    """Hold the root against the one that the policy names, whichever roots the caller has verified under.

    A policy for hardware names none, or the replacements of some vendor's.  A replacement is shown as a warning, also
    where only the caller asked for it, which takes the name of a danger.  `anchors` are what the TEE's own table
    names, because no vendor stands above it.
    """
    if found in anchors:
        return check(FindingCode.ROOT, passed=True, expected=one_of(anchors), found=found.hex())
    named = policy.simulated_root
    replacements = policy.dangerous_replacement_roots
    instead = "".join(f", or instead of {name}'s {one_of(roots)}" for name, roots in replacements)
    return check(
        FindingCode.ROOT,
        passed=not named or found in named,
        expected=one_of(named) if named else f"the vendors'{instead}",
        found=found.hex(),
        dangerous=found not in {*VENDOR_ROOTS, *named},
    )


def _collateral(verified: Verified, policy: EvidencePolicy, now: int) -> Iterator[Finding]:
    number, least = verified.evaluation_number, policy.tcb_evaluation_min
    if number is not None:
        yield check(
            FindingCode.TCB_EVALUATION,
            passed=least is None or number >= least,
            expected="any" if least is None else f"at least {least}",
            found=number,
        )
    age, most = now - verified.issued, policy.max_collateral_age
    yield check(
        FindingCode.COLLATERAL_AGE,
        passed=most is None or age <= most,
        expected="any that is valid" if most is None else f"at most {most} s",
        found=f"{age} s",
    )
    yield check(
        FindingCode.COLLATERAL_DATES,
        passed=verified.begins <= now < verified.expires,
        expected=f"from {rfc3339(verified.begins)} {_until(verified)}",
        found=rfc3339(now),
    )


def _until(verified: Verified) -> str:
    end = ending(verified.expires)
    return "on" if end is None else f"until before {end}"


def _binding(verified: Verified, report_data: bytes) -> Finding:
    return check(
        FindingCode.REPORT_DATA,
        passed=hmac.compare_digest(verified.report_data, verified.bound(report_data)),
        expected=verified.bound(report_data).hex(),
        found=verified.report_data.hex(),
    )


@dataclass(frozen=True)
class SessionAppraisal:
    """The verdict over the evidence of one session.  Call `require()` before anything is sent.

    claims: decoded, and covered by the quote if the appraisal accepts.  evidence_digest: 64 bytes, as tickets carry
    it.  expires: the first Unix second at which the evidence no longer verifies, or the policy no longer takes it.
    """

    appraisal: Appraisal
    verified: Verified
    claims: Claims
    evidence_digest: bytes
    expires: int

    def require(self) -> None:
        """Return only if the policy accepts the session's evidence; raises AppraisalError."""
        self.appraisal.require()


@dataclass(frozen=True)
class OpenedSession:
    """What an enclave sent in a session, verified but not appraised.

    report_data: 64 bytes that its evidence must be bound to, from handshake, claims and inclusion proof.
    """

    verified: Verified
    claims: Claims
    report_data: bytes
    evidence_digest: bytes


def open_session(
    record: EvidenceRecord, handshake_hash: bytes, source: CollateralSource, roots: Roots, now: int
) -> OpenedSession:
    """Verify what an enclave sent in a session with this handshake hash (64 bytes).

    Raises EvidenceError or ManifestError; `evidence-device` for a device's evidence in the place of an enclave's.
    """
    claims = Claims.decode(record.claims)
    leaf = binding.session_leaf(handshake_hash, record.claims)
    report_data = binding.expected_report_data(leaf, record.proof)
    quote = evidence.parse(record.quote)
    if BY_NAME[quote.tee].device:
        raise EvidenceError(
            EvidenceCode.EVIDENCE_DEVICE,
            EvidenceCode.EVIDENCE_DEVICE.meaning,
            expected="evidence of a processor",
            found=BY_NAME[quote.tee].title,
        )
    collateral = evidence.collateral_for(quote, source, now, roots)
    verified = evidence.verify(quote, collateral, roots, now)
    return OpenedSession(verified, claims, report_data, record.digest())


def appraise_session(  # noqa: PLR0917 - the six things that a verdict over a session depends on, and no option
    record: EvidenceRecord,
    handshake_hash: bytes,
    policy: Policy,
    source: CollateralSource,
    roots: Roots,
    now: int,
) -> SessionAppraisal:
    """Verify and appraise what an enclave sent in a session with this handshake hash (64 bytes).

    The expected report data is computed here, from the handshake, the claims and the inclusion proof.  Broken
    evidence raises EvidenceError or ManifestError; a refusal by the policy shows in the result.  An enclave that uses
    devices is refused here: `attestation.composite` appraises it together with them (`appraise_record`).
    """
    session = open_session(record, handshake_hash, source, roots, now)
    appraisal = appraise(session.verified, policy, now, report_data=session.report_data)
    devices = check(
        SessionFinding.DEVICES,
        passed=not session.claims.gpu_evidence and not record.devices,
        expected="no device, since no evidence of one is given",
        found=session.claims.gpu_evidence.hex() or ("evidence of a device" if record.devices else "no device"),
        remedy="ask for the evidence of the enclave's devices, and appraise both together",
        phase=Phase.SESSION,
    )
    appraisal = Appraisal(appraisal.simulated, (*appraisal.findings, devices))
    expires = accepted_until((session.verified,), policy)
    return SessionAppraisal(appraisal, session.verified, session.claims, session.evidence_digest, expires)
