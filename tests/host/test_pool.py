"""Several processes of one deployment, each a real one: which serves, and what happens to one that is stuck."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from host.agent import HostAgent
from host.config import MAX_PROCESSES, HostConfig
from host.errors import HostCode, HostError
from host.limits import Limits
from tests.host.rig import Wire, run, until
from tests.host.test_agent import QUICK, prepare
from tests.host.test_supervisor import command


def several(folder: Path, processes: int) -> HostConfig:
    config = prepare(folder)
    return replace(config, deployments=(replace(config.deployments[0], processes=processes),))


@contextlib.asynccontextmanager
async def up(config: HostConfig, mode: str, **limits: float) -> AsyncIterator[HostAgent]:
    agent = HostAgent(
        config, schedule=QUICK, limits=Limits(**limits), command=lambda host, ready: command(mode, host, ready)
    )
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(agent.run(ready.set_result))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield agent
    finally:
        agent.stop()
        agent.stop()
        await asyncio.wait({task})


async def client(agent: HostAgent) -> Wire:
    path = str(agent.listening[0]).removeprefix("unix:")
    return Wire(*await asyncio.open_unix_connection(path, limit=1 << 22))


def serving(agent: HostAgent) -> list[int]:
    return [one["process"] for one in agent.status()["deployments"] if one["serving"]]


def test_one_process_serves_and_each_is_reached_by_a_route_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(several(tmp_path, 3), "echo") as agent:
            assert len(serving(agent)) == 1
            wire = await client(agent)
            for sid, route in enumerate(("default", "default.1", "default.2", "default.3"), 1):
                await wire.send(route, sid, b"hello")
                assert await wire.frame() == (route, sid, b"hello")
            assert [len(enclave.link.streams) for enclave in agent.enclaves if enclave.link] in (
                [2, 1, 1],
                [1, 2, 1],
                [1, 1, 2],
            )
            await wire.send("default.4", 9, b"hello")
            assert await wire.refusal(9) == "route-unknown"
            wire.close()
            assert {one["state"] for one in agent.status()["deployments"]} == {"ready"}

    run(scenario())


def test_a_process_that_is_stuck_serves_no_new_session_and_is_ended(tmp_path: Path) -> None:
    """It says so by a count; its open session goes on for a while, for what it says inside, and then is lost."""

    async def scenario() -> None:
        async with up(several(tmp_path, 2), "stuck", stuck_grace=0.5) as agent:
            (first,) = serving(agent)
            before = agent.enclaves[first - 1].supervisor.process
            old, new = await client(agent), await client(agent)
            await old.send("default", 1, b"get stuck")
            assert await old.frame() == ("default", 1, b"get stuck")
            await until(lambda: serving(agent) == [3 - first])
            await old.send("default", 1, b"still there")
            assert await old.frame() == ("default", 1, b"still there")
            await new.send("default", 1, b"hello")
            assert await new.frame() == ("default", 1, b"hello")
            assert await old.refusal(1) == "enclave-lost"
            enclave = agent.enclaves[first - 1]
            await until(lambda: enclave.link is not None and enclave.supervisor.process is not before)
            assert serving(agent) == [3 - first]
            told = agent.status()["deployments"][first - 1]
            assert (told["stuck_ends"], told["restarts"]) == (1, 1)
            await new.send("default", 1, b"and on")
            assert await new.frame() == ("default", 1, b"and on")
            old.close()
            new.close()

    run(scenario())


def test_without_a_spare_a_stuck_process_is_ended_too_and_the_route_waits_for_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(several(tmp_path, 1), "stuck", stuck_grace=0.3) as agent:
            wire = await client(agent)
            await wire.send("default", 1, b"get stuck")
            await wire.frame()
            await until(lambda: serving(agent) == [])
            await wire.send("default", 2, b"hello")
            assert await wire.refusal(2) == "enclave-down"
            assert await wire.refusal(1) == "enclave-lost"
            await until(lambda: serving(agent) == [1])
            wire.close()

    run(scenario())


@pytest.mark.parametrize("processes", [0, MAX_PROCESSES + 1])
def test_a_deployment_of_no_or_too_many_processes_is_refused(tmp_path: Path, processes: int) -> None:
    with pytest.raises(HostError) as error:
        several(tmp_path, processes).check()
    assert error.value.code is HostCode.CONFIGURATION_INVALID


def test_a_route_that_another_deployments_process_has_is_refused(tmp_path: Path) -> None:
    config = several(tmp_path, 2)
    other = replace(config.deployments[0], route="default.2", processes=1)
    with pytest.raises(HostError) as error:
        replace(config, deployments=(*config.deployments, other)).check()
    assert error.value.code is HostCode.CONFIGURATION_INVALID


def test_a_configuration_survives_its_way_to_a_detached_agent(tmp_path: Path) -> None:
    config = replace(several(tmp_path, 2), metrics="tcp:127.0.0.1:0", otlp="http://127.0.0.1:4318/v1/metrics")
    assert HostConfig.from_json(config.to_json()) == config
