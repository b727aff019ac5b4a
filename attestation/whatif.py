"""What would change a verdict: other presets, or the least changes of a policy.

Every answer is a real appraisal under a policy that loads; where there is none, the answer is why it does not load.

A change only says what it takes for a check to pass.  Whether it should pass is for whoever writes the policy: a change
is marked as dangerous where its check then passes with a warning.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Final

from attestation.appraise import appraise
from attestation.changes import REFUSED_BY_NAME, Change, Excluded, reason, widest, with_all
from attestation.composite import joined
from attestation.drafts import draft
from attestation.errors import EvidenceError, SessionFinding
from attestation.eventlog.errors import EventLogFinding
from attestation.findings import Finding, Phase, Severity
from attestation.log_checks import log_checks
from attestation.policy import Policy, load_policy
from attestation.report import Report
from attestation.verified import Verified
from attestation.whatif_fields import proposed
from manifests.errors import StrongroomError

PRESET_NAMES: Final = ("strict", "production")
"""The presets for hardware; that for simulation says nothing about anything else."""


@dataclass(frozen=True)
class Preset:
    """What a policy under a preset makes of the evidence.

    refused: codes of the checks that fail.  excluded: why the policy does not load under the preset; None: it does.
    """

    name: str
    refused: tuple[str, ...]
    excluded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        passes = not self.refused and self.excluded is None
        return {"preset": self.name, "passes": passes, "refused": list(self.refused), "excluded": self.excluded}


@dataclass(frozen=True)
class Changes:
    """The changes under which a refusal becomes a pass.

    remaining: codes that no change of the policy helps.  excluded: changes for some of these that the policy cannot
    have, such as those that its preset rules out.
    """

    changes: tuple[Change, ...]
    remaining: tuple[str, ...]
    excluded: tuple[Excluded, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer for programs."""
        return {
            "passes": not self.remaining,
            "changes": [change.to_dict() for change in self.changes],
            "remaining": list(self.remaining),
            "excluded": [each.to_dict() for each in self.excluded],
        }


def under_presets(report: Report) -> tuple[Preset, ...]:
    """Appraise the evidence under the policy with each preset for hardware; without a policy, under one that names it.

    Empty for what is not genuine, and for simulated platforms, which such a preset never accepts.
    """
    if report.verified is None or not report.genuine or report.verified.simulated:
        return ()
    return tuple(_under(report, report.verified, name) for name in PRESET_NAMES)


def _under(report: Report, verified: Verified, name: str) -> Preset:
    """Load the policy under another preset, and appraise; without a policy, one that names what the evidence shows."""
    try:
        policy = load_policy(draft(_parts(report), name) if report.policy is None else report.policy.written(name))
    except StrongroomError as error:
        return Preset(name, (), reason(error))
    return Preset(name, _refused(_judged(report, verified, policy)))


def least_changes(report: Report) -> Changes | None:
    """Find the changes that make the policy accept; None where it does, or is not the reason.

    Each change is tried: the policy has to load with it, under its own preset, and only what helps its check is kept.
    """
    if report.policy is None or report.verified is None or not report.genuine or report.accepted:
        return None
    changes = tuple(widest(proposed(report.refused, report.policy, *_parts(report))))
    tried = with_all(report.policy, changes)
    excluded, remaining = tried.excluded, _refused(_judged(report, report.verified, tried.policy))
    while any(change.code in remaining for change in tried.made):
        tried = with_all(report.policy, tuple(change for change in tried.made if change.code not in remaining))
        excluded, remaining = excluded + tried.excluded, _refused(_judged(report, report.verified, tried.policy))
    made = _marked(tried.made, _judged(report, report.verified, tried.policy))
    return Changes(made, remaining, tuple(each for each in excluded if each.change.code in remaining))


def _marked(changes: tuple[Change, ...], after: tuple[Finding, ...]) -> tuple[Change, ...]:
    """Mark the changes whose check now passes with a warning: the checks say what is dangerous, for verdicts, too.

    What undoes a refusal by name leaves nothing to warn of afterwards, and is marked, too.
    """
    warned = {str(finding.code) for finding in after if finding.severity is Severity.WARNING}
    return tuple(
        replace(change, dangerous=change.code in warned or change.field in REFUSED_BY_NAME) for change in changes
    )


def _parts(report: Report) -> tuple[Verified, ...]:
    """Return everything that was appraised, with the devices beside a processor."""
    return tuple(part for each in (report.verified, report.devices) if each is not None for part in each.parts)


def _judged(report: Report, verified: Verified, policy: Policy) -> tuple[Finding, ...]:
    """Judge all evidence anew under a policy; what no policy changes is as the report has it."""
    together = joined(verified, report.gpu, report.devices, report.session, decided=True)
    again = {each.code for each in together}
    fixed = tuple(each for each in report.findings if _is_fixed(each) and each.code not in again)
    fixed = (*fixed, *together, *_of_log(report, policy))
    found = appraise(verified, policy, report.now, report_data=report.report_data).findings
    if report.devices is None:
        return (*found, *fixed)
    asked = None if report.session is None else report.session.asked
    return (*found, *fixed, *appraise(report.devices, policy, report.now, report_data=asked, beside=True).findings)


def _is_fixed(finding: Finding) -> bool:
    """Tell whether a finding is the same under every policy; a given log's checks are made anew."""
    of_log = isinstance(finding.code, EventLogFinding)
    return isinstance(finding.code, SessionFinding) or (finding.phase is Phase.VERIFY and not of_log)


def _of_log(report: Report, policy: Policy) -> tuple[Finding, ...]:
    """Hold a log that was given against the registers, as a policy admits PCRs that it lacks events for.

    One that cannot be replayed has a code of its own among the findings, under every policy.
    """
    if report.event_log is None or report.evidence is None:
        return ()
    with contextlib.suppress(EvidenceError):
        return log_checks(report.event_log, report.evidence, policy)
    return ()


def _refused(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    refused = (str(finding.code) for finding in findings if finding.severity is Severity.REFUSAL)
    return tuple(dict.fromkeys(refused))
