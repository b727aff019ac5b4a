"""Skips are counted, and in CI a skip that no reviewed list names fails the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REVIEWED = Path(__file__).with_name("reviewed-skips.txt")
_skipped: dict[str, str] = {}


def _record(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped[report.nodeid] = reason


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _record(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _record(report)


def _unreviewed() -> list[str]:
    lines = _REVIEWED.read_text(encoding="utf-8").splitlines()
    reviewed = {line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")}
    return sorted(set(_skipped) - reviewed)


def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if os.environ.get("CI") and not is_worker and _unreviewed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"skips: {len(_skipped)}")
    for nodeid in _unreviewed():
        terminalreporter.write_line(f"  not on the reviewed list: {nodeid}: {_skipped[nodeid]}")
