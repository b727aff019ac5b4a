"""Errors of parsing and verifying as findings of a report."""

from __future__ import annotations

from typing import Final

from attestation.findings import Finding, Phase, Severity
from attestation.validity import DateError, Validity
from manifests.errors import Fault, StrongroomError, shown


def refusals(error: StrongroomError, phase: Phase, dates: tuple[Validity, ...] = ()) -> tuple[Finding, ...]:
    """Return an error as findings: of dates, one for each document whose dates do not hold, and for each of `dates`."""
    if not isinstance(error, DateError):
        return (refusal(error, phase),)
    now = error.now
    return tuple(refusal(each.refusal(now), phase) for each in dict.fromkeys((*error.failing, *dates)))


_EXPECTED: Final = {
    Fault.MALFORMED: "bytes in the one form that their format has",
    Fault.UNSUPPORTED: "a version, an algorithm and a platform that are handled",
}
"""By fault: what an error wants that does not say so itself."""


def refusal(error: StrongroomError, phase: Phase) -> Finding:
    """Return an error as the finding of its phase; `found` is its sentence where it names nothing else."""
    expected = _EXPECTED.get(error.code.fault, "evidence that this does not hold of")
    return Finding(
        code=error.code,
        phase=phase,
        passed=False,
        severity=Severity.REFUSAL,
        expected=expected if error.expected is None else shown(error.expected),
        found=error.message if error.found is None else shown(error.found),
        remedy=error.remedy,
    )
