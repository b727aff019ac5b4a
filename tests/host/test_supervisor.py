"""Starting, watching, restarting and ending real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest

from host.link import EnclaveLink
from host.process import StopTimes
from host.relay import Relay
from host.supervisor import Schedule, State, Supervisor
from tests.host.rig import run, until

CHILD = Path(__file__).with_name("platform_child.py")
QUICK = Schedule(ready=20.0, backoff_first=0.01, backoff_cap=0.05, crash_loop=3, stop=StopTimes(5.0, 5.0))


def command(mode: str, host_fd: int, ready_fd: int) -> Sequence[str]:
    return [sys.executable, "-I", "-B", str(CHILD), mode, str(host_fd), str(ready_fd)]


class Case:
    """A supervisor whose enclaves are attached to nothing but a list."""

    def __init__(self, modes: Sequence[str], schedule: Schedule = QUICK) -> None:
        self.modes = list(modes)
        self.attached: list[EnclaveLink | None] = []
        self.relay = Relay()
        self.supervisor = Supervisor(
            "default", self._command, self._connect, self.attached.append, schedule=schedule, jitter=lambda: 0.0
        )

    def _command(self, host_fd: int, ready_fd: int) -> Sequence[str]:
        mode = self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]
        return command(mode, host_fd, ready_fd)

    async def _connect(self, stream: socket.socket, ready: asyncio.Event) -> EnclaveLink:
        def control(_: EnclaveLink, frame: object) -> None:
            ready.set()

        loop = asyncio.get_running_loop()
        link = self.relay.make_link(control)
        await loop.create_connection(lambda: link, sock=stream)
        return link

    async def reach(self, state: State) -> None:
        async with asyncio.timeout(20):
            async for seen in self.supervisor.states():
                if seen is state:
                    return

    def pid(self) -> int:
        assert self.supervisor.process is not None
        return self.supervisor.process.pid


@contextlib.asynccontextmanager
async def supervised(*modes: str, schedule: Schedule = QUICK) -> AsyncIterator[Case]:
    case = Case(modes, schedule)
    task = asyncio.ensure_future(case.supervisor.run())
    try:
        yield case
    finally:
        case.supervisor.kill()
        await task


def test_an_enclave_becomes_ready_and_is_taken_down_when_asked() -> None:
    async def scenario() -> None:
        async with supervised("echo") as case:
            await case.reach(State.READY)
            pid = case.pid()
            assert case.attached[-1] is not None
            assert case.supervisor.process is not None
            await until(lambda: case.supervisor.process.introduction.facts == {"enclave_pid": 4711, "mrenclave": "ab"})
            case.supervisor.stop()
            await case.reach(State.STOPPED)
            assert case.attached[-1] is None
            assert case.supervisor.last_ending.status == 0
            said, stopping = case.supervisor.last_lines
            assert said == "this is echo"
            assert stopping.startswith('{"event": "stopping"')
            assert not psutil.pid_exists(pid)

    run(scenario())


def test_an_enclave_that_is_killed_is_started_again() -> None:
    async def scenario() -> None:
        async with supervised("echo") as case:
            await case.reach(State.READY)
            first = case.pid()
            os.kill(first, signal.SIGKILL)
            await until(lambda: case.supervisor.restarts == 1)
            await case.reach(State.READY)
            assert case.pid() != first
            assert case.supervisor.last_ending.status == 128 + signal.SIGKILL
            assert case.supervisor.last_ending.was_ready

    run(scenario())


def test_an_enclave_that_crashes_again_and_again_is_called_failed_and_still_tried() -> None:
    async def scenario() -> None:
        async with supervised("crash", "crash", "crash", "echo") as case:
            await case.reach(State.FAILED)
            assert case.supervisor.failures == 3
            assert case.supervisor.last_ending.status == 1
            await case.reach(State.READY)
            assert case.supervisor.restarts == 3

    run(scenario())


def test_a_steady_enclave_has_its_failures_forgotten() -> None:
    async def scenario() -> None:
        schedule = Schedule(ready=20.0, backoff_first=0.01, steady=0.0, stop=StopTimes(5.0, 5.0))
        async with supervised("crash", "brief", "echo", schedule=schedule) as case:
            await until(lambda: case.supervisor.restarts == 2)
            assert case.supervisor.failures == 1
            assert case.supervisor.last_ending.status == 3

    run(scenario())


def test_an_enclave_that_is_not_ready_in_time_is_ended_and_started_again() -> None:
    async def scenario() -> None:
        schedule = Schedule(ready=0.6, backoff_first=0.01, stop=StopTimes(5.0, 5.0))
        async with supervised("mute", schedule=schedule) as case:
            await until(lambda: case.supervisor.restarts == 1)
            assert case.supervisor.last_ending.reason == "it was not ready within 0.6 s"
            assert case.supervisor.last_ending.status == 128 + signal.SIGTERM

    run(scenario())


@pytest.mark.parametrize(("mode", "reason"), [("babble", "stream is malformed"), ("hang-up", "ended by itself")])
def test_an_enclave_that_breaks_its_stream_is_started_again(mode: str, reason: str) -> None:
    async def scenario() -> None:
        async with supervised(mode, "echo") as case:
            await until(lambda: case.supervisor.restarts == 1)
            assert reason in case.supervisor.last_ending.reason
            await case.reach(State.READY)

    run(scenario())


def test_an_enclave_that_refuses_to_start_is_known_to_be_hopeless() -> None:
    async def scenario() -> None:
        async with supervised("refuse") as case:
            await case.reach(State.BACKING_OFF)
            assert case.supervisor.hopeless
            assert case.supervisor.last_lines[-1] == "error: a trusted file has changed"

    run(scenario())


@pytest.mark.parametrize(("mode", "status"), [("polite", signal.SIGTERM), ("stubborn", signal.SIGKILL)])
def test_stopping_goes_from_asking_to_terminating_to_killing(mode: str, status: int) -> None:
    async def scenario() -> None:
        schedule = Schedule(ready=20.0, stop=StopTimes(0.1, 0.2))
        async with supervised(mode, schedule=schedule) as case:
            await case.reach(State.READY)
            case.supervisor.stop()
            await case.reach(State.STOPPED)
            assert case.supervisor.last_ending.status == 128 + status

    run(scenario())


def test_a_program_that_does_not_exist_is_a_failure_like_any_other() -> None:
    async def scenario() -> None:
        case = Case(["echo"])
        case.supervisor._command = lambda *_: ["/nonexistent/program"]
        task = asyncio.ensure_future(case.supervisor.run())
        await case.reach(State.BACKING_OFF)
        assert case.supervisor.last_ending.reason.startswith("cannot be started")
        case.supervisor.stop()
        await task

    run(scenario())


def test_secrets_of_the_operators_shell_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with supervised("echo") as case:
            await case.reach(State.READY)
            assert "STRONGROOM_PASSPHRASE" not in psutil.Process(case.pid()).environ()

    monkeypatch.setenv("STRONGROOM_PASSPHRASE", "secret")
    run(scenario())


def test_delays_double_up_to_the_cap_and_jitter_takes_at_most_half() -> None:
    schedule = Schedule(backoff_first=0.5, backoff_cap=30.0)
    assert [schedule.delay(n, 0.0) for n in (1, 2, 3, 7, 10_000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    draw = random.Random(1)
    assert all(1.0 <= schedule.delay(3, draw.random()) <= 2.0 for _ in range(100))


HOST = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from tests.host.test_supervisor import supervised
from host.supervisor import State

async def main():
    async with supervised("echo") as case:
        await case.reach(State.READY)
        print(case.pid(), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_host_that_is_killed_takes_its_enclaves_with_it() -> None:
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", HOST, root], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        enclave = psutil.Process(int(process.stdout.readline()))
        process.kill()
        deadline = time.monotonic() + 10
        while enclave.is_running() and enclave.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
