"""Kill -9 of any part at any moment: nothing acknowledged is lost, and the rest recovers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from attestation.client import Timeouts
from evaluation.demo.deployment import Deployment
from manifests.errors import StrongroomError
from manifests.files import PARTIAL_SUFFIX
from tests.deployment.small import ROWS, WEIGHTS, linear

PATIENCE = 60.0
QUICK = Timeouts(connect=5, handshake=10, request=10)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.2)


def answers(deployment: Deployment) -> bool:
    try:
        with deployment.session(timeouts=QUICK) as session:
            return bool(np.array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS))
    except StrongroomError:
        return False


def alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except FileNotFoundError:
        return False


def is_another(deployment: Deployment, before: int) -> bool:
    return deployment.enclave_is_ready() and deployment.enclave_pid != before


def audit_rows(deployment: Deployment) -> int:
    """Verify the whole log, as an auditor would, and return its length."""
    told = deployment.commands.json("broker", "audit", "verify", "--home", deployment.layout.broker)
    return int(told["rows"])


@pytest.fixture(autouse=True)
def mended(deployment: Deployment) -> Iterator[None]:
    """Whatever a test has killed runs again afterwards."""
    yield
    if not deployment.is_running("host"):
        deployment.stop_part("host")
        deployment.start_host()
    if not deployment.is_running("broker"):
        deployment.stop_part("broker")
        deployment.start_broker()
    until(lambda: answers(deployment), "the deployment to serve again")


@pytest.mark.parametrize("part", ["enclave", "platform"])
def test_a_killed(deployment: Deployment, part: str) -> None:
    """The session ends with a code; host and broker bring a new process up and provision it, and count that."""
    rows, before = audit_rows(deployment), deployment.enclave_pid
    with deployment.session(timeouts=QUICK) as session:
        session.infer("linear", {"x": ROWS})
        deployment.kill(part)
        until(lambda: not alive(before), "the enclave to end")
        with pytest.raises(StrongroomError) as caught:
            session.infer("linear", {"x": ROWS})
        assert str(caught.value.code) in {"session-truncated", "host-refused", "address-unreachable"}
    until(lambda: answers(deployment), "the new enclave")
    assert deployment.enclave_pid != before
    assert not alive(before)
    assert audit_rows(deployment) > rows


def test_a_killed_broker_costs_nothing_within_the_lease(deployment: Deployment) -> None:
    rows = audit_rows(deployment)
    deployment.kill("broker")
    assert answers(deployment)
    assert audit_rows(deployment) >= rows
    deployment.stop_part("broker")
    deployment.start_broker()
    until(lambda: audit_rows(deployment) > rows, "the broker's first row after its restart")
    assert answers(deployment)


def test_a_killed_host_takes_platform_and_enclave_with_it(deployment: Deployment) -> None:
    enclave, platform = deployment.enclave_pid, deployment.platform_pid
    deployment.kill("host")
    until(lambda: not alive(enclave) and not alive(platform), "the orphans to end")
    deployment.stop_part("host")
    deployment.start_host()
    until(lambda: answers(deployment), "the broker to find the new enclave")


def test_killing_the_enclave_under_load_never_gives_a_wrong_answer(deployment: Deployment) -> None:
    wrong: list[str] = []
    right, stop = [0, 0, 0], threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            try:
                with deployment.session(timeouts=QUICK) as session:
                    while not stop.is_set():
                        answer = session.infer("linear", {"x": ROWS})["y"]
                        if not np.array_equal(answer, ROWS @ WEIGHTS):
                            wrong.append(repr(answer))
                        right[number] += 1
            except StrongroomError:
                time.sleep(0.1)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            until(lambda: all(right), "answers")
            before = deployment.enclave_pid
            deployment.kill("enclave")
            until(lambda: is_another(deployment, before), "a new enclave")  # noqa: B023 - called at once
            right[:] = [0, 0, 0]
            until(lambda: all(right), "answers of the new enclave")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []


def test_commands_killed_at_any_moment_leave_a_whole_home(deployment: Deployment, tmp_path: Path) -> None:
    """Sealing and setting a policy, each killed at moments spread over its run: what bears a final name is whole."""
    layout = deployment.layout
    graph, sealed = tmp_path / "linear.onnx", tmp_path / "linear.sealed"
    graph.write_bytes(linear())
    sealing = (
        "seal",
        graph,
        "--owner-key",
        layout.owner_key,
        "--recipient",
        layout.broker / "broker.pub",
        "-o",
        sealed,
    )
    setting = ("broker", "policy", "set", "--home", layout.broker, layout.release_policy)
    for seconds in (0.2, 0.5, 0.8, 1.1, 1.4):
        kill_after(deployment, (sealing, setting), seconds)
        if sealed.exists():
            deployment.commands.run("inspect", sealed)
            sealed.unlink()
        assert deployment.commands.json("broker", "policy", "show", "--home", layout.broker)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".onnx", PARTIAL_SUFFIX}
    audit_rows(deployment)


def kill_after(deployment: Deployment, commands: Sequence[tuple[str | Path, ...]], seconds: float) -> None:
    log = deployment.layout.log("killed")
    parts = [deployment.commands.start("command", log, *words) for words in commands]
    time.sleep(seconds)
    for part in parts:
        part.kill()


def test_a_host_killed_with_requests_in_flight_never_gives_a_wrong_answer(deployment: Deployment) -> None:
    with deployment.session(timeouts=QUICK) as session:
        killer = threading.Timer(0.3, deployment.kill, args=("host",))
        killer.start()
        with pytest.raises(StrongroomError) as caught:
            while True:
                np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)
        killer.join()
    assert str(caught.value.code) in {"session-truncated", "address-unreachable"}
