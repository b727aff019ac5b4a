"""An agent as a whole, with a real process for its platform."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from attestation.errors import WireError
from attestation.wire.address import parse_address
from host import enclaves
from host.admin import ask
from host.agent import HostAgent
from host.config import Deployment, HostConfig
from host.errors import HostCode, HostError
from host.home import Home
from host.process import StopTimes
from host.supervisor import Schedule
from tests.host.rig import Wire, run, until
from tests.host.test_supervisor import CHILD
from tests.manifests.small import small

QUICK = Schedule(ready=20.0, backoff_first=0.01, backoff_cap=0.05, stop=StopTimes(5.0, 5.0))


def prepare(folder: Path, *listen: str, **changes: Any) -> HostConfig:
    """Write what a configuration names, and return it."""
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "small.sealed").write_bytes(small().data)
    (folder / "enclave.manifest").write_text("stands in for one")
    deployment = Deployment("default", folder / "enclave.manifest", folder / "home" / "platform")
    listen = listen or (f"unix:{folder / 'host.sock'}",)
    return HostConfig(folder / "home", folder / "models", listen, (deployment,), **{"drain_timeout": 5.0, **changes})


@dataclass
class Up:
    agent: HostAgent
    status: dict[str, Any]
    task: asyncio.Task[None]

    async def client(self) -> Wire:
        path = str(self.agent.listening[0]).removeprefix("unix:")
        return Wire(*await asyncio.open_unix_connection(path, limit=1 << 22))

    async def ask(self, operation: str) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(None, ask, self.agent.home.admin_socket, operation)

    async def end(self) -> None:
        self.agent.stop()
        await self.task


def make(config: HostConfig, mode: str = "echo") -> HostAgent:
    def command(host_fd: int, ready_fd: int) -> Sequence[str]:
        return [sys.executable, "-I", "-B", str(CHILD), mode, str(host_fd), str(ready_fd)]

    return HostAgent(config, schedule=QUICK, command=command)


@contextlib.asynccontextmanager
async def up(config: HostConfig, mode: str = "echo") -> AsyncIterator[Up]:
    agent, ready = make(config, mode), asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(agent.run(ready.set_result))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield Up(agent, ready.result(), task)
    finally:
        agent.stop()
        agent.stop()
        await asyncio.wait({task})


def test_an_agent_comes_up_carries_frames_and_goes_down_without_a_trace(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            (deployment,) = made.status["deployments"]
            assert (deployment["state"], deployment["class"], made.status["models"]) == ("ready", "SIMULATED", 1)
            assert deployment["boot_id"] == "07" * 16
            assert deployment["places"] == 56, "of the 64 that the enclave says it admits"
            client = await made.client()
            await client.send("default", 1, b"there and back")
            assert (await client.frame()).body == b"there and back"
            client.close()
            pid = deployment["pid"]
            await made.end()
            assert not psutil.pid_exists(pid)
            assert [path.name for path in made.agent.home.path.iterdir()] == ["host.pid"]
            assert not os.path.exists(tmp_path / "host.sock")  # noqa: ASYNC240, PTH110 - a call of no duration

    run(scenario())


def test_a_peer_at_one_listener_is_another_at_the_next(tmp_path: Path) -> None:
    """So a listener of its own, which only its user reaches, keeps the broker's places apart."""

    async def scenario() -> None:
        config = prepare(tmp_path)
        private = f"unix:{tmp_path / 'private.sock'}"
        async with up(replace(config, listen=(*config.listen, private))) as made:
            paths = [str(tmp_path / name) for name in ("host.sock", "private.sock")]
            wires = [Wire(*await asyncio.open_unix_connection(path)) for path in paths]
            for client in wires:
                await client.send("default", 1, b"x")
                await client.frame()
            holders = {one.holder[:2] for one in made.agent.relay.clients}
            user = f"uid {os.getuid()}"
            assert holders == {(config.listen[0], user), (private, user)}
            for client in wires:
                client.close()

    run(scenario())


def test_the_admin_interface_tells_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await client.frame()
            await until(lambda: "enclave" in made.agent.enclaves[0].to_dict())
            status = await made.ask("status")
            (deployment,) = status["deployments"]
            assert (deployment["sessions"], deployment["enclave_pid"], deployment["mrenclave"]) == (1, 4711, "ab")
            assert status["relay"]["frames_in"] == 1
            assert status["listening"] == [f"unix:{tmp_path / 'host.sock'}"]
            assert [one["name"] for one in (await made.ask("models"))["models"]] == ["small"]
            client.close()

    run(scenario())


def test_the_enclaves_own_counters_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            await until(lambda: made.agent.enclaves[0].to_dict()["enclave"] == {"open": 5})

    monkeypatch.setattr(enclaves, "STATS_EVERY", 0.01)
    run(scenario())


