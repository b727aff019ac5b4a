"""Hostile models in a whole deployment: what can be stopped is stopped, what cannot costs one process and no answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from attestation.client import RemoteError, Timeouts
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests.errors import StrongroomError
from tests.deployment.small import ROWS, WEIGHTS, linear
from tests.enclave.test_parts import endless
from tests.enclave.test_stuck import giant

PATIENCE = 60.0
QUICK = Timeouts(connect=5, handshake=10, request=20)
TIMEOUT = {"limits": {"timeout_ms": 300}}
SIZE = np.array([4500])
"""A product of 4,500 x 4,500 integers: more than a minute of one operator, begun within a tenth of a second."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Deployment]:
    """A deployment of two processes with a good model and two hostile ones."""
    models = [
        ModelToSeal("linear", linear(), epoch=3),
        ModelToSeal("endless", endless(), review=TIMEOUT),
        ModelToSeal("giant", giant(), review={"limits": {"timeout_ms": 1500}}),
    ]
    with (
        temporary_home() as home,
        Deployment(home, models, limits={"stuck_grace_ms": 300}, processes=2) as running,
    ):
        yield running


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


def test_one_operator_of_minutes_costs_one_process_and_the_spare_takes_over(pair: Deployment) -> None:
    """The client of the stuck run is answered; others are told inside their sessions to come again, and are served."""
    first = process(pair, 1)
    assert (first["serving"], process(pair, 2)["serving"]) == (True, False)
    with pair.session(timeouts=QUICK) as other, pair.session(timeouts=QUICK) as hostile:
        acknowledged = other.infer("linear", {"x": ROWS})["y"]
        with pytest.raises(RemoteError) as caught:
            hostile.infer("giant", {"n": SIZE})
        assert caught.value.remote_code == "inference-timeout"
        with pytest.raises(RemoteError) as told:
            other.infer("linear", {"x": ROWS})
        assert (told.value.remote_code, told.value.retry_after) == ("enclave-stopping", 1.0)
    np.testing.assert_array_equal(acknowledged, ROWS @ WEIGHTS)
    assert answers(pair)  # at once: the spare holds the model already
    assert process(pair, 2)["serving"]
    until(lambda: process(pair, 1)["enclave_pid"] not in {None, first["enclave_pid"]}, "another process")
    until(lambda: answers(pair, route="default.1"), "the new spare to be provisioned")
    ended = process(pair, 1)
    assert (ended["stuck_ends"], ended["last_exit"]["reason"]) == (
        1,
        "a run could not be stopped, so the host ended it",
    )
    assert answers(pair)


def test_the_owner_is_told_which_model_it_was_and_its_places_are_free_again(pair: Deployment) -> None:
    said = [event for event in pair.broker_events() if event["event"] == "stuck"]
    assert [event["model"] for event in said] == ["giant"]
    with pair.session(timeouts=QUICK, route="default.1") as session:
        assert {model.name for model in session.models()} == {"linear", "endless"}
    listed = pair.commands.json("broker", "list", "--home", pair.layout.broker)
    holders = {row["name"]: row["holders"] for row in listed["models"]}
    assert holders == {"linear": 2, "endless": 2, "giant": 1}
