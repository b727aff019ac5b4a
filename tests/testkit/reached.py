"""Which codes a run of the tests really reached: members that the project itself put into an error or a failed check.

A code that a test only names, or makes an error of by itself, was not reached, and a check that passed says nothing of
its refusal.  What processes of their own raise is not seen here: their codes are reached in this process, too, or are
reviewed.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from attestation.broker.decide import Unmet
from attestation.broker.errors import BrokerCode
from attestation.findings import Finding as EvidenceFinding
from attestation.findings import Severity
from host.guard.finding import Finding as GuardFinding
from manifests.errors import ErrorCode, StrongroomError

TESTS = Path(__file__).resolve().parents[1]
REVIEWED = TESTS / "reviewed-codes.txt"
_FOREIGN = f"{TESTS}/"
_UNASKED = ("keyword", "deselect", "lf", "failedfirst", "newfirst", "stepwise", "ignore", "ignore_glob")
"""Options that make a run one of some tests."""

_TOLD = frozenset({Severity.REFUSAL, Severity.WARNING})
"""A check that passed, or that only a policy could decide, was not seen to refuse."""

_OF_RELEASES = {str(code): code for code in BrokerCode}
"""A broker's refusal of a release carries the code's text."""

seen: set[ErrorCode] = set()


def watch() -> None:
    """Note every code from now on; what was seen once costs a look into a set."""
    _wrap(StrongroomError, lambda _, code, *__, **___: code)
    _wrap(EvidenceFinding, lambda finding, *_, **__: finding.code if finding.severity in _TOLD else None)
    _wrap(Unmet, lambda refused, *_, **__: _OF_RELEASES.get(refused.code))
    _wrap(GuardFinding, lambda finding, *_, **__: None if finding.passed else finding.code)


def _wrap(kind: Any, code_of: Any) -> None:
    made = kind.__init__

    @functools.wraps(made)
    def init(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        code = code_of(self, *arguments, **named)
        if code is not None and code not in seen and not _is_made_by_a_test(self, sys._getframe(1)):
            seen.add(code)

    kind.__init__ = init


def _is_made_by_a_test(made: Any, frame: FrameType | None) -> bool:
    """Whether whoever calls the constructor, and those of its subclasses, is a test."""
    while frame is not None and (
        frame.f_locals.get("self") is made or frame.f_code.co_filename == dataclasses.__file__
    ):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename.startswith(_FOREIGN)


def name_of(code: ErrorCode) -> str:
    """Return "Table.NAME"."""
    return f"{type(code).__name__}.{code.name}"


def reviewed() -> dict[str, str]:
    """Return the codes that no run in one process reaches, with the reason of each."""
    lines = [line for line in REVIEWED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name.strip(): reason.strip() for name, _, reason in (line.partition(" # ") for line in lines)}


def is_whole(config: pytest.Config, modules: set[str]) -> bool:
    """Whether these collected modules are all that there are, and no option leaves out a test that runs by default."""
    every = {str(path.relative_to(TESTS.parent)) for path in TESTS.rglob("test_*.py")}
    chosen = any(getattr(config.option, option, None) for option in _UNASKED) or any("::" in arg for arg in config.args)
    return not chosen and config.option.markexpr in config.getini("addopts") and every <= modules


def wrong(reached: set[str], tables: list[type[ErrorCode]]) -> list[str]:
    """Return what a whole run should not have left: codes never reached, and reviewed ones that are, or are none."""
    every = {name_of(code) for table in tables for code in table}
    listed = reviewed()
    return [
        *(f"no test reached it: {name}" for name in sorted(every - reached - listed.keys())),
        *(f"reached, so it need not be reviewed: {name}" for name in sorted(listed.keys() & reached)),
        *(f"reviewed, and no code: {name}" for name in sorted(listed.keys() - every)),
        *(f"reviewed without a reason: {name}" for name, reason in sorted(listed.items()) if not reason),
    ]