def test_an_enclave_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            (enclave,) = made.agent.enclaves
            os.kill(made.status["deployments"][0]["pid"], signal.SIGSTOP)
            await until(lambda: enclave.to_dict()["unanswered"] > 1)
            await until(lambda: (enclave.supervisor.restarts, enclave.supervisor.state) == (1, "ready"))
            assert "has not answered" in enclave.supervisor.last_ending.reason
            await until(lambda: enclave.to_dict()["enclave"] == {"open": 5})

    monkeypatch.setattr(enclaves, "STATS_EVERY", 0.05)
    monkeypatch.setattr("tests.host.test_agent.QUICK", replace(QUICK, stop=StopTimes(0.2, 0.2)))
    run(scenario())


def test_an_enclave_that_answers_anything_is_not_taken_for_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            (enclave,) = made.agent.enclaves
            await until(lambda: enclave.to_dict()["frames_in"] > 40)
            assert enclave.supervisor.restarts == 0
            assert enclave.to_dict()["unanswered"] <= enclaves.MAX_UNANSWERED

    monkeypatch.setattr(enclaves, "STATS_EVERY", 0.01)
    run(scenario())


def test_a_killed_enclave_comes_back_and_clients_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await client.frame()
            os.kill(made.status["deployments"][0]["pid"], signal.SIGKILL)
            assert await client.refusal(1) == "enclave-lost"
            supervisor = made.agent.enclaves[0].supervisor
            await until(lambda: (supervisor.restarts, supervisor.state) == (1, "ready"))
            await client.send("default", 2, b"again")
            assert (await client.frame()).body == b"again"
            client.close()

    run(scenario())


def test_control_frames_that_are_nonsense_do_not_stop_an_enclave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path), "fetch") as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            assert (await client.frame()).body == b"x"
            client.close()

    run(scenario())


def test_drain_takes_no_new_sessions_and_keeps_the_old(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path)) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await client.frame()
            assert await made.ask("drain") == {"sessions": 1, "unanswered": 0}
            await client.send("default", 2, b"y")
            assert await client.refusal(2) == "host-draining"
            await client.send("default", 1, b"z")
            assert (await client.frame()).body == b"z"
            client.close()

    run(scenario())


def test_going_down_waits_for_requests_under_way_but_not_beyond_its_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, drain_timeout=0.4), "silent") as made:
            client = await made.client()
            await client.send("default", 1, b"never answered")
            await until(lambda: made.agent.relay.unanswered == 1)
            began = asyncio.get_running_loop().time()
            await made.end()
            assert 0.3 < asyncio.get_running_loop().time() - began < 5
            client.close()

    run(scenario())


def test_an_idle_session_does_not_hold_the_agent_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, drain_timeout=60.0)) as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await client.frame()
            await made.end()
            assert await client.error() == (1, "enclave-lost")
            client.close()

    run(scenario())


def test_a_second_stop_waits_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, drain_timeout=60.0), "stubborn") as made:
            client = await made.client()
            await client.send("default", 1, b"x")
            await until(lambda: made.agent.relay.unanswered == 1)
            assert (await made.ask("down"))["drain_timeout"] == 60.0
            await made.ask("down")
            await made.task
            client.close()

    run(scenario())


