"""Commands within the test's own process: an interpreter for each takes most of the time that a deployment takes.

The demonstration and the tutorial run them as their users do; whoever needs a deployment only to attack it does not.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

import strongroom
from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.processes import Commands

_as_process = Commands.run


@contextlib.contextmanager
def commands_in_this_process() -> Iterator[None]:
    """Run commands that end here, for as long as the body takes; parts of a deployment stay processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Commands, "run", _run_here)
        yield


def _run_here(commands: Commands, *arguments: str | Path, expect: Sequence[int] = (0,)) -> str:
    """Do as `Commands.run` does."""
    if list(arguments[:2]) == ["broker", "serve"]:  # it listens for signals
        return _as_process(commands, *arguments, expect=expect)
    words = commands._announce(arguments)
    said, complained = io.StringIO(), io.StringIO()
    environment = mock.patch.dict(os.environ, commands._environment(words), clear=True)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained), environment:
        status = _status(words)
    if status not in expect:
        raise DemoError(DemoCode.COMMAND_FAILED, f"{words} failed", found=complained.getvalue() or said.getvalue())
    return said.getvalue()


def _status(words: list[str]) -> int:
    with mock.patch.object(sys, "argv", ["strongroom", *words]):
        try:
            return strongroom._run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
