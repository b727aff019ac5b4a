"""Run an agent until it is told to stop: in the foreground, or detached from the terminal.

A detached agent is a fresh interpreter (`python -I -B -m host.daemon`) that reads its configuration as JSON from
standard input, writes its log to the home folder, and says in one line on a pipe whether it came up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import logging.handlers
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from host.agent import HostAgent
from host.config import HostConfig
from host.enclaves import ATTEMPTS
from host.errors import HostCode, HostError
from host.home import MODE, Home
from host.log import PlainFormatter
from manifests.errors import StrongroomError

LOG_SIZE = 10 * 1024 * 1024
LOG_FILES = 3
MAX_REPORT = 1024 * 1024
"""Bytes of the line in which a detached agent says that it is up."""
MARGIN = 30.0
"""Seconds beyond the enclaves' own time-outs that a detached agent gets to report."""

PROGRAM = (sys.executable, "-I", "-B", "-m", "host.daemon")

OnReady = Callable[[dict[str, Any]], None]


def serve(config: HostConfig, on_ready: OnReady) -> None:
    """Run an agent in this process until a signal or `host down` ends it; raises what `HostAgent.run` raises.

    The first SIGTERM or SIGINT drains and stops it, the second stops it at once.
    """

    async def run() -> None:
        agent = HostAgent(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.stop)
        await agent.run(on_ready)

    asyncio.run(run())


def detach(config: HostConfig) -> dict[str, Any]:
    """Start an agent that outlives this process, and return its status when it is up.

    Raises what kept it from coming up: the agent's own HostError, or `host-failed` if it ended without a word.
    """
    config.check()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        process = _launch(config, writing)
    finally:
        os.close(writing)
    try:
        return _outcome(_read_report(reading, config.ready_timeout * ATTEMPTS + MARGIN), config)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        os.close(reading)
        process.returncode = 0  # an agent that is up is nobody's child: nothing is to be waited for


def _launch(config: HostConfig, report: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*PROGRAM, str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(report,),
        start_new_session=True,
        cwd="/",
    )
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(config.to_json().encode())
    return process


def _read_report(pipe: int, patience: float) -> bytes | None:
    """Return the agent's line, empty if it ended without one, None if it took too long."""
    line, deadline = b"", time.monotonic() + patience
    while not line.endswith(b"\n") and len(line) < MAX_REPORT:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        data = os.read(pipe, 1 << 16)
        if not data:
            break
        line += data
    return line


def _outcome(line: bytes | None, config: HostConfig) -> dict[str, Any]:
    log = Home(config.home).log
    remedy = f"see {log}" if os.access(log, os.R_OK) else None
    if line is None:
        raise HostError(HostCode.ENCLAVE_NOT_READY, "the agent did not come up in time", remedy=remedy)
    try:
        answer = json.loads(line)
    except ValueError:
        raise HostError(HostCode.HOST_FAILED, "the agent ended before it was up", remedy=remedy) from None
    if answer["ok"]:
        return dict(answer["status"])
    error = answer["error"]
    raise HostError(
        {str(member): member for member in HostCode}.get(error["code"], HostCode.HOST_FAILED),
        error["message"],
        expected=error["expected"],
        found=error["found"],
        remedy=error["remedy"] or remedy,
    )


def main() -> int:
    """Be the detached agent: the descriptor to report on is the only argument."""
    report = _Report(int(sys.argv[1]))
    try:
        config = HostConfig.from_json(sys.stdin.read())
        _log_to(Home(config.home))
        serve(config, lambda status: report.send({"ok": True, "status": status}))
    except StrongroomError as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - it says what to do; a trace would not
        report.send({"ok": False, "error": error.to_dict()})
        return error.exit_code
    except Exception:
        logging.getLogger(__name__).exception("the agent failed")
        return 1
    return 0


class _Report:
    """The pipe to the command that waits for the agent; it is told once."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def send(self, value: dict[str, Any]) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError), os.fdopen(self._descriptor, "wb") as pipe:
                pipe.write(json.dumps(value).encode() + b"\n")
            self._descriptor = -1


def _log_to(home: Home) -> None:
    """Log to the home folder, in files of bounded size and number."""
    try:
        home.path.mkdir(mode=MODE, parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(home.log, maxBytes=LOG_SIZE, backupCount=LOG_FILES)
    except OSError as error:
        raise HostError(HostCode.HOME_UNUSABLE, f"the log {home.log} cannot be written: {error.strerror}") from None
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
