"""Commands that end, and parts that run: both are the real `strongroom` command in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evaluation.demo import child
from evaluation.demo.errors import DemoCode, DemoError

COMMAND_SECONDS = 60.0
"""The longest command seals some megabytes."""
STOP_SECONDS = 8.0
"""How long a part may take to end by itself before it is killed."""
_TAIL = 2000

PASSPHRASE = "STRONGROOM_PASSPHRASE"  # noqa: S105 - the variable's name
_NEED_PASSPHRASE = frozenset({"owner", "broker", "seal"})

Shown = Callable[[str], None]
"""Is told every command before it runs."""


def unseen(_: str) -> None:
    """Show nothing."""


class Commands:
    """Runs `strongroom` commands; `shown` is told each before it runs."""

    def __init__(self, passphrase: Path, shown: Shown) -> None:
        """Owner's and broker's commands get the passphrase of the file; paths are shown relative to its folder."""
        self._passphrase = passphrase.read_text().strip()
        self._shown = shown
        self._home = passphrase.parent

    def _environment(self, words: Sequence[str]) -> dict[str, str]:
        """Return a command's environment; the operator's commands are never given the owner's passphrase."""
        secret = {PASSPHRASE: self._passphrase} if words[0] in _NEED_PASSPHRASE else {}
        return {name: value for name, value in os.environ.items() if name != PASSPHRASE} | secret

    def run(self, *arguments: str | Path, expect: Sequence[int] = (0,)) -> str:
        """Run a command to its end and return its standard output; raises DemoError for another exit status."""
        words = self._announce(arguments)
        done = subprocess.run(
            child.command(words),
            env=self._environment(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode not in expect:
            said = (done.stderr or done.stdout).strip()
            raise DemoError(
                DemoCode.COMMAND_FAILED,
                f"strongroom {shlex.join(words[:2])} failed: {said.rpartition(chr(10))[2]}",
                expected=f"exit status {list(expect)}",
                found=f"{done.returncode}: {said[-_TAIL:]}",
            )
        return done.stdout

    def json(self, *arguments: str | Path, expect: Sequence[int] = (0,)) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self.run(*arguments, "--json", expect=expect))

    def start(self, name: str, log: Path, *arguments: str | Path) -> Part:
        """Start a command that runs until it is stopped; its output goes to the file `log`."""
        words = self._announce(arguments)
        with log.open("ab") as output:
            process = subprocess.Popen(
                child.command(words),
                env=self._environment(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demonstration, which then stops its parts in order
            )
        return Part(name, process, log)

    def _announce(self, arguments: Sequence[str | Path]) -> list[str]:
        words = [str(word) for word in arguments]
        self._shown(f"strongroom {shlex.join(words)}".replace(f"{self._home}/", ""))
        return words


class Part:
    """A running process of the deployment."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        """Watch `process`, whose output goes to `log`."""
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def require(self) -> None:
        """Raise DemoError with the end of the log if the process has ended."""
        if not self.running:
            tail = self.log_tail()
            ended = f"the {self.name} ended with status {self._process.returncode}: {tail.rpartition(chr(10))[2]}"
            raise DemoError(DemoCode.PART_FAILED, ended, found=tail)

    def log_tail(self) -> str:
        """Return the end of what the process has printed."""
        return self.log.read_text(errors="replace")[-_TAIL:].strip()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end and return the exit status, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to end, and kill it if it does not; safe to call twice."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(STOP_SECONDS) is None:
                self.kill()


def wait_until(condition: Callable[[], bool], seconds: float, what: str, parts: Sequence[Part] = ()) -> None:
    """Wait until `condition` holds; raises DemoError when time is up or one of the parts has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        for part in parts:
            part.require()
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {part.name}\n{part.log_tail()}" for part in parts)
            raise DemoError(DemoCode.PART_FAILED, f"{what} took longer than {seconds:g} s", found=logs)
        time.sleep(0.05)
