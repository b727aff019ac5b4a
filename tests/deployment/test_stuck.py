"""Hostile models in a whole deployment: what can be stopped is stopped, what cannot costs one process and no answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families

from attestation.client import RemoteError, Retries, Timeouts
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests.errors import StrongroomError
from tests.deployment.small import ROWS, WEIGHTS, linear
from tests.enclave.rig import graph
from tests.enclave.test_parts import endless
from tests.enclave.test_stuck import giant

PATIENCE = 60.0
QUICK = Timeouts(connect=5, handshake=10, request=20)
TIMEOUT = {"limits": {"timeout_ms": 300}}
ENDLESS = {"graph": {"max_work": 1 << 62}}
"""Their owner allows what the check of graphs would refuse, so that what a run may take is what ends it."""
LIMITS = {"stuck_grace_ms": 300, "telemetry_window": 0, "address_space": 5 << 29}
SIZE = np.array([4500])
"""A product of 4,500 x 4,500 integers: more than a minute of one operator, begun within a tenth of a second."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Deployment]:
    """A deployment of two processes with a good model and two hostile ones."""
    models = [
        ModelToSeal("linear", linear(), epoch=3),
        ModelToSeal("endless", endless(), review={**TIMEOUT, **ENDLESS}),
        ModelToSeal("giant", giant(), review={"limits": {"timeout_ms": 1500}, **up_to(20_000)}),
        ModelToSeal("hungry", giant(), review={"limits": {"max_memory_bytes": 64 << 20}, **up_to(20_000)}),
        ModelToSeal("texts", texts(), review=up_to(2_000_000)),
    ]
    with (
        temporary_home() as home,
        Deployment(home, models, limits=LIMITS, processes=2) as running,
    ):
        until(
            lambda: all(holds(running, number) == len(models) for number in (1, 2)), "both to be known as provisioned"
        )
        yield running


def up_to(n: int) -> dict[str, Any]:
    """The review of a model whose input n asks for memory and work: n is bounded, what it asks for is allowed."""
    inputs = [{"name": "n", "dtype": "int64", "shape": [1], "minimum": 1, "maximum": n}]
    return {"inputs": inputs, "graph": {"max_memory": 1 << 36}}


def holds(deployment: Deployment, number: int) -> int:
    return int(process(deployment, number)["enclave"].get("models", 0))


def texts() -> bytes:
    """An operator whose memory is no arena's: n copies of a text of 10,000 letters, each a string of its own."""
    letters = numpy_helper.from_array(np.array(["x" * 10_000], dtype=object), "t")
    nodes = [helper.make_node("Expand", ["t", "n"], ["e"]), helper.make_node("Shape", ["e"], ["y"])]
    return graph(nodes, [("n", TensorProto.INT64, [1])], [("y", TensorProto.INT64, [1])], [letters])


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.2)


def answers(deployment: Deployment, **terms: Any) -> bool:
    try:
        with deployment.session(timeouts=QUICK, **terms) as session:
            return bool(np.array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS))
    except StrongroomError:
        return False


def process(deployment: Deployment, number: int) -> dict[str, Any]:
    return dict(deployment.status()["deployments"][number - 1])


def test_a_loop_without_end_is_stopped_and_its_session_goes_on(pair: Deployment) -> None:
    before = pair.enclave_pid
    with pair.session(timeouts=QUICK) as session:
        for _ in range(3):
            with pytest.raises(RemoteError) as caught:
                session.infer("endless", {"x": np.ones(4, np.float32)})
            assert caught.value.remote_code == "inference-timeout"
        np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)
    assert pair.enclave_pid == before


def resident(pair: Deployment) -> int:
    return int(psutil.Process(pair.enclave_pid).memory_info().rss)


def test_a_request_that_wants_too_much_memory_is_refused_and_costs_the_process_nothing(pair: Deployment) -> None:
    before, process = resident(pair), pair.enclave_pid
    with pair.session(timeouts=QUICK) as session:
        for side in (3000, 20_000, 10_000):  # 72 MB, 3.2 GB and 800 MB a matrix, of 64 MiB in all
            with pytest.raises(RemoteError) as caught:
                session.infer("hungry", {"n": np.array([side])})
            assert caught.value.remote_code == "inference-memory"
        assert session.infer("hungry", {"n": np.array([200])})["y"][0] == 200
    assert resident(pair) < before + (96 << 20)
    assert pair.enclave_pid == process


