"""Requests of several sessions in one batch: what they get, what they do not share, and whom a failure concerns."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from enclave.batching import Batch, Batcher, wait
from enclave.errors import EnclaveCode, EnclaveError
from manifests.batching import Batching
from manifests.model import ModelManifest
from tests.enclave.rig import Client, Owner, Refused, Rig, graph, linear

ROWS = np.random.default_rng(5).normal(size=(12, 4)).astype(np.float32)
TABLE = {"max_rows": 8, "max_wait_us": 1}


def plain(data: bytes, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return np.asarray(ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])


def until_full(changed: threading.Condition, batch: Batch) -> None:
    """Wait for others however long it takes: the composition is the test's, not the clock's."""
    while not batch.is_closed:
        changed.wait(1.0)


class Joining:
    """An enclave with one model that joins requests, whose batches wait until they are full."""

    def __init__(self, rig: Rig, folder: Path, data: bytes, manifest: ModelManifest, owner: Owner) -> None:
        self.rig = rig
        self.digest = owner.seal(rig.host, folder, data, manifest=manifest)
        owner.provision(rig.client(), self.digest)
        [model] = rig.service.owners.models()
        assert model.batcher is not None
        self.batcher = model.batcher
        self.batcher.wait_for = until_full

    def send(self, *requests: np.ndarray) -> list[tuple[Client, int]]:
        """Send each request in a session of its own, when the one before it waits; the last fills the batch."""
        sent = []
        for count, x in enumerate(requests):
            self.rig.wait_until(lambda count=count: self.batcher.waiting == count)
            client = self.rig.client()
            sent.append((client, client.send({"op": "infer", "model": {"digest": self.digest}}, {"x": x})))
        return sent


@pytest.fixture
def joining(rig: Rig, tmp_path: Path, owner: Owner) -> Joining:
    data, manifest = linear(owner, batching=TABLE)
    return Joining(rig, tmp_path, data, manifest, owner)


def test_joined_answers_equal_those_of_plain_onnxruntime_on_the_same_batch(joining: Joining, owner: Owner) -> None:
    data, _ = linear(owner)
    requests = [ROWS[:3], ROWS[3:4], ROWS[4:8]]
    answers = [client.answer(number).arrays()["y"] for client, number in joining.send(*requests)]
    together = plain(data, ROWS[:8])
    assert [len(answer) for answer in answers] == [3, 1, 4]
    assert np.concatenate(answers).tobytes() == together.tobytes()
    assert (joining.batcher.batches, joining.batcher.joined) == (1, 3)
    assert joining.rig.service.stats() | {"batches": 1, "joined": 3} == joining.rig.service.stats()
    assert joining.rig.leases() == {joining.digest: 997}, "each request spends its own"


def test_a_request_that_fills_a_batch_by_itself_waits_for_nobody(joining: Joining, owner: Owner) -> None:
    data, _ = linear(owner)
    answer = joining.rig.client().infer(joining.digest, x=ROWS[:8])["y"]
    assert answer.tobytes() == plain(data, ROWS[:8]).tobytes()
    assert joining.batcher.batches == 0


def test_a_request_that_finds_nobody_runs_as_if_alone(joining: Joining, owner: Owner) -> None:
    data, _ = linear(owner)
    joining.batcher.wait_for = wait
    answer = joining.rig.client().infer(joining.digest, x=ROWS[:2])["y"]
    assert answer.tobytes() == plain(data, ROWS[:2]).tobytes()
    assert (joining.batcher.batches, joining.batcher.joined) == (1, 0)


def test_a_request_that_does_not_fit_begins_the_next_batch(joining: Joining, owner: Owner) -> None:
    data, _ = linear(owner)
    [(first, waiting)] = joining.send(ROWS[:5])
    client = joining.rig.client()
    number = client.send({"op": "infer", "model": {"digest": joining.digest}}, {"x": ROWS[5:10]})
    assert first.answer(waiting).arrays()["y"].tobytes() == plain(data, ROWS[:5]).tobytes()
    rest = joining.rig.client()
    last = rest.send({"op": "infer", "model": {"digest": joining.digest}}, {"x": ROWS[:3]})
    together = plain(data, np.concatenate([ROWS[5:10], ROWS[:3]]))
    assert client.answer(number).arrays()["y"].tobytes() == together[:5].tobytes()
    assert rest.answer(last).arrays()["y"].tobytes() == together[5:].tobytes()


def divider(owner: Owner) -> tuple[bytes, ModelManifest]:
    """A model that picks row x[0, 0] of a table: one request beyond it fails the whole batch."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"]),
    ]
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32), "table")
    data = graph(nodes, [("x", TensorProto.FLOAT, ["n", 1])], [("y", TensorProto.FLOAT, ["n", 1])], [table])
    _, manifest = linear(owner, batching={"max_rows": 3, "max_wait_us": 1})
    fields = manifest.to_map()
    fields["inputs"] = [{"name": "x", "dtype": "float32", "shape": ["n", 1]}]
    fields["outputs"] = [{"name": "y", "dtype": "float32", "shape": ["n", 1]}]
    return data, ModelManifest.from_map(fields)


