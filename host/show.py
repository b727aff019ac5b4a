"""What the operator sees: status, models and findings as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from host.guard.finding import Finding, Severity
from manifests.plain import printable

STATE_STYLE = {"ready": "green", "starting": "yellow", "stopping": "yellow", "backing-off": "yellow", "failed": "red"}
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Return a number of bytes in words."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.1f} {UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Return a span of time in words."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_status(console: Console, status: Mapping[str, Any]) -> None:
    """Print what an agent says of itself."""
    relay = status["relay"]
    console.print(f"host agent  process {status['pid']}, up {duration(status['uptime'])}, home {status['home']}")
    console.print(f"platform    [bold yellow]{status['class']}[/]")
    console.print(f"listening   {', '.join(status['listening'])}", highlight=False, soft_wrap=True)
    console.print(f"models      {status['models']} sealed, {status['models_unusable']} unusable")
    draining = "  [yellow]draining[/]" if relay["draining"] else ""
    console.print(f"clients     {relay['connections']} connected, {relay['sessions']} sessions{draining}")
    for deployment in status["deployments"]:
        _print_deployment(console, deployment)
    if relay["refusals"]:
        refusals = ", ".join(f"{code} {count}" for code, count in sorted(relay["refusals"].items()))
        console.print(f"refused     {refusals}", highlight=False)


def _print_deployment(console: Console, one: Mapping[str, Any]) -> None:
    style = STATE_STYLE.get(one["state"], "white")
    since = f" for {duration(one['ready_seconds'])}" if one["ready_seconds"] is not None else ""
    frames = one.get("frames_in", 0) + one.get("frames_out", 0)
    volume = one.get("bytes_in", 0) + one.get("bytes_out", 0)
    console.print(
        f"enclave     [bold]{one['route']}[/]  [{style}]{one['state']}[/]{since}  [bold yellow]{one['class']}[/]"
        f"  process {one['pid'] or '-'}, {one['restarts']} restarts{_role(one)}"
    )
    sessions = f"{one.get('sessions', 0)} open, room for {one.get('places', 0)}"
    console.print(f"  sessions  {sessions}, {frames} frames, {size(volume)}")
    if isinstance(one["mrenclave"], str):
        console.print(f"  mrenclave {one['mrenclave']}", markup=False, highlight=False, soft_wrap=True)
        _print_confinement(console, one["confinement"])
    _print_trouble(console, one)


def _role(one: Mapping[str, Any]) -> str:
    """Return what tells the processes of a deployment apart, nothing where there is one."""
    if one["processes"] == 1:
        return ""
    return f", number {one['process']}, {'serving' if one['serving'] else 'spare'}"


def _print_confinement(console: Console, layers: Mapping[str, int]) -> None:
    if layers and all(layers.values()):
        told = ", ".join(f"{name} {version}" for name, version in layers.items())
        console.print(f"  confined  {told}", markup=False, highlight=False)
    else:
        console.print("  [bold red]DANGEROUSLY UNCONFINED[/]: it reads and writes whatever its user may")


def _print_trouble(console: Console, deployment: Mapping[str, Any]) -> None:
    if deployment["unanswered"] > 1:
        console.print(f"  [yellow]silent[/]    {deployment['unanswered']} questions in a row are not answered")
    if deployment["stuck_ends"]:
        console.print(f"  [yellow]stuck[/]     {deployment['stuck_ends']} processes ended: a run could not be stopped")
    refused = deployment["telemetry"].get("refused")
    if refused:
        told = ", ".join(f"{code} {count}" for code, count in sorted(refused.items()))
        console.print(f"  refused   {told}", markup=False, highlight=False)
    last = deployment["last_exit"]
    if last is not None:
        console.print(f"  last exit {last['status']}, {last['reason']}", markup=False)
    for line in deployment["last_lines"]:
        console.print(f"  said      {line}", markup=False, highlight=False, soft_wrap=True)


def print_models(console: Console, answer: Mapping[str, Any]) -> None:
    """Print the sealed models of a folder."""
    table = Table("model", "epoch", "owner", "digest", "file", "size", title=answer["folder"], title_justify="left")
    for one in answer["models"]:
        epoch, volume = str(one["epoch"]), size(one["file_size"])
        table.add_row(one["name"], epoch, one["owner"][:16], one["digest"][:16], Text(printable(one["file"])), volume)
    console.print(table)
    for copy in answer["duplicates"]:
        console.print(f"{printable(copy['file'])}: the same model as {copy['served']}", style="yellow", markup=False)
    for one in answer["rejected"]:
        console.print(
            f"{printable(one['file'])}: {printable(one['message'])} [{one['code']}]", style="red", markup=False
        )


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print every finding, and for those that have not passed what to do."""
    for finding in findings:
        mark, style = _mark(finding)
        console.print(f"[{style}]{mark:<8}[/] {finding.code:<24} ", end="")
        console.print(finding.found, markup=False, highlight=False, soft_wrap=True)
        if not finding.passed and finding.severity is not Severity.NOTE:
            console.print(f"{'':9}needed: {finding.needed}", markup=False, highlight=False, soft_wrap=True)
            console.print(f"{'':9}do:     {finding.remedy}", markup=False, highlight=False, soft_wrap=True)


def _mark(finding: Finding) -> tuple[str, str]:
    if finding.passed:
        return "ok", "green"
    return {
        Severity.BLOCKING: ("blocking", "red"),
        Severity.WARNING: ("warning", "yellow"),
        Severity.NOTE: ("note", "cyan"),
    }[finding.severity]