@pytest.mark.parametrize(("mode", "said"), [("refuse", "a trusted file has changed"), ("crash", "this is crash")])
def test_an_enclave_that_does_not_start_ends_the_agent_with_its_last_words(
    tmp_path: Path, mode: str, said: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(HostError) as refused:
            async with up(prepare(tmp_path), mode):
                pass
        assert refused.value.code is HostCode.ENCLAVE_NOT_READY
        assert said in str(refused.value.found)
        assert not Home(tmp_path / "home").is_locked()

    run(scenario())


def test_a_report_that_is_malformed_ends_the_enclave(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(HostError) as refused:
            async with up(prepare(tmp_path), "liar"):
                pass
        assert "report is malformed" in str(refused.value.found)

    run(scenario())


def test_an_agent_that_is_stopped_while_it_starts_goes_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = make(prepare(tmp_path), "mute")
        task = asyncio.ensure_future(agent.run(lambda _: None))
        await until(lambda: agent.enclaves[0].supervisor.process is not None)
        agent.stop()
        await task

    run(scenario())


def test_a_second_agent_in_the_same_home_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = prepare(tmp_path)
        async with up(config) as made:
            with pytest.raises(HostError) as refused:
                await make(config).run(lambda _: None)
            assert refused.value.code is HostCode.HOME_RUNNING
            assert str(os.getpid()) in str(refused.value.found)
            assert (await made.ask("status"))["pid"] == os.getpid()

    run(scenario())


def test_a_port_in_use_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            agent = make(prepare(tmp_path, f"tcp:127.0.0.1:{other.getsockname()[1]}"))
            with pytest.raises(HostError) as refused:
                await agent.run(lambda _: None)
        assert refused.value.code is HostCode.ADDRESS_IN_USE
        assert agent.enclaves[0].supervisor.last_ending is None
        assert not agent.home.is_locked()

    run(scenario())


def test_a_free_port_is_named_and_reaches_the_enclave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with up(prepare(tmp_path, "tcp:127.0.0.1:0", f"unix:{tmp_path}/also.sock")) as made:
            address = parse_address(made.status["listening"][0])
            client = Wire(*await asyncio.open_connection(address.host, address.port))
            await client.send("default", 1, b"over TCP")
            assert (await client.frame()).body == b"over TCP"
            client.close()

    run(scenario())


@pytest.mark.parametrize(
    ("breakage", "code"),
    [
        ("models", HostCode.MODELS_MISSING),
        ("enclave.manifest", HostCode.ENCLAVE_MANIFEST_MISSING),
    ],
)
def test_what_is_missing_is_refused_at_once(tmp_path: Path, breakage: str, code: HostCode) -> None:
    config = prepare(tmp_path)
    (tmp_path / breakage).rename(tmp_path / "elsewhere")
    with pytest.raises(HostError) as refused:
        config.check()
    assert refused.value.code is code


def test_an_agent_without_an_address_or_with_a_bad_one_is_refused(tmp_path: Path) -> None:
    config = prepare(tmp_path)
    with pytest.raises(HostError) as refused:
        HostConfig(config.home, config.models, (), config.deployments).check()
    assert refused.value.code is HostCode.CONFIGURATION_INVALID
    with pytest.raises(WireError):
        prepare(tmp_path, "pigeon:home").check()


@pytest.mark.parametrize("routes", [["!fetch"], ["two words"], [""], ["x" * 64], ["same", "same"]])
def test_a_route_that_no_client_could_name_is_refused(tmp_path: Path, routes: list[str]) -> None:
    config = prepare(tmp_path)
    deployments = tuple(Deployment(route, tmp_path / "enclave.manifest", tmp_path / "p") for route in routes)
    with pytest.raises(HostError) as refused:
        HostConfig(config.home, config.models, config.listen, deployments).check()
    assert refused.value.code is HostCode.CONFIGURATION_INVALID


def test_a_defect_of_a_supervisor_ends_the_agent_instead_of_hiding(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = make(prepare(tmp_path))

        async def fail() -> None:
            raise ZeroDivisionError

        agent.enclaves[0].supervisor.run = fail
        with pytest.raises(HostError) as refused:
            await agent.run(lambda _: None)
        assert refused.value.code is HostCode.HOST_FAILED
        assert "ZeroDivisionError" in refused.value.message

    run(scenario())


def test_a_configuration_survives_its_journey(tmp_path: Path) -> None:
    config = prepare(tmp_path, ready_timeout=1.5)
    assert HostConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"home": 1}', "[" * 100_000])
def test_a_configuration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(HostError) as refused:
        HostConfig.from_json(text)
    assert refused.value.code is HostCode.CONFIGURATION_INVALID


@pytest.mark.parametrize(
    ("found", "instead"),
    [('["default", ', "["), ("false, 1]", '"no", 1]'), ("false, 1]", "false, 0]"), ("false, 1]", "false, true]")],
)
def test_a_deployment_of_other_items_is_refused(tmp_path: Path, found: str, instead: str) -> None:
    text = prepare(tmp_path).to_json()
    assert found in text
    text = text.replace(found, instead)
    with pytest.raises(HostError) as refused:
        HostConfig.from_json(text)
    assert refused.value.code is HostCode.CONFIGURATION_INVALID


def test_the_platform_is_started_as_a_module_of_this_interpreter(tmp_path: Path) -> None:
    deployment = Deployment("default", tmp_path / "m", tmp_path / "p")
    assert deployment.command(7, 8)[1:] == [
        *("-I", "-B", "-m", "attestation.sim", "run", "--home", str(tmp_path / "p")),
        *("--manifest", str(tmp_path / "m"), "--host-fd", "7", "--ready-fd", "8"),
    ]
    unconfined = replace(deployment, dangerously_unconfined=True)
    assert unconfined.command(7, 8) == [*deployment.command(7, 8), "--dangerously-unconfined"]
    assert HostConfig.from_json(replace(prepare(tmp_path), deployments=(unconfined,)).to_json()).deployments == (
        unconfined,
    )
