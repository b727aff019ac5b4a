"""Verify a receipt offline: its evidence first, then its signature, then each field that it binds.

    Held --examine(policy, at, expected)--> ReceiptReport

Nothing here reads a clock, a network or a global.  Every check runs, and each reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attestation.appraise import SessionAppraisal
from attestation.composite import appraise_record
from attestation.errors import EvidenceError
from attestation.findings import Finding, Phase
from attestation.policy import Policy, roots_for
from attestation.receipts.checks import NOTHING, Expected, Held, checks
from attestation.refused import refusals
from attestation.roots import Roots
from attestation.types.receipt import Receipt
from attestation.types.receipt_errors import ReceiptCode, ReceiptError, ReceiptFinding
from manifests.errors import Fault, ManifestError, StrongroomError

__all__ = ["Expected", "Held", "ReceiptReport", "examine", "refused"]


@dataclass(frozen=True)
class ReceiptReport:
    """What `examine` found.  attested: None where the evidence is broken, and `error` says how."""

    at: int
    receipt: Receipt
    attested: SessionAppraisal | None
    error: StrongroomError | None
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The checks that failed."""
        return tuple(finding for finding in self.findings if not finding.passed)

    @property
    def accepted(self) -> bool:
        """Whether checks were made and all of them passed."""
        return self.attested is not None and bool(self.findings) and not self.refused

    @property
    def platform(self) -> str:
        """`SIMULATED` or `hardware`, from the evidence; `unknown` where that is broken."""
        return "unknown" if self.attested is None else self.attested.appraisal.platform

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends with this report."""
        if self.accepted:
            return 0
        own = any(isinstance(finding.code, ReceiptFinding) for finding in self.refused)
        return int(Fault.REFUSED) if own or self.error is None else self.error.exit_code

    def require(self) -> None:
        """Return only if the receipt is accepted; raises ReceiptError `receipt-refused` naming every failed check."""
        if not self.accepted:
            raise refused(self.refused)


def refused(findings: Sequence[Finding]) -> ReceiptError:
    """Return the error that names every failed check."""
    return ReceiptError(
        ReceiptCode.REFUSED,
        f"the receipt is refused: {', '.join(str(finding.code) for finding in findings)}",
        expected="; ".join(f"{finding.code}: {finding.expected}" for finding in findings),
        found="; ".join(f"{finding.code}: {finding.found}" for finding in findings),
        remedy="; ".join(dict.fromkeys(finding.remedy for finding in findings if finding.remedy)),
    )


def examine(
    held: Held, policy: Policy, at: int, *, expected: Expected = NOTHING, roots: Roots | None = None
) -> ReceiptReport:
    """Examine a receipt under a policy as of `at` (Unix seconds); never raises for what it finds.

    roots: those of the policy, by default.
    """
    receipt = held.signed.receipt
    attested, error, of_evidence = _appraised(held, policy, at, roots or roots_for(policy))
    findings = (*of_evidence, *checks(held, policy, at, expected))
    return ReceiptReport(at, receipt, attested, error, findings)


def _appraised(
    held: Held, policy: Policy, at: int, roots: Roots
) -> tuple[SessionAppraisal | None, StrongroomError | None, tuple[Finding, ...]]:
    """Take steps 1 to 3: the evidence, bound to claims and to the handshake that the receipt descends from."""
    origin = held.signed.receipt.origin if held.noted is None else held.noted.origin
    try:
        attested = appraise_record(held.evidence, origin, policy, held.source, roots, at)
    except (EvidenceError, ManifestError) as error:
        return None, error, refusals(error, Phase.VERIFY)
    return attested, None, attested.appraisal.findings
