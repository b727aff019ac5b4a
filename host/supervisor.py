"""Keep one enclave running: start its platform, watch it, start it again when it ends, take it down cleanly.

stopped -> starting -> ready -> stopping -> stopped
              |  ^       |
              v  |       v
           backing-off <-+       after `crash_loop` failures in a row this waiting is called `failed`;
                                 attempts go on at the longest delay
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from host.link import EnclaveLink
from host.process import Command, Connect, EnclaveProcess, StopTimes
from manifests.errors import Fault

_log = logging.getLogger(__name__)

HOPELESS = frozenset(int(fault) for fault in (Fault.USAGE, Fault.REFUSED, Fault.UNSUPPORTED, Fault.MALFORMED))
"""Exit statuses that the same command will give the next time."""


class State(StrEnum):
    """What a deployment is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Schedule:
    """Times of a supervisor, in seconds."""

    ready: float = 60.0
    """From the start of the platform to the enclave's "!ready"."""
    backoff_first: float = 0.5
    """Delay after the first failure; it doubles with each further one."""
    backoff_cap: float = 30.0
    """Longest delay."""
    steady: float = 60.0
    """An enclave that was ready for so long has proved itself: the count of failures begins anew."""
    crash_loop: int = 5
    """Failures in a row after which the state is called `failed`."""
    stop: StopTimes = field(default_factory=StopTimes)

    def delay(self, failures: int, jitter: float) -> float:
        """Return the delay after so many failures; `jitter` in [0, 1) takes up to half of it away."""
        return float(min(self.backoff_cap, self.backoff_first * 2.0 ** min(failures - 1, 32)) * (1 - jitter / 2))


@dataclass(frozen=True)
class Ending:
    """How an enclave's process ended."""

    status: int
    """Exit status, or 128 + signal."""
    reason: str
    when: float
    was_ready: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `host status` shows."""
        return {"status": self.status, "reason": self.reason, "at": round(self.when, 3), "was_ready": self.was_ready}


class Supervisor:
    """Runs a platform's command as often as it takes.

    `attached` is called with the link when the enclave is ready, and with None when it is gone.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        connect: Connect,
        attached: Callable[[EnclaveLink | None], None],
        *,
        schedule: Schedule | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Describe the deployment; `run` starts it."""
        self.name = name
        self.state = State.STOPPED
        self.restarts = 0
        self.failures = 0
        self.ready_since: float | None = None
        self.last_ending: Ending | None = None
        self.last_lines: list[str] = []
        """What the process before this one wrote last."""
        self.process: EnclaveProcess | None = None
        self._command = command
        self._connect = connect
        self._attached = attached
        self._schedule = schedule or Schedule()
        self._jitter = jitter
        self._changed = asyncio.Condition()
        self._stop = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether it was told to take the enclave down."""
        return self._stop.is_set()

    @property
    def hopeless(self) -> bool:
        """Whether the last process refused to start for a reason that another attempt will not change."""
        last = self.last_ending
        return last is not None and not last.was_ready and last.status in HOPELESS

    async def run(self) -> None:
        """Keep the enclave running until `stop`."""
        while not self._stop.is_set():
            await self._run_once()
            if not self._stop.is_set():
                await self._back_off()
        await self._enter(State.STOPPED)

    def stop(self) -> None:
        """Take the enclave down; `run` returns when that is done."""
        self._stop.set()

    def kill(self) -> None:
        """Take the enclave down without asking it."""
        self._stop.set()
        if self.process is not None:
            self.process.kill()

    async def states(self) -> AsyncIterator[State]:
        """Yield the present state, and then each new one; a state that lasts for a moment only may be passed over."""
        seen = None
        while True:
            async with self._changed:
                while self.state is seen:
                    await self._changed.wait()
                seen = self.state
            yield seen

    async def _enter(self, state: State) -> None:
        self.state = state
        self.ready_since = time.time() if state is State.READY else None
        async with self._changed:
            self._changed.notify_all()

    async def _back_off(self) -> None:
        self.failures += 1
        failed = self.failures >= self._schedule.crash_loop
        await self._enter(State.FAILED if failed else State.BACKING_OFF)
        delay = self._schedule.delay(self.failures, self._jitter())
        _log.info("%s: next start in %.1f s", self.name, delay)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay)
        if not self._stop.is_set():
            self.restarts += 1

    async def _run_once(self) -> None:
        """Run one process from its start to its end."""
        await self._enter(State.STARTING)
        try:
            process = await EnclaveProcess.start(self.name, self._command, self._connect)
        except OSError as error:
            self._note(int(Fault.UNAVAILABLE), f"cannot be started: {error.strerror}", was_ready=False)
            return
        self.process = process
        reason = "the host agent failed"
        try:
            reason = await self._watch(process)
        finally:
            if self._stop.is_set():
                await self._enter(State.STOPPING)
            await process.take_down(self._schedule.stop, ask=self._stop.is_set())
            self.process, self.last_lines = None, list(process.output.lines)
            self._note(process.status, reason, was_ready=process.ready.is_set())

    def _note(self, status: int, reason: str, *, was_ready: bool) -> None:
        self.last_ending = Ending(status, reason, time.time(), was_ready)
        level = logging.INFO if self._stop.is_set() else logging.WARNING
        _log.log(level, "%s: the enclave ended with status %d: %s", self.name, status, reason)

    async def _watch(self, process: EnclaveProcess) -> str:
        """Wait until the enclave is ready, and then until it is over; return why it is."""
        ready = asyncio.ensure_future(process.ready.wait())
        over = {asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._stop.wait())}
        try:
            ends: set[asyncio.Future[Any]] = {*over, process.link.lost}
            await asyncio.wait({*ends, ready}, timeout=self._schedule.ready, return_when=asyncio.FIRST_COMPLETED)
            if not any(end.done() for end in ends):
                if not ready.done():
                    return f"it was not ready within {self._schedule.ready:g} s"
                await self._serve(process, ends)
            return self._why(process)
        finally:
            for future in (ready, *over):
                future.cancel()

    async def _serve(self, process: EnclaveProcess, ends: set[asyncio.Future[Any]]) -> None:
        began = time.monotonic()
        self._attached(process.link)
        await self._enter(State.READY)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._attached(None)
            if time.monotonic() - began >= self._schedule.steady:
                self.failures = 0

    def _why(self, process: EnclaveProcess) -> str:
        if self._stop.is_set():
            return "the host took it down"
        error = process.link.lost.result() if process.link.lost.done() else None
        return "it ended by itself" if error is None else error.message
