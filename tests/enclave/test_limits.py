"""Limits of one client, one model and one request, through real sessions; held by counts, not by times."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from attestation.types import Credential
from enclave.errors import EnclaveError
from enclave.gate import MAX_WAITING, Gate, Turn, Turns, crowded
from manifests.gramine.settings import EnclaveSettings, Limits
from manifests.signing import Signer
from tests.enclave.rig import Client, Owner, Refused, Rig, graph, linear, running
from tests.enclave.test_stuck import giant, giant_manifest

BRIEF = np.array([160])
"""A product that takes some milliseconds, in which the interpreter is free."""
LONG = np.array([700])
"""One that takes some tenths of a second."""


def settings(**limits: int) -> EnclaveSettings:
    return EnclaveSettings("first", limits=Limits(**limits))


def provisioned(rig: Rig, owner: Owner, folder: Path, **limits: int) -> bytes:
    manifest = giant_manifest(owner, timeout_ms=60_000, **limits)
    digest = owner.seal(rig.host, folder, giant(), manifest=manifest)
    owner.provision(rig.client(), digest, name="giant")
    return digest


def known(rig: Rig, owner: Owner) -> Client:
    """Return a client with an identity."""
    key, client = Signer.generate(), rig.client()
    client.authenticate(key, Credential(owner.public, key.public, "ward 7").sign(owner.key))
    return client


def ask(client: Client, digest: bytes, n: np.ndarray) -> None:
    """Send a request and wait for nothing."""
    from attestation.wire.messages import MessageType, encode_body

    client._last += 1
    header = {"op": "infer", "model": {"digest": digest}, "id": client._last}
    client.put(client.wire.send(MessageType.REQUEST, encode_body(header, {"n": n})))


def runs_at_once(rig: Rig, body: Callable[[], Any]) -> int:
    """Return the largest number of runs that were seen at one moment while `body` ran."""
    seen, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.001):
            seen.append(len(rig.service.loader._watchdog._runs))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        body()
    finally:
        over.set()
        watcher.join()
    return max(seen)


def test_a_hundred_busy_sessions_of_one_client_do_not_starve_another(owner: Owner, tmp_path: Path) -> None:
    """Served first come, first served, each request of the other would wait for a hundred."""
    with running(settings(threads=2)) as rig:
        digest = provisioned(rig, owner, tmp_path)
        other = known(rig, owner)
        other.infer(digest, n=BRIEF)
        crowd = [rig.client() for _ in range(100)]
        for client in crowd:
            for _ in range(8):
                ask(client, digest, BRIEF)
        before = rig.service.requests
        for _ in range(10):
            other.infer(digest, n=BRIEF)
        taken = rig.service.requests - before - 10
        assert taken < 10 * 20, "for each request of the other, some of the crowd's were served, and not a hundred"
        for client in crowd:
            for _ in range(8):
                client.answer()


def test_a_client_at_its_limit_leaves_threads_to_others(owner: Owner, tmp_path: Path) -> None:
    with running(settings(threads=4, max_client_runs=1)) as rig:
        digest = provisioned(rig, owner, tmp_path)
        crowd = [rig.client() for _ in range(6)]

        def flood() -> None:
            for client in crowd:
                ask(client, digest, BRIEF)
            for client in crowd:
                client.answer()

        assert runs_at_once(rig, flood) == 1
        other = known(rig, owner)

        def both() -> None:
            for client in crowd:
                ask(client, digest, LONG)
            other.infer(digest, n=LONG)
            for client in crowd:
                client.answer()

        assert runs_at_once(rig, both) == 2


@pytest.mark.parametrize(("limits", "most"), [({"max_concurrent": 1}, 1), ({"max_concurrent_per_client": 2}, 2)])
def test_a_model_runs_as_often_at_once_as_its_manifest_says(
    owner: Owner, tmp_path: Path, limits: dict[str, int], most: int
) -> None:
    with running(settings(threads=4)) as rig:
        digest = provisioned(rig, owner, tmp_path, **limits)
        _, manifest = linear(owner)
        other = owner.seal(rig.host, tmp_path, linear(owner)[0], manifest=manifest)
        owner.provision(rig.client(), other)
        crowd = [rig.client() for _ in range(6)]

        def flood() -> None:
            for client in crowd:
                ask(client, digest, LONG)
            assert rig.client().infer(other, x=np.ones((1, 4), np.float32))  # no thread waits with those that wait
            assert sum(client.answer().arrays()["y"][0] for client in crowd) == 6 * LONG[0]

        assert runs_at_once(rig, flood) <= most + 1  # and the other model's run


def test_a_session_that_goes_while_it_waits_gives_its_turn_up(owner: Owner, tmp_path: Path) -> None:
    with running(settings(threads=4)) as rig:
        digest = provisioned(rig, owner, tmp_path, max_concurrent=1)
        crowd = [rig.client() for _ in range(4)]
        for client in crowd:
            ask(client, digest, LONG)
            client.close()
        assert rig.client().infer(digest, n=BRIEF)["y"] == BRIEF[0]
        (model,) = rig.service.owners.models()
        assert model.gate is not None
        rig.wait_until(lambda: model.gate._running == 0 and len(model.gate._queue) == 0)


def test_a_crowd_is_sent_away_with_a_time_to_come_back_and_nobody_else_is(owner: Owner, tmp_path: Path) -> None:
    with running(settings(threads=2, max_waiting=2)) as rig:
        digest = provisioned(rig, owner, tmp_path)
        other = known(rig, owner)
        crowd = [rig.client() for _ in range(10)]
        for client in crowd:
            ask(client, digest, LONG)
        assert other.infer(digest, n=BRIEF)["y"] == BRIEF[0]
        outcomes, hints = Counter[str](), set[float | None]()
        for client in crowd:
            try:
                client.answer()
                outcomes["answered"] += 1
            except Refused as refusal:
                outcomes[refusal.code] += 1
                hints.add(refusal.retry_after)
        assert hints <= {0.25, 0.5, 1.0, 2.0, 4.0, 8.0}
        assert outcomes["answered"] + outcomes["enclave-busy"] == 10
        assert outcomes["enclave-busy"] >= 4
        assert outcomes["answered"] >= 2


# ---------------------------------------------------------------------------------------------- memory


def test_a_request_that_wants_too_much_memory_is_refused_and_the_next_is_not(owner: Owner, tmp_path: Path) -> None:
    with running() as rig:
        digest = provisioned(rig, owner, tmp_path, max_memory_bytes=8 << 20)
        client = rig.client()
        for _ in range(3):
            with pytest.raises(Refused, match="inference-memory"):
                client.infer(digest, n=np.array([1000]))  # three matrices of 8 MB
            assert client.infer(digest, n=BRIEF)["y"] == BRIEF[0]


def test_the_settings_bound_a_model_that_names_no_bound_or_a_larger_one(owner: Owner, tmp_path: Path) -> None:
    with running(settings(run_memory=8 << 20)) as rig:
        for limits in ({}, {"max_memory_bytes": 1 << 30}):
            digest = provisioned(rig, owner, tmp_path, **limits)
            with pytest.raises(Refused, match="inference-memory"):
                rig.client().infer(digest, n=np.array([1000]))


def test_each_model_has_a_bound_of_its_own_and_weights_are_no_part_of_it(owner: Owner, tmp_path: Path) -> None:
    weights = np.ones((2000, 500), np.float32)  # 4 MB
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    shapes = ([("x", TensorProto.FLOAT, ["n", 2000])], [("y", TensorProto.FLOAT, ["n", 500])])
    data = graph(nodes, *shapes, [numpy_helper.from_array(weights, "w")])
    table = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 2000]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 500]}],
        "labels": [],
        "limits": {"max_memory_bytes": 1 << 20},
    }
    with running() as rig:
        wide = provisioned(rig, owner, tmp_path, max_memory_bytes=64 << 20)
        _, manifest = linear(owner, name="small", **table)
        digest = owner.seal(rig.host, tmp_path, data, manifest=manifest)
        owner.provision(rig.client(), digest, name="small")
        client = rig.client()
        assert client.infer(digest, x=np.ones((1, 2000), np.float32))["y"][0, 0] == 2000
        assert client.infer(wide, n=np.array([1000]))["y"] == 1000


# ---------------------------------------------------------------------------------------------- the gate alone


def granted(gate: Gate, key: bytes, order: list[bytes]) -> Turn:
    turn = gate.turn(key)
    if turn.take():
        order.append(key)
    else:
        turn.wait(lambda: order.append(key))
    return turn


def test_turns_alternate_between_clients_however_many_each_asks_for() -> None:
    gate, order = Gate(1, clock=itertools.count(1.0).__next__), list[bytes]()
    turns = [granted(gate, b"many", order) for _ in range(20)]
    turns += [granted(gate, b"few", order) for _ in range(3)]
    for _ in range(23):
        next(turn for turn in turns if turn.began and not turn.over).end()
    assert len(order) == 23
    assert set(order[:8]) == {b"many", b"few"}
    assert order[:8].count(b"few") == 3


def test_a_turn_ends_once() -> None:
    gate, order = Gate(1), list[bytes]()
    first, second, third = (granted(gate, b"k", order) for _ in range(3))
    second.end()  # it gave up waiting
    first.end()
    first.end()
    assert (len(order), third.began > 0, gate._running) == (2, True, 1)
    third.end()
    assert gate._running == 0


def test_turns_at_several_models_are_held_together_and_given_back_whatever_happens() -> None:
    gates, order = [Gate(1), Gate(1)], list[str]()
    first, second, third = (Turns(gates, name) for name in (b"first", b"second", b"third"))
    assert first.take()
    for turns, name in ((second, "second"), (third, "third")):
        assert not turns.take()
        turns.wait(partial(order.append, name))
    first.end()
    assert order == ["second"]
    third.end()  # it gave up waiting
    second.end()
    assert [gate._running for gate in gates] == [0, 0]
    third._came(partial(order.append, "too late"))
    assert (order, [gate._running for gate in gates]) == (["second"], [0, 0])


def test_a_later_turn_that_is_refused_ends_the_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Gate(1), Gate(1)
    holder, other = one.turn(b"holder"), two.turn(b"other")
    assert holder.take()
    assert other.take()
    turns, told = Turns([one, two], b"late"), list[int]()
    assert not turns.take()
    turns.wait(lambda: told.append(1))
    monkeypatch.setattr("enclave.gate.MAX_WAITING", 0)
    holder.end()
    assert told == [1]
    with pytest.raises(EnclaveError, match="enclave-busy"):
        turns.check([one, two])
    turns.end()
    assert (one._running, two._running) == (0, 1)


def test_a_model_that_came_while_a_request_waited_is_not_run_without_a_turn() -> None:
    one, new = Gate(1), Gate(1)
    turns = Turns([one], b"k")
    assert turns.take()
    turns.check([one, None])
    with pytest.raises(EnclaveError, match="enclave-busy"):
        turns.check([one, new])


def test_more_than_can_wait_are_refused_with_a_time() -> None:
    gate, order = Gate(1), list[bytes]()
    for _ in range(MAX_WAITING + 1):
        granted(gate, b"k", order)
    turn = gate.turn(b"k")
    assert not turn.take()
    with pytest.raises(EnclaveError, match="enclave-busy") as refusal:
        turn.wait(lambda: None)
    assert refusal.value.retry_after is not None
    assert turn.over


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, 0.25), (0.25, 0.25), (0.26, 0.5), (3.0, 4.0), (63.0, 64.0), (1e9, 64.0)]
)
def test_a_hint_is_coarse_and_bounded(seconds: float, told: float) -> None:
    assert crowded(seconds).retry_after == told
