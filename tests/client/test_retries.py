"""Trying again where a caller asks for it: within bounds, with jitter, and never what was refused for what it is."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from attestation.client import AsyncSession, RemoteError, Retries, Session
from attestation.client.errors import ClientCode, ClientError
from attestation.client.refusals import RemoteError as Remote
from attestation.client.retries import Patience, is_lost
from attestation.errors import WireCode, WireError

X = np.array([1.0, 2.0], np.float32)
AT_ONCE = Retries(attempts=3, longest=5.0, total=60.0, draw=lambda low, _high: low / 100)
MINIMAL = {"longest": 5.0, "total": 60.0}


def refusing(code: str, times: int, then: Any, retry_after: float | None = None, **options: Any) -> Any:
    """Return a script that refuses the first requests for inference."""
    left = [times]

    def script(peer: Any, body: Any) -> None:
        if body.header["op"] == "infer" and left[0]:
            left[0] -= 1
            peer.refuse(body.header["id"], code, None, retry_after)
        else:
            then(peer, body)

    return script


@pytest.fixture(params=["blocking", "async"])
def infer(request: pytest.FixtureRequest) -> Any:
    def blocking(address: str, **terms: Any) -> Any:
        with Session.connect(address, **terms) as session:
            return session.infer("doubler", {"x": X})["x"]

    def asynchronous(address: str, **terms: Any) -> Any:
        async def run() -> Any:
            async with AsyncSession.connect(address, **terms) as session:
                return (await session.infer("doubler", {"x": X}))["x"]

        return asyncio.run(run())

    return blocking if request.param == "blocking" else asynchronous


def test_a_busy_enclave_is_asked_again_in_the_same_session(world, serve, infer) -> None:
    enclave = serve(refusing("enclave-busy", 3, world.doubling, 1.0))
    np.testing.assert_array_equal(infer(enclave.address, **world.terms(), retries=AT_ONCE), X * 2)
    assert len(enclave.peers) == 1


def test_a_slice_of_the_budget_that_is_on_its_way_is_waited_for(world, serve, infer) -> None:
    waits: list[float] = []

    def draw(low: float, _high: float) -> float:
        waits.append(low)
        return low / 1000

    enclave = serve(refusing("budget-pending", 2, world.doubling, 2.0))
    retries = Retries(attempts=3, longest=5.0, draw=draw)
    np.testing.assert_array_equal(infer(enclave.address, **world.terms(), retries=retries), X * 2)
    assert waits == [2.0, 2.0], "as long as the enclave asked for"
    assert len(enclave.peers) == 1


def test_a_slice_that_does_not_come_is_waited_for_within_bounds(world, serve, infer) -> None:
    enclave = serve(refusing("budget-pending", 4, world.doubling, 2.0))
    with pytest.raises(RemoteError, match="budget-pending"):
        infer(enclave.address, **world.terms(), retries=AT_ONCE)


def test_an_enclave_that_is_ending_is_left_for_another_session(world, serve, infer) -> None:
    enclave = serve(refusing("enclave-stopping", 2, world.doubling, 1.0))
    np.testing.assert_array_equal(infer(enclave.address, **world.terms(), retries=AT_ONCE), X * 2)
    assert len(enclave.peers) == 3


def test_a_host_that_lost_its_enclave_is_asked_for_another_session(world, serve, infer) -> None:
    from attestation.wire.frames import error_frame
    from host.errors import HostCode

    lost = [2]

    def script(peer: Any, body: Any) -> None:
        if body.header["op"] == "infer" and lost[0]:
            lost[0] -= 1
            peer.host_error(bytes(error_frame(1, HostCode.ENCLAVE_LOST, "the enclave ended").body))
            peer.end()
        else:
            world.doubling(peer, body)

    enclave = serve(script)
    np.testing.assert_array_equal(infer(enclave.address, **world.terms(), retries=AT_ONCE), X * 2)
    assert len(enclave.peers) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        ("enclave-busy", 1.0, None),
        ("enclave-busy", 5.1, AT_ONCE),
        ("enclave-busy", None, AT_ONCE),
        ("budget-exhausted", 3600.0, AT_ONCE),
        ("inference-timeout", None, AT_ONCE),
        ("tensor-shape", None, AT_ONCE),
    ],
    ids=[
        "nobody asked for it",
        "too long to wait",
        "no hint",
        "the period ends in an hour",
        "it took too long",
        "it is wrong",
    ],
)
def test_a_request_is_not_sent_again(world, serve, infer, refusal: tuple[str, float | None, Retries | None]) -> None:
    code, hint, retries = refusal
    enclave = serve(refusing(code, 1, world.doubling, hint))
    with pytest.raises(RemoteError) as raised:
        infer(enclave.address, **world.terms(), retries=retries)
    assert raised.value.remote_code == code


def test_attempts_are_bounded(world, serve, infer) -> None:
    enclave = serve(refusing("enclave-busy", 4, world.doubling, 1.0))
    with pytest.raises(RemoteError, match="enclave-busy"):
        infer(enclave.address, **world.terms(), retries=AT_ONCE)


def test_a_session_that_its_user_closed_stays_closed(world, serve) -> None:
    enclave = serve()
    session = Session.connect(enclave.address, **world.terms(), retries=AT_ONCE)
    session.close()
    with pytest.raises(ClientError) as refusal:
        session.infer("doubler", {"x": X})
    assert refusal.value.code is ClientCode.CLIENT_CLOSED
    assert len(enclave.peers) == 1


def busy(hint: float | None) -> Remote:
    return Remote("enclave-busy", "no", None, hint)


def test_waits_grow_are_never_shorter_than_asked_for_and_have_jitter() -> None:
    patience = Patience(Retries(attempts=6, draw=lambda _low, high: high))
    assert [patience.wait(busy(0.25)) for _ in range(4)] == [0.375, 0.75, 1.5, 3.0]
    assert patience.wait(busy(8.0)) == 12.0
    lows = [Patience(Retries()).wait(busy(2.0)) for _ in range(50)]
    assert all(2.0 <= seconds <= 3.0 for seconds in lows)
    assert len(set(lows)) > 40


def test_all_waits_together_are_bounded() -> None:
    patience = Patience(Retries(attempts=100, draw=lambda low, _high: low, **MINIMAL))
    with pytest.raises(Remote):
        for _ in range(100):
            patience.wait(busy(5.0))
    assert patience.waited == 60.0


@pytest.mark.parametrize(
    "error",
    [
        ClientError(ClientCode.TIMED_OUT, "late"),
        ClientError(ClientCode.EPOCH_ROLLBACK, "old"),
        WireError(WireCode.RECORD_MALFORMED, "broken"),
    ],
)
def test_what_nobody_knows_to_pass_is_not_waited_for(error: Any) -> None:
    assert not is_lost(error)
    with pytest.raises(type(error)):
        Patience(AT_ONCE).wait(error)


@pytest.mark.parametrize(
    "bounds",
    [
        {"attempts": 0},
        {"attempts": 101},
        {"longest": 0.0},
        {"longest": 61.0},
        {"total": 1e9},
        {"longest": float("nan")},
    ],
    ids=str,
)
def test_retries_without_usable_bounds_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refusal:
        Retries(**bounds)
    assert refusal.value.code is ClientCode.RETRIES_INVALID
