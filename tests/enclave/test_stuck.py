"""A run that nothing can stop: it is found, its client is answered, and the process condemns itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from attestation.wire.messages import MessageType, encode_body
from enclave.deadline import AbandonedError, Run, Watchdog
from enclave.models import open_session
from manifests import canonical
from manifests.gramine.settings import EnclaveSettings, Limits
from manifests.model import ModelManifest
from manifests.sealed.core import GRAPH_PART
from manifests.telemetry import BY_NAME
from tests.enclave.rig import Client, Ended, Owner, Refused, Rig, graph, linear, running
from tests.enclave.test_batching import until_full

SETTINGS = EnclaveSettings("first", limits=Limits(stuck_grace_ms=100))


def giant() -> bytes:
    """y = max(A @ A) for an n x n matrix of int64 ones: one operator of n^3 steps, and three matrices of memory."""
    one = numpy_helper.from_array(np.array([1], np.int64))
    nodes = [
        helper.make_node("Concat", ["n", "n"], ["s"], axis=0),
        helper.make_node("ConstantOfShape", ["s"], ["a"], value=one),
        helper.make_node("MatMul", ["a", "a"], ["p"]),
        helper.make_node("ReduceMax", ["p"], ["m"], keepdims=0),
        helper.make_node("Reshape", ["m", "one"], ["y"]),
    ]
    shape = [numpy_helper.from_array(np.array([1], np.int64), "one")]
    return graph(nodes, [("n", TensorProto.INT64, [1])], [("y", TensorProto.INT64, [1])], shape)


def giant_manifest(owner: Owner, *shape: int, **limits: int) -> ModelManifest:
    table = {
        "inputs": [{"name": "n", "dtype": "int64", "shape": [1], "minimum": 1, "maximum": 10_000}],
        "outputs": [{"name": "y", "dtype": "int64", "shape": list(shape or (1,))}],
        "axes": {},
        "labels": [],
        "limits": {"timeout_ms": 100, **limits},
    }
    _, manifest = linear(owner, name="giant", **table)
    return manifest


def test_a_run_within_one_operator_is_given_up_and_comes_back_without_a_word() -> None:
    session = open_session({GRAPH_PART: bytearray(giant())}, 1)
    stuck: list[Run] = []
    watchdog = Watchdog(0.1, stuck.append)
    answered = False
    with pytest.raises(AbandonedError):  # noqa: SIM117 - the inner context raises on its way out
        with watchdog.limit(0.1, b"owner", b"digest") as run:
            try:
                session.run(None, {"n": np.array([1200])}, run.options)
                answered = True
            except Exception:
                answered = False
    assert not answered
    assert (run.expired, run.stuck, [one.digest for one in stuck]) == (True, True, [b"digest"])
    watchdog.stop()


def test_a_defect_in_telling_leaves_the_watch_over_other_runs(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(_: Run) -> None:
        raise ValueError

    watchdog = Watchdog(0.01, fails)
    for _ in range(2):
        with pytest.raises(AbandonedError), watchdog.limit(0.01) as run:
            run.told.wait(10)
    watchdog.stop()
    assert capfd.readouterr().err.count("ValueError") == 2


def giant_of_rows() -> bytes:
    """y = x + max(A @ A), where A is as large as the largest row says: rows of several clients are one run."""
    one = numpy_helper.from_array(np.array([1], np.int64))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["n1"], keepdims=0),
        helper.make_node("Reshape", ["n1", "one"], ["n"]),
        helper.make_node("Concat", ["n", "n"], ["s"], axis=0),
        helper.make_node("ConstantOfShape", ["s"], ["a"], value=one),
        helper.make_node("MatMul", ["a", "a"], ["p"]),
        helper.make_node("ReduceMax", ["p"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    shape = [numpy_helper.from_array(np.array([1], np.int64), "one")]
    x, y = ([(name, TensorProto.INT64, ["batch", 1])] for name in "xy")
    return graph(nodes, x, y, shape)


class Giant:
    """An enclave that serves the linear model, and the one whose runs cannot be stopped."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig, self.owner = rig, Owner()
        self.data, manifest = linear(self.owner)
        self.linear = self.owner.seal(rig.host, folder, self.data, manifest=manifest)
        self.giant = self.owner.seal(rig.host, folder, giant(), manifest=giant_manifest(self.owner))
        self.broker = rig.client()
        self.owner.provision(self.broker, self.linear)
        self.owner.provision(self.broker, self.giant, name="giant")

    def get_stuck(self) -> Client:
        client = self.rig.client()
        with pytest.raises(Refused, match="inference-timeout"):
            client.infer(self.giant, n=np.array([1500]))
        return client


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Giant]:
    with running(SETTINGS) as rig:
        yield Giant(rig, tmp_path)


