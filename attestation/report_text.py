"""A report on a screen or in a pipe: the verdict, every check as a row, and what to do about those that refuse."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from attestation.errors import EvidenceCode, FindingCode, SessionFinding
from attestation.findings import Finding
from attestation.report import Report
from attestation.tees import BY_NAME
from attestation.validity import ending, rfc3339
from manifests.plain import printable
from manifests.show import print_rows

_MARKS: Final = {"ok": "ok", "warning": "permitted", "open": "open", "refusal": "refused"}
_COLORS: Final = {"ok": "green", "permitted": "yellow", "open": "cyan", "refused": "red"}
NOT_IDENTITY: Final = "No policy: this shows that the evidence is GENUINE, and not WHOSE CODE it is of."
_WIDEST: Final = 40
_NAMES: Final = 8
"""Files that a line names; JSON has all."""


def print_report(report: Report) -> None:
    """Print the verdict, the checks, and the next steps."""
    word, color = ("ACCEPTED", "green") if report.accepted else ("REFUSED", "red")
    click.echo(f"{click.style(word, fg=color, bold=True)}  {printable(subject(report))}")
    for line in facts(report):
        click.echo(printable(line))
    parts = any(finding.part for finding in report.findings)
    rows = [_row(finding, parts=parts) for finding in report.findings]
    print_rows([("", "check", *(["of"] if parts else []), "expected", "found"), *rows], _COLORS)
    told = (f"{click.style(str(each.code), fg='red')}: {printable(str(each.remedy))}" for each in report.refused)
    for line in dict.fromkeys(told):
        click.echo(line)
    if report.passed_over:
        click.echo(f"passed over, as they hold no collateral: {printable(_some(report.passed_over))}")
    if report.policy is None and report.genuine:
        click.secho(NOT_IDENTITY, fg="yellow", bold=True)


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return ", ".join([*names[:_NAMES], *more])


def subject(report: Report) -> str:
    """Return what the evidence is, in a few words."""
    found = report.evidence
    if found is None:
        return _unparsed(report)
    if report.verified is None:
        return f"{BY_NAME[found.tee].title} v{found.version}, platform unknown"
    platform = "SIMULATED" if report.verified.simulated else "hardware"
    return f"{BY_NAME[found.tee].title} v{found.version}, {platform} platform"


def _unparsed(report: Report) -> str:
    """Say what bytes are that do not parse: they may begin as evidence does."""
    if report.tee is not None:
        return f"{BY_NAME[report.tee].title}, by how it begins; it does not parse"
    if report.error is None or report.error.code is EvidenceCode.EVIDENCE_UNKNOWN:
        return "not evidence of any platform that is handled"
    return "no one piece of evidence that can be taken out of what is around it"


def facts(report: Report) -> Iterator[str]:
    """Yield what stands above the checks, a line each."""
    if report.wrapping:
        yield f"unwrapped: {'; '.join(report.wrapping)}"
    if report.gpu is not None:
        yield f"evidence of devices came with it, and is judged below; {devices(report)}"
    verified = report.verified
    if report.as_of is not None:
        yield f"dates do not hold at {rfc3339(report.now)}; everything else is as of {rfc3339(report.as_of)} (--at)"
    if verified is not None:
        status = "" if verified.tcb_status is None else f"TCB {verified.tcb_status}; "
        end = ending(verified.expires)
        yield status + ("nothing of it expires" if end is None else f"the collateral expires at {end}")


def devices(report: Report) -> str:
    """Say whether the evidence binds the devices whose evidence lies beside it."""
    if report.session is None:
        return "nothing here says that the two belong together: that takes the claims of the session (--claims)"
    binding = {FindingCode.REPORT_DATA, *SessionFinding}
    if report.devices is not None and all(each.passed for each in report.findings if each.code in binding):
        return "the two belong together: the quote covers claims that name them"
    return "the two do NOT belong together"


def flatten(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return nested maps as rows of dotted names, printable; what takes several lines is left out."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += flatten(f"{prefix}{name}.", value)
        elif "\n" not in str(value):
            rows.append((printable(prefix + name), printable(str(value))))
    return rows


def _row(finding: Finding, *, parts: bool) -> tuple[str, ...]:
    of = (finding.part or "",) if parts else ()
    return (_MARKS[finding.severity], str(finding.code), *of, _short(finding.expected), _short(finding.found))


def _short(text: str) -> str:
    """Shorten a long value where a person looks at a table; a file, a pipe and `--json` get all of it."""
    return text if len(text) <= _WIDEST or not sys.stdout.isatty() else f"{text[:12]}...{text[-12:]}"
