"""The agent with the real simulated platform and the real enclave."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil

from attestation.sim import landlock
from host.agent import HostAgent
from host.config import Deployment, HostConfig
from host.supervisor import Schedule
from manifests.gramine.measure import measure
from manifests.gramine.render import render
from manifests.gramine.settings import FIRST, EnclaveSettings
from tests.host.rig import run, until


def is_over(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_real_enclave_comes_up_survives_the_death_of_its_platform_and_goes_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = HostAgent(config, schedule=Schedule(ready=30.0, backoff_first=0.01))
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(agent.run(ready.set_result))
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        (deployment,) = ready.result()["deployments"]
        assert deployment["mrenclave"] == measurement
        assert len(deployment["boot_id"]) == 32
        assert deployment["confinement"] == {"landlock": landlock.version()}
        os.kill(deployment["pid"], signal.SIGKILL)
        supervisor = agent.enclaves[0].supervisor
        await until(lambda: supervisor.restarts == 1)
        await until(lambda: is_over(deployment["enclave_pid"]))
        await until(lambda: supervisor.state == "ready")
        again = agent.enclaves[0].to_dict()
        assert again["mrenclave"] == measurement
        assert again["boot_id"] != deployment["boot_id"]
        agent.stop()
        await task
        assert supervisor.last_ending.status == 0
        assert is_over(again["enclave_pid"])

    rendered = render(EnclaveSettings(FIRST), tmp_path)
    measurement = measure(rendered.path.read_bytes()).hex()
    (tmp_path / "models").mkdir()
    deployment = Deployment("default", rendered.path, tmp_path / "platform", not landlock.version())
    config = HostConfig(tmp_path / "home", tmp_path / "models", (f"unix:{tmp_path}/h.sock",), (deployment,))
    run(scenario())
