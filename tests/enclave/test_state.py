"""Recurrent models: a session's state stays inside, is nobody else's, and goes with the session."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from attestation.types import BudgetTerms, Credential
from attestation.types.receipt import SignedReceipt
from attestation.wire import stateful
from attestation.wire.commitments import Direction, commit, sent
from enclave.errors import EnclaveCode
from evaluation.examples.recurrent import WIDTH, Recurrent, export, initial, sensor_series
from manifests.draft import draft_manifest, load_graph
from manifests.errors import ManifestCode
from manifests.model import ModelManifest
from manifests.signing import Signer
from tests.enclave.rig import Client, Owner, Refused, Rig, graph, linear

SERIES = sensor_series(2, 20, 1)


def counter(owner: Owner, folder: Path, rig: Rig) -> bytes:
    """Serve what adds up its inputs, and names the sum: three names, and so no answer beyond them."""
    nodes = [helper.make_node("Add", ["x", "h"], ["sum"]), helper.make_node("Cast", ["sum"], ["y"], to=7)]
    one = {"dtype": "float32", "shape": [1]}
    table = {
        "name": "counter",
        "version": "1",
        "epoch": 1,
        "owner": owner.public,
        "labels": ["zero", "one", "two"],
        "inputs": [{"name": "x", **one}, {"name": "h", **one}],
        "outputs": [{"name": "y", "dtype": "int64", "shape": [1]}, {"name": "sum", **one}],
        "post": [{"kind": "label", "output": "y"}],
        "state": {"pairs": [["h", "sum"]]},
    }
    data = graph(nodes, [("x", 1, [1]), ("h", 1, [1])], [("y", 7, [1]), ("sum", 1, [1])])
    digest = owner.seal(rig.host, folder, data, manifest=ModelManifest.from_map(table))
    owner.provision(rig.client(), digest, name="counter")
    return digest


class Sensor:
    """An enclave that serves a recurrent model that nobody trained."""

    def __init__(
        self, rig: Rig, folder: Path, *, budget: BudgetTerms | None = None, lease: int = 1000, **state: Any
    ) -> None:
        self.rig = rig
        self.owner = Owner()
        self.made: Recurrent = export(initial(9), **state)
        draft = draft_manifest(load_graph(self.made.onnx), owner=self.owner.public, name="sensor")
        manifest = ModelManifest.from_map({**draft.to_map(), **self.made.review})
        self.digest = self.owner.seal(rig.host, folder, self.made.onnx, manifest=manifest)
        self.broker = rig.client()
        self.owner.provision(self.broker, self.digest, name="sensor", budget=budget, lease=lease)

    def known(self) -> Client:
        """Return a client with an identity."""
        key, client = Signer.generate(), self.rig.client()
        client.authenticate(key, Credential(self.owner.public, key.public, "ward 7").sign(self.owner.key))
        return client

    def ask(self, client: Client, value: float, **header: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        x = {"x": np.array([[value]], np.float32)}
        body = client.request({"op": "infer", "model": {"digest": self.digest}, **header}, x)
        return body.header, body.arrays()

    def free(self) -> int:
        [model] = self.rig.service.owners.models()
        assert model.state is not None
        return model.state.slots.free

    def plain(self, values: np.ndarray) -> list[bytes]:
        """The outputs of plain onnxruntime, with the state carried outside."""
        session = ort.InferenceSession(self.made.onnx, providers=["CPUExecutionProvider"])
        state, found = np.zeros((1, WIDTH), np.float32), []
        for value in values:
            y, state = session.run(["y", "h_next"], {"x": np.array([[value]], np.float32), "h": state})
            found.append(y.tobytes())
        return found


@pytest.fixture
def sensor(rig: Rig, tmp_path: Path) -> Sensor:
    return Sensor(rig, tmp_path)


def test_a_state_goes_on_from_request_to_request_as_with_plain_onnxruntime(sensor: Sensor) -> None:
    client = sensor.rig.client()
    answers = [sensor.ask(client, value) for value in SERIES[0]]
    assert [tensors["y"].tobytes() for _, tensors in answers] == sensor.plain(SERIES[0])
    assert [header["steps"] for header, _ in answers] == list(range(1, 21))
    assert all(set(tensors) == {"y"} for _, tensors in answers), "the state is in no answer"


def test_two_sessions_interleave_and_see_nothing_of_each_other(sensor: Sensor) -> None:
    clients = [sensor.rig.client(), sensor.rig.client()]
    found: list[list[bytes]] = [[], []]
    for values in SERIES.T:
        for client, value, answers in zip(clients, values, found, strict=True):
            answers.append(sensor.ask(client, value)[1]["y"].tobytes())
    assert found == [sensor.plain(series) for series in SERIES]


def test_a_reset_begins_anew_within_the_session(sensor: Sensor) -> None:
    client = sensor.rig.client()
    for value in SERIES[0, :5]:
        sensor.ask(client, value)
    again = [sensor.ask(client, value, **({"reset": True} if n == 0 else {})) for n, value in enumerate(SERIES[1])]
    assert [tensors["y"].tobytes() for _, tensors in again] == sensor.plain(SERIES[1])
    assert [header["steps"] for header, _ in again] == list(range(1, 21))


def test_a_request_that_is_refused_leaves_the_state_as_it_was(sensor: Sensor) -> None:
    client = sensor.rig.client()
    expected = sensor.plain(SERIES[0, :2])
    assert sensor.ask(client, SERIES[0, 0])[1]["y"].tobytes() == expected[0]
    with pytest.raises(Refused) as refusal:
        sensor.ask(client, float("nan"), reset=True)
    assert refusal.value.code == EnclaveCode.TENSOR_NAN
    assert sensor.ask(client, SERIES[0, 1])[1]["y"].tobytes() == expected[1]


@pytest.mark.parametrize(("value", "code"), [("yes", ManifestCode.FIELD_INVALID), (1, ManifestCode.FIELD_INVALID)])
def test_a_reset_is_true_or_false(sensor: Sensor, value: object, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        sensor.ask(sensor.rig.client(), 0.0, reset=value)
    assert refusal.value.code == code


def test_a_client_can_neither_send_a_state_nor_take_one_from_a_model_without(sensor: Sensor, tmp_path: Path) -> None:
    client = sensor.rig.client()
    own = {"x": np.zeros((1, 1), np.float32), "h": np.zeros((1, WIDTH), np.float32)}
    with pytest.raises(Refused) as refusal:
        client.request({"op": "infer", "model": {"digest": sensor.digest}}, own)
    assert refusal.value.code == EnclaveCode.TENSOR_NAME
    data, manifest = linear(sensor.owner)
    other = sensor.owner.seal(sensor.rig.host, tmp_path, data, manifest=manifest)
    sensor.owner.provision(sensor.broker, other)
    header = {"op": "infer", "model": {"digest": other}, "reset": True}
    with pytest.raises(Refused) as refusal:
        client.request(header, {"x": np.zeros((1, 4), np.float32)})
    assert (refusal.value.code, refusal.value.field) == (EnclaveCode.OPERATION_UNFIT, "reset")


def test_an_owner_may_show_a_state(rig: Rig, tmp_path: Path) -> None:
    sensor = Sensor(rig, tmp_path, shown=["h_next"])
    _, tensors = sensor.ask(rig.client(), 0.5)
    assert {name: array.shape for name, array in tensors.items()} == {"y": (1, 1), "h_next": (1, WIDTH)}


def test_a_model_holds_no_more_states_than_its_manifest_admits_and_a_session_frees_its_own(
    rig: Rig, tmp_path: Path
) -> None:
    sensor = Sensor(rig, tmp_path, sessions=1)
    first, second = rig.client(), rig.client()
    sensor.ask(first, 0.5)
    before = rig.leases()
    with pytest.raises(Refused) as refusal:
        sensor.ask(second, 0.5)
    assert (refusal.value.code, refusal.value.retry_after) == (EnclaveCode.MODEL_FULL, 5.0)
    assert rig.leases() == before, "it spends nothing"
    first.close()
    rig.wait_until(lambda: sensor.free() == 1)
    assert sensor.ask(second, SERIES[0, 0])[1]["y"].tobytes() == sensor.plain(SERIES[0, :1])[0]


def test_who_may_not_ask_takes_no_place_from_who_may(rig: Rig, tmp_path: Path) -> None:
    terms = BudgetTerms(until=Owner().now + 3600, pool=10, slice=10, client=100, anonymous=0, rate=0, burst=0)
    sensor = Sensor(rig, tmp_path, sessions=1, budget=terms)
    for client in [rig.client() for _ in range(3)]:
        with pytest.raises(Refused) as refusal:
            sensor.ask(client, 0.5)
        assert refusal.value.code == EnclaveCode.BUDGET_EXHAUSTED
        assert sensor.free() == 1
    assert sensor.ask(sensor.known(), SERIES[0, 0])[1]["y"].tobytes() == sensor.plain(SERIES[0, :1])[0]


def test_a_lease_that_is_used_up_takes_no_place(rig: Rig, tmp_path: Path) -> None:
    sensor = Sensor(rig, tmp_path, lease=1)
    sensor.ask(rig.client(), 0.5)
    before = sensor.free()
    with pytest.raises(Refused) as refusal:
        sensor.ask(rig.client(), 0.5)
    assert refusal.value.code == EnclaveCode.LEASE_EXHAUSTED
    assert sensor.free() == before


def test_one_client_holds_no_more_states_than_its_share(rig: Rig, tmp_path: Path) -> None:
    sensor = Sensor(rig, tmp_path, sessions_per_client=1)
    first, second = rig.client(), rig.client()
    sensor.ask(first, 0.5)
    sensor.ask(first, 0.5)
    before = rig.leases()
    with pytest.raises(Refused, match="for this client") as refusal:
        sensor.ask(second, 0.5)
    assert (refusal.value.code, rig.leases()) == (EnclaveCode.MODEL_FULL, before)
    sensor.ask(sensor.known(), 0.5)
    first.close()
    rig.wait_until(lambda: sensor.free() == 63)
    assert sensor.ask(second, 0.5)[0]["steps"] == 1


@pytest.mark.parametrize("receipt", [False, True])
def test_a_request_that_fails_after_its_run_leaves_the_state_as_it_was(
    rig: Rig, owner: Owner, tmp_path: Path, *, receipt: bool
) -> None:
    digest, client = counter(owner, tmp_path, rig), rig.client()

    def ask(value: float, **header: Any) -> tuple[int, str]:
        header = {"op": "infer", "model": {"digest": digest}, "receipt": receipt, **header}
        body = client.request(header, {"x": np.array([value], np.float32)})
        return body.header["steps"], body.arrays()["y"][0]

    def refused(value: float, **header: Any) -> None:
        with pytest.raises(Refused) as refusal:
            ask(value, **header)
        assert refusal.value.code == EnclaveCode.INFERENCE_FAILED

    refused(9)
    [model] = rig.service.owners.models()
    assert model.state is not None
    assert model.state.slots.free == 64, "who has no state has no place"
    assert ask(1) == (1, "one")
    refused(9)
    refused(9, reset=True)
    assert ask(1) == (2, "two")
    refused(1)
    assert ask(0) == (3, "two")
    assert ask(0, reset=True) == (1, "zero")
    assert model.state.slots.free == 63


def test_an_answer_that_cannot_be_sent_leaves_the_state_as_it_was(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sensor.rig.client()
    expected = sensor.plain(SERIES[0, :2])
    assert sensor.ask(client, SERIES[0, 0])[1]["y"].tobytes() == expected[0]
    with monkeypatch.context() as patched:
        patched.setattr("enclave.session.MAX_HEADER", 8)
        with pytest.raises(Refused) as refusal:
            sensor.ask(client, 0.9)
    assert refusal.value.code == EnclaveCode.RESPONSE_TOO_LARGE
    header, tensors = sensor.ask(client, SERIES[0, 1])
    assert (header["steps"], tensors["y"].tobytes()) == (2, expected[1])


def test_a_resumed_session_starts_anew_and_says_so(sensor: Sensor) -> None:
    client = sensor.rig.client()
    sensor.ask(client, 0.5)
    ticket = client.ticket()
    again = sensor.rig.client(ticket=ticket)
    header, tensors = sensor.ask(again, SERIES[0, 0])
    assert header["steps"] == 1
    assert tensors["y"].tobytes() == sensor.plain(SERIES[0, :1])[0]


@pytest.mark.parametrize(
    ("asked", "steps"), [({}, 2), ({"reset": False}, 2), ({"reset": True}, 1)], ids=["unsaid", "no reset", "a reset"]
)
def test_a_receipt_binds_the_step_and_the_reset(sensor: Sensor, asked: dict[str, bool], steps: int) -> None:
    client = sensor.rig.client()
    sensor.ask(client, 0.5)
    header, tensors = sensor.ask(client, 0.25, receipt=True, **asked)
    issued, x, y = header["receipt"], sent({"x": np.array([[0.25]], np.float32)}), sent(tensors)
    said, reset = SignedReceipt.parse(issued["signed"]).receipt, asked.get("reset", False)
    given, told = (partial(commit, way, issued[str(way)]) for way in Direction)
    assert header["steps"] == steps
    assert said.input == given(stateful.asked(x, reset=reset))
    assert said.output == told(stateful.answered(y, steps))
    assert said.input not in {given(stateful.asked(x, reset=not reset)), given(x)}
    assert said.output not in {told(stateful.answered(y, steps + 1)), told(y)}


def test_the_listing_shows_what_clients_send_and_get(sensor: Sensor) -> None:
    [listed] = sensor.rig.client().request({"op": "models"}).header["models"]
    assert [name for name, _, _ in listed["inputs"]] == ["x"]
    assert [name for name, _, _ in listed["outputs"]] == ["y"]


def test_a_stateful_model_that_gives_another_shape_is_refused(rig: Rig, tmp_path: Path) -> None:
    import onnx

    made = export(initial(9))
    model = onnx.load_model_from_string(made.onnx)
    [keep] = [node for node in model.graph.node if node.output[0] == "h_next"]
    keep.output[0] = "kept"
    model.graph.node.insert(4, helper.make_node("Concat", ["kept", "kept"], ["h_next"], axis=0))
    for node in model.graph.node:
        if node.output[0] == "read":
            node.input[0] = "kept"
    model.graph.output[1].type.tensor_type.ClearField("shape")
    model.graph.output[1].type.tensor_type.shape.dim.add().dim_param = "any"
    model.graph.output[1].type.tensor_type.shape.dim.add().dim_value = WIDTH
    owner, client = Owner(), rig.client()
    draft = draft_manifest(load_graph(made.onnx), owner=owner.public, name="sensor")
    manifest = ModelManifest.from_map({**draft.to_map(), **made.review})
    digest = owner.seal(rig.host, tmp_path, model.SerializeToString(), manifest=manifest)
    owner.provision(client, digest, name="sensor")
    with pytest.raises(Refused) as refusal:
        client.infer(digest, x=np.zeros((1, 1), np.float32))
    assert refusal.value.code == EnclaveCode.INFERENCE_FAILED
