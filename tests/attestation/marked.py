"""That verdicts and what-ifs call the same things dangerous."""

from __future__ import annotations

from attestation.report import Report
from attestation.whatif import Changes


def assert_marked_as_warned(changes: Changes, before: Report, after: Report) -> None:
    """Hold the changes that are marked as dangerous against the warnings that making them all has brought."""
    warned = {str(finding.code) for finding in before.warnings}
    marked = {change.code for change in changes.changes if change.dangerous}
    assert marked - warned == {str(finding.code) for finding in after.warnings} - warned
