"""That verdicts and what-ifs call the same things dangerous."""

from __future__ import annotations

from attestation.changes import REFUSED_BY_NAME
from attestation.report import Report
from attestation.whatif import Changes


def assert_marked_as_warned(changes: Changes, before: Report, after: Report) -> None:
    """Hold the changes that are marked as dangerous against the warnings that making them all has brought.

    What undoes a refusal by name leaves nothing to warn of, and is marked all the same.
    """
    warned = {str(finding.code) for finding in before.warnings}
    undone = {change.code for change in changes.changes if change.field in REFUSED_BY_NAME}
    marked = {change.code for change in changes.changes if change.dangerous}
    new = {str(finding.code) for finding in after.warnings} - warned
    assert undone <= marked
    assert new <= marked
    assert marked - warned - undone <= new
