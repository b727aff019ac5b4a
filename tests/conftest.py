"""Skips are counted, and in CI a skip that no reviewed list names fails the run; dear fixtures are made once.

A whole run that leaves a code of some table unreached fails, too: see tests/testkit/reached.py.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

COMPLETE = importlib.util.find_spec("sqlalchemy") is not None
"""Whether everything of the project can be imported: not in the environment of the exporters."""
if COMPLETE:
    from docs.generate_codes import tables
    from tests.testkit import reached

    reached.watch()

settings.register_profile("untimed", deadline=None)  # what an example takes says more of the machine than of the code
settings.load_profile("untimed")

_REVIEWED = Path(__file__).with_name("reviewed-skips.txt")
_skipped: dict[str, str] = {}
_modules: set[str] = set()
_workers: list[dict[str, Any]] = []
_wrong: list[str] = []

TOGETHER = (
    "tests/deployment/",
    "tests/attestation/test_confinement.py",
    "tests/enclave/test_unlisted.py",
    "tests/gramine/test_render.py",
    "tests/host/test_guard.py",
    "tests/tpm/test_swtpm.py",
)
"""Where tests share what takes seconds to make: each of these runs in one worker."""


def together(nodeid: str) -> str:
    """Return the name of the group that a test runs with: itself, where it shares nothing."""
    return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give tests out to workers by group; pytest no longer lets xdist write its groups into the tests' names."""
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Grouped(config, log) if config.getvalue("dist") == "loadgroup" else None


def _record(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped[report.nodeid] = reason


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _record(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _record(report)
    if report.nodeid.endswith(".py"):
        _modules.add(report.nodeid)


def _unreviewed() -> list[str]:
    lines = _REVIEWED.read_text(encoding="utf-8").splitlines()
    reviewed = {line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")}
    return sorted(set(_skipped) - reviewed)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Keep what a worker of xdist saw."""
    _workers.append(getattr(node, "workeroutput", {}))


def _seen(config: pytest.Config) -> dict[str, Any]:
    """The codes that this process reached, and whether it collected everything."""
    if not COMPLETE:
        return {"reached": [], "whole": False}
    return {"reached": sorted(map(reached.name_of, reached.seen)), "whole": reached.is_whole(config, _modules)}


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput.update(_seen(session.config))
        return
    runs = _workers or [_seen(session.config)]
    if session.exitstatus == pytest.ExitCode.OK and all(run.get("whole") for run in runs):
        _wrong.extend(reached.wrong({name for run in runs for name in run["reached"]}, tables()))
    if _wrong or (os.environ.get("CI") and _unreviewed()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"skips: {len(_skipped)}")
    for nodeid in _unreviewed():
        terminalreporter.write_line(f"  not on the reviewed list: {nodeid}: {_skipped[nodeid]}")
    for line in _wrong:
        terminalreporter.write_line(f"  codes: {line}")