def test_a_request_that_fails_does_not_fail_its_neighbours(rig: Rig, tmp_path: Path, owner: Owner) -> None:
    joining = Joining(rig, tmp_path, *divider(owner), owner)
    good, bad, also = joining.send(*(np.array([[value]], np.float32) for value in (1, 9, 3)))
    assert good[0].answer(good[1]).arrays()["y"].tolist() == [[1.0]]
    with pytest.raises(Refused) as refusal:
        bad[0].answer(bad[1])
    assert refusal.value.code == EnclaveCode.INFERENCE_FAILED
    assert also[0].answer(also[1]).arrays()["y"].tolist() == [[3.0]]


def together(batcher: Batcher, run: Any, *requests: np.ndarray) -> list[Any]:
    """Run requests in one batch, each in a thread of its own; return each outcome, or its error."""
    outcomes: list[Any] = [None] * len(requests)

    def ask(at: int) -> None:
        try:
            outcomes[at] = batcher.run(run, ["y"], {"x": requests[at]})["y"]
        except EnclaveError as error:
            outcomes[at] = error

    threads = []
    for at in range(len(requests)):
        threads.append(threading.Thread(target=ask, args=(at,)))
        threads[-1].start()
        while batcher.waiting != at + 1 and at + 1 < len(requests):
            pass
    for thread in threads:
        thread.join(20)
    return outcomes


def test_a_batch_that_takes_too_long_is_run_again_one_by_one() -> None:
    ran: list[int] = []

    def run(names: Any, inputs: Any) -> Any:
        ran.append(len(inputs["x"]))
        if 7 in inputs["x"]:
            raise EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, "too slow")
        return {"y": inputs["x"] * 2}

    batcher = Batcher(Batching(3, 1), until_full)
    outcomes = together(batcher, run, *(np.array([[value]]) for value in (1, 7, 2)))
    assert [outcomes[0].tolist(), outcomes[2].tolist()] == [[[2]], [[4]]]
    assert outcomes[1].code is EnclaveCode.INFERENCE_TIMEOUT
    assert sorted(ran) == [1, 1, 1, 3]


def test_outputs_without_a_row_for_each_are_not_shared_out() -> None:
    batcher = Batcher(Batching(2, 1), until_full)
    outcomes = together(
        batcher, lambda _, inputs: {"y": inputs["x"].sum(0, keepdims=True)}, np.array([[1]]), np.array([[2]])
    )
    assert [outcome.tolist() for outcome in outcomes] == [[[1]], [[2]]]


def test_requests_of_other_shapes_are_not_joined() -> None:
    batcher = Batcher(Batching(8, 1), until_full)
    first = threading.Thread(target=lambda: found.append(batcher.run(run, ["y"], {"x": np.zeros((1, 2))})["y"].shape))
    found: list[tuple[int, ...]] = []

    def run(names: Any, inputs: Any) -> Any:
        return {"y": inputs["x"]}

    first.start()
    while batcher.waiting != 1:
        pass
    batcher.wait_for = wait
    assert batcher.run(run, ["y"], {"x": np.zeros((1, 3))})["y"].shape == (1, 3)
    first.join(20)
    assert found == [(1, 2)]
    assert batcher.joined == 0


def test_a_member_waits_for_its_batch_no_longer_than_a_run_can_take() -> None:
    forever = threading.Event()
    batcher = Batcher(Batching(2, 1), until_full, patience=0.05)

    def run(names: Any, inputs: Any) -> Any:
        forever.wait(20)
        return inputs

    leader = threading.Thread(target=lambda: batcher.run(run, ["x"], {"x": np.zeros((1, 1))}))
    leader.start()
    while batcher.waiting != 1:
        pass
    with pytest.raises(EnclaveError) as refusal:
        batcher.run(run, ["x"], {"x": np.zeros((1, 1))})
    assert refusal.value.code is EnclaveCode.INFERENCE_TIMEOUT
    forever.set()
    leader.join(20)
