"""What this implementation makes of a case, through its public functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation import evidence
from attestation.appraise import Appraisal, appraise
from attestation.collateral import Collateral
from attestation.collateral.kinds import decode
from attestation.evidence import Roots
from attestation.policy import Policy, load_policy
from attestation.roots import Hierarchy
from attestation.wrapping import unwrap
from manifests.errors import Fault, StrongroomError
from tests.vectors.attestation.vector import Vector

OUTCOMES = {
    Fault.REFUSED: "refused",
    Fault.MALFORMED: "malformed",
    Fault.UNSUPPORTED: "unsupported",
    Fault.USAGE: "usage",
    Fault.UNAVAILABLE: "unavailable",
}
_HIERARCHIES = {
    "replacement-intel": Hierarchy.INTEL,
    "replacement-amd": Hierarchy.AMD,
    "replacement-nitro": Hierarchy.NITRO,
}


@dataclass(frozen=True)
class Outcome:
    """What came of a case, in the words of its file."""

    expect: str
    phase: str | None = None
    codes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tcb_status: str | None = None
    tee: str | None = None
    version: int | None = None


class _Stopped(Exception):  # noqa: N818 - it carries an outcome, which need not be an error
    def __init__(self, phase: str, error: StrongroomError) -> None:
        super().__init__(phase)
        self.outcome = Outcome(OUTCOMES[error.code.fault], phase, (str(error.code),))


def roots_of(vector: Vector) -> Roots:
    """The roots that a case trusts."""
    simulated = [content.encode() for kind, content in vector.roots if kind == "simulated"]
    replaced = [(_HIERARCHIES[kind], content.encode()) for kind, content in vector.roots if kind in _HIERARCHIES]
    roots = Roots.simulated(*simulated) if simulated else Roots.vendor()
    for hierarchy, certificate in replaced:
        roots = Roots.dangerous_replacement(certificate, hierarchy)
    keys = [bytes.fromhex(content) for kind, content in vector.roots if kind == "tpm"]
    return roots.with_tpm(keys) if keys else roots


def run(vector: Vector) -> Outcome:
    """Take a case through policy, unwrapping, parsing, verification and appraisal, as far as it goes."""
    try:
        policy: Policy = _stage("policy", load_policy, vector.policy.encode())
        data = _stage("unwrap", lambda: unwrap(vector.evidence).evidence) if vector.wrapped else vector.evidence
        parsed = _stage("parse", evidence.parse, data)
        verified = _stage("verify", lambda: evidence.verify(parsed, _collateral(vector), roots_of(vector), vector.now))
    except _Stopped as stopped:
        return stopped.outcome
    appraisal = appraise(verified, policy, vector.now, report_data=vector.report_data)
    statuses = [part.tcb_status for part in verified.parts if part.tcb_status is not None]
    return Outcome(
        expect="accepted" if appraisal.accepted else "refused",
        phase=None if appraisal.accepted else "appraise",
        codes=_codes(appraisal.failed),
        warnings=_codes(appraisal.warnings) if appraisal.accepted else (),
        tcb_status=statuses[0] if statuses else None,
        tee=verified.tee,
        version=parsed.version,
    )


def declared(vector: Vector) -> Outcome:
    """What a case says should come of it."""
    reached = vector.expect == "accepted" or vector.phase == "appraise"
    return Outcome(
        expect=vector.expect,
        phase=vector.phase,
        codes=vector.codes,
        warnings=vector.warnings,
        tcb_status=vector.tcb_status,
        tee=vector.tee if reached else None,
        version=vector.version if reached else None,
    )


def _stage(phase: str, action: Any, *arguments: Any) -> Any:
    try:
        return action(*arguments)
    except StrongroomError as error:
        raise _Stopped(phase, error) from None


def _collateral(vector: Vector) -> Collateral | None:
    return None if vector.collateral is None else decode(vector.collateral.encode())


def _codes(findings: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(sorted({str(finding.code) for finding in findings}))


__all__ = ["Appraisal", "Outcome", "declared", "roots_of", "run"]
