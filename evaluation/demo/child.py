"""Runs one `strongroom` command as a child that cannot outlive its parent.

    python -m evaluation.demo.child PARENT_PID ARGUMENTS...

The kernel ends the child when its parent dies in whatever way (prctl(2), PR_SET_PDEATHSIG; it survives execve), so a
demonstration that is killed leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(arguments: list[str]) -> list[str]:
    """Return the argument list that runs `strongroom ARGUMENTS` as a child of this process."""
    return [sys.executable, "-m", "evaluation.demo.child", str(os.getpid()), *arguments]


def _run(parent: int, arguments: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the request was made
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", "strongroom", *arguments])  # noqa: S606 - a fixed program and a list


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