def test_memory_that_no_arena_bounds_is_bounded_with_the_address_space(pair: Deployment) -> None:
    process = pair.enclave_pid
    with pair.session(timeouts=QUICK) as session:
        with pytest.raises(RemoteError) as caught:
            session.infer("texts", {"n": np.array([2_000_000])})  # 20 GB of texts
        assert caught.value.remote_code == "inference-memory"
        assert session.infer("texts", {"n": np.array([5])})["y"][0] == 5
        np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)
    assert pair.enclave_pid == process


def test_one_operator_of_minutes_costs_one_process_and_the_spare_takes_over(pair: Deployment) -> None:
    """The client of the stuck run is answered; others are told inside their sessions to come again, and are served."""
    number = 1 if process(pair, 1)["serving"] else 2
    first, spare = process(pair, number), 3 - number
    assert not process(pair, spare)["serving"]
    with (
        pair.session(timeouts=QUICK) as other,
        pair.session(timeouts=QUICK, retries=Retries()) as patient,
        pair.session(timeouts=QUICK) as hostile,
    ):
        patient.infer("linear", {"x": ROWS})
        acknowledged = other.infer("linear", {"x": ROWS})["y"]
        with pytest.raises(RemoteError) as caught:
            hostile.infer("giant", {"n": SIZE})
        assert caught.value.remote_code == "inference-timeout"
        with pytest.raises(RemoteError) as told:
            other.infer("linear", {"x": ROWS})
        assert (told.value.remote_code, told.value.retry_after) == ("enclave-stopping", 1.0)
        np.testing.assert_array_equal(patient.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)
    np.testing.assert_array_equal(acknowledged, ROWS @ WEIGHTS)
    assert answers(pair)  # at once: the spare holds the model already
    assert process(pair, spare)["serving"]
    until(lambda: process(pair, number)["enclave_pid"] not in {None, first["enclave_pid"]}, "another process")
    until(lambda: answers(pair, route=f"default.{number}"), "the new spare to be provisioned")
    ended = process(pair, number)
    assert (ended["stuck_ends"], ended["last_exit"]["reason"]) == (
        1,
        "a run could not be stopped, so the host ended it",
    )
    assert answers(pair)


def test_the_owner_is_told_which_model_it_was_and_its_places_are_free_again(pair: Deployment) -> None:
    said = [event for event in pair.broker_events() if event["event"] == "stuck"]
    assert [event["model"] for event in said] == ["giant"]
    spare = 1 if process(pair, 2)["serving"] else 2
    until(lambda: holds(pair, spare) == 4, "the new spare to be provisioned")
    with pair.session(timeouts=QUICK, route=f"default.{spare}") as session:
        assert {model.name for model in session.models()} == {"linear", "endless", "hungry", "texts"}
    listed = pair.commands.json("broker", "list", "--home", pair.layout.broker)
    holders = {row["name"]: row["holders"] for row in listed["models"]}
    assert holders == {"linear": 2, "endless": 2, "hungry": 2, "texts": 2, "giant": 1}


def test_monitoring_reads_what_happened_and_no_name_of_a_model(pair: Deployment) -> None:
    with pair.session(timeouts=QUICK) as session, pytest.raises(RemoteError):
        session.infer("linear", {"x": np.ones((1, 7), np.float32)})
    number = "1" if process(pair, 1)["serving"] else "2"
    until(lambda: refusals(pair, number).get("tensor-shape", 0) == 1, "the enclave's next report")
    found = monitored(pair)
    ends = {sample.labels["process"]: sample.value for sample in found["strongroom_process_stuck_ends"].samples}
    serving = {sample.labels["process"]: sample.value for sample in found["strongroom_process_serving"].samples}
    assert {label for label, value in serving.items() if value} == {number}
    assert ends == {number: 0, str(3 - int(number)): 1}
    page = pair.commands.run("host", "metrics", "--home", pair.layout.host)
    assert all(name not in page for name in ("linear", "endless", "giant", "hungry"))


def monitored(pair: Deployment) -> dict[str, Any]:
    page = pair.commands.run("host", "metrics", "--home", pair.layout.host)
    return {family.name: family for family in text_string_to_metric_families(page)}


def refusals(pair: Deployment, process: str) -> dict[str, float]:
    samples = monitored(pair)["strongroom_enclave_refused"].samples
    return {sample.labels["code"]: sample.value for sample in samples if sample.labels["process"] == process}
