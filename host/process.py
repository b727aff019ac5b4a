"""One process of the simulated platform: its start, its stream, its output and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from attestation.wire.frames import ROUTE_STOP
from host.link import EnclaveLink
from host.output import ChildOutput, Introduction

_log = logging.getLogger(__name__)

INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Environment that the platform is given; passphrases and credentials of the operator's shell stay behind."""

SETTLE = 2.0
"""Seconds that a process which has closed its stream gets to end by itself."""

Command = Callable[[int, int], Sequence[str]]
"""Gives the argument list that starts a platform, from the descriptors of the host's stream and of a pipe on which
the platform says in one line of JSON which enclave it has started."""

Connect = Callable[[socket.socket, asyncio.Event], Awaitable[EnclaveLink]]
"""Makes the relay's end of a new enclave's stream, which sets the event when the enclave says "!ready"."""


@dataclass(frozen=True)
class StopTimes:
    """How long each step of taking a process down may take, in seconds."""

    stop: float = 10.0
    """From "!stop" to SIGTERM."""
    terminate: float = 5.0
    """From SIGTERM to SIGKILL."""


class EnclaveProcess:
    """A started platform with its enclave; made by `start`."""

    def __init__(
        self,
        process: Process,
        link: EnclaveLink,
        ready: asyncio.Event,
        output: ChildOutput,
        introduction: Introduction,
    ) -> None:
        """Tie together what belongs to one start."""
        self.link = link
        self.ready = ready
        self.output = output
        self.introduction = introduction
        self._process = process

    @classmethod
    async def start(cls, name: str, command: Command, connect: Connect) -> EnclaveProcess:
        """Start a process with one end of a new stream; raises OSError if that cannot be done."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            process = await _spawn(command(theirs.fileno(), writing), (theirs.fileno(), writing))
        except BaseException:
            ours.close()
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        ready = asyncio.Event()
        link = await connect(ours, ready)
        _log.info("%s: started the platform as process %d", name, process.pid)
        output = ChildOutput(name, process.stdout or asyncio.StreamReader())
        return cls(process, link, ready, output, Introduction(reading))

    @property
    def pid(self) -> int:
        """Process id of the platform; the enclave is its child."""
        return self._process.pid

    @property
    def status(self) -> int:
        """Exit status of an ended process, or 128 + signal."""
        code = self._process.returncode or 0
        return 128 - code if code < 0 else code

    async def wait(self) -> None:
        """Wait for the end of the process."""
        await self._process.wait()

    def kill(self) -> None:
        """End the platform and everything that it has started, at once."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def take_down(self, times: StopTimes, *, ask: bool) -> None:
        """End the process: "!stop" if `ask`, then SIGTERM, then SIGKILL, each after its time; then collect it."""
        if ask and not self.link.closed:
            self.link.send(ROUTE_STOP, 0, b"")
        if not await self._ended_within(times.stop if ask else self._settling()):
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            if not await self._ended_within(times.terminate):
                _log.warning("process %d ignores SIGTERM and is killed", self.pid)
                self.kill()
                await self._process.wait()
        self.link.abort()
        await self.output.finish()
        self.introduction.close()

    def _settling(self) -> float:
        """Return the time to end by itself: none for a process that still serves, or whose stream was given up."""
        lost = self.link.lost
        return SETTLE if lost.done() and lost.result() is None else 0.0

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        return self._process.returncode is not None


async def _spawn(command: Sequence[str], descriptors: tuple[int, ...]) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        pass_fds=descriptors,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={name: os.environ[name] for name in INHERITED if name in os.environ},
        start_new_session=True,  # an interrupt in the terminal is the host's to handle
    )