X = np.ones((1, 4), np.float32)


def test_the_client_of_a_stuck_run_is_answered_while_it_goes_on(served: Giant) -> None:
    client = served.get_stuck()
    with pytest.raises(Ended):
        client.answer()


def test_the_host_is_told_by_a_count_alone(served: Giant) -> None:
    served.get_stuck()
    report = served.rig.host.control.get(timeout=10)
    assert report.route == "!stats"
    told = canonical.decode(report.body, max_size=4096)
    assert told["stuck"] == 1
    assert told.pop("telemetry").keys() <= BY_NAME.keys()
    assert all(type(value) is int for value in told.values())


def test_nobody_is_answered_by_a_condemned_process(served: Giant) -> None:
    other = served.rig.client()
    assert other.infer(served.linear, x=X)
    served.get_stuck()
    with pytest.raises(Refused, match="enclave-stopping") as refusal:
        other.infer(served.linear, x=X)
    assert refusal.value.retry_after == 1.0
    assert set(served.rig.leases().values()) == {0}


def test_brokers_are_sent_away_and_learn_why_when_they_come_back(served: Giant) -> None:
    served.get_stuck()
    with pytest.raises(Refused, match="enclave-stopping"):
        served.broker.answer()
    with pytest.raises(Ended):
        served.broker.answer()
    again = served.rig.client()
    challenge = served.owner.challenge(again)
    assert (challenge["models"], challenge["ending"]) == ([], [served.giant])


@pytest.mark.parametrize("asked", ["provision", "heartbeat"])
def test_a_condemned_process_takes_no_key_and_no_lease(served: Giant, asked: str) -> None:
    served.get_stuck()
    broker = served.rig.client()
    with pytest.raises(Refused, match="enclave-stopping"):
        if asked == "provision":
            served.owner.provision(broker, served.linear)
        else:
            served.owner.heartbeat(broker, served.owner.challenge(broker), {})
    assert set(served.rig.leases().values()) == {0}


def test_a_model_that_never_gets_loaded_is_found_too(
    served: Giant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime computes what is constant while it loads a graph."""
    monkeypatch.setattr("enclave.models.LOAD_SECONDS", 0.1)
    ones = numpy_helper.from_array(np.ones((1500, 1500), np.int64), "w")
    nodes = [helper.make_node("MatMul", ["w", "w"], ["p"]), helper.make_node("Add", ["p", "n"], ["y"])]
    data = graph(nodes, [("n", TensorProto.INT64, [1])], [("y", TensorProto.INT64, [1500, 1500])], [ones])
    manifest = giant_manifest(served.owner, 1500, 1500, max_response_bytes=1 << 30)
    digest = served.owner.seal(served.rig.host, tmp_path, data, manifest=manifest)
    client = served.rig.client()
    grant = served.owner.grant(client, digest, name="giant").sign(served.owner.broker)
    header = {"op": "provision", "delegation": served.owner.delegation, "grant": grant, "id": 1}
    content = encode_body({**header, "dek": served.owner.deks[digest]})
    client.put(client.wire.send(MessageType.REQUEST, content))
    served.rig.wait_until(lambda: bool(served.rig.service.condemned))
    assert served.owner.challenge(served.rig.client())["ending"] == [digest]


def test_an_owner_whose_models_ran_well_hears_of_no_others(served: Giant) -> None:
    assert served.rig.service.condemned.stuck(bytes(32)) == []
    assert "ending" not in served.owner.challenge(served.rig.client())


def test_everybody_in_a_batch_that_is_stuck_is_answered(served: Giant, tmp_path: Path) -> None:
    table = {
        "inputs": [{"name": "x", "dtype": "int64", "shape": ["batch", 1], "minimum": 1, "maximum": 10_000}],
        "outputs": [{"name": "y", "dtype": "int64", "shape": ["batch", 1]}],
        "axes": {"batch": {"minimum": 1, "maximum": 2}},
        "labels": [],
        "limits": {"timeout_ms": 100},
        "batching": {"max_rows": 2, "max_wait_us": 1},
    }
    _, manifest = linear(served.owner, name="giant", **table)
    digest = served.owner.seal(served.rig.host, tmp_path, giant_of_rows(), manifest=manifest)
    served.owner.provision(served.rig.client(), digest, name="giant")
    batcher = served.rig.service.owners.by_digest(digest).batcher
    assert batcher is not None
    batcher.wait_for = until_full
    clients = [served.rig.client() for _ in range(2)]
    numbers = [
        client.send({"op": "infer", "model": {"digest": digest}}, {"x": np.array([[1500]])}) for client in clients
    ]
    for client, number in zip(clients, numbers, strict=True):
        with pytest.raises(Refused, match="inference-timeout"):
            client.answer(number)
