"""Answers in parts: credit, cancelling, clients that do not read, and what ends a stream."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.wire.frames import ROUTE_STOP, Frame
from attestation.wire.messages import encode_body
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lanes import STALLED_SECONDS
from enclave.operations import Reply
from enclave.session import Session
from enclave.streams import MAX_STREAMS, MAX_WINDOW, Piece, Source, Stream, Streams
from manifests.errors import ManifestCode
from manifests.gramine.settings import EnclaveSettings
from tests.enclave.poet import poet_bytes, stepped
from tests.enclave.rig import Client, Ended, Refused, Rig, running
from tests.enclave.test_generation import Poet, tokens_of


def counting(last: int, ended: list[int] | None = None) -> Source:
    """Give 0 to `last`; note in `ended` how far it came."""
    number = -1
    try:
        for number in range(last + 1):
            yield Piece({"n": number}, final=number == last)
    finally:
        if ended is not None:
            ended.append(number)


def taken(streams: Streams) -> list[tuple[int, int, bool]]:
    """Take steps as long as there is one: (stream, n, final)."""
    found = []
    while streams.ready:
        number = streams.turn()
        step = streams.step(number)
        assert step is not None
        found.append((number, int(str(step[0].header["n"])), step[0].final))
        assert step[1] == found[-1][1]
    return found


def test_a_stream_gives_as_many_parts_as_its_client_is_ready_for() -> None:
    streams = Streams()
    streams.begin(1, Stream(counting(4), 2))
    assert taken(streams) == [(1, 0, False), (1, 1, False)]
    assert len(streams) == 1
    streams.more(1, MAX_WINDOW)
    assert taken(streams) == [(1, 2, False), (1, 3, False), (1, 4, True)]
    assert len(streams) == 0
    streams.more(1, 1)
    streams.cancel(1)
    assert not streams.ready, "what has ended is passed over"


def test_credit_has_a_bound() -> None:
    streams = Streams()
    streams.begin(1, Stream(counting(5000), 1))
    for _ in range(3):
        streams.more(1, MAX_WINDOW)
    assert len(taken(streams)) == MAX_WINDOW


def test_streams_take_turns() -> None:
    streams = Streams()
    for number in (1, 2):
        streams.begin(number, Stream(counting(2), 8))
    assert [number for number, _, _ in taken(streams)] == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda streams: streams.cancel(1), EnclaveCode.STREAM_CANCELLED),
        (lambda streams: streams.expire(time.monotonic()), EnclaveCode.STREAM_STALLED),
    ],
)
def test_a_stream_that_is_ended_frees_what_it_holds_and_says_why(
    end: Callable[[Streams], None], code: EnclaveCode
) -> None:
    streams, ended = Streams(), list[int]()
    streams.begin(1, Stream(counting(4, ended), 1))
    taken(streams)
    end(streams)
    assert ended == [0]
    with pytest.raises(EnclaveError) as refusal:
        taken(streams)
    assert refusal.value.code is code
    assert len(streams) == 0


def test_only_what_rests_expires() -> None:
    streams = Streams()
    streams.begin(1, Stream(counting(4), 1))
    streams.begin(2, Stream(counting(4), 8))
    assert streams.rest_since == math.inf
    before = time.monotonic()
    assert streams.step(1) is not None
    assert before <= streams.rest_since <= time.monotonic()
    streams.expire(before - 1)
    assert [number for number, _, _ in taken(streams)] == [2] * 5
    streams.more(1, 1)
    assert streams.rest_since == math.inf
    streams.expire(time.monotonic() + 1)
    assert len(streams) == 1


def test_an_error_within_a_stream_ends_it_alone() -> None:
    def failing() -> Source:
        yield Piece({"n": 0})
        raise EnclaveError(EnclaveCode.LEASE_EXHAUSTED, "no more")

    streams = Streams()
    streams.begin(1, Stream(failing(), 8))
    streams.begin(2, Stream(counting(1), 8))
    with pytest.raises(EnclaveError):
        taken(streams)
    assert taken(streams) == [(2, 1, True)]


# ------------------------------------------------------------------------------------------ through the server


@pytest.fixture
def poet(rig: Rig, tmp_path: Path) -> Poet:
    return Poet(rig, tmp_path)


def test_a_client_gives_up_a_stream_and_the_session_goes_on(poet: Poet) -> None:
    client = poet.rig.client()
    number = poet.ask(client, window=1)
    client.answer(number)
    client.send({"op": "cancel", "stream": number})
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == EnclaveCode.STREAM_CANCELLED
    assert poet.slots == 4
    assert len(tokens_of(client, poet.ask(client))) == 12


def test_a_session_has_a_bounded_number_of_streams(poet: Poet) -> None:
    client = poet.rig.client()
    for _ in range(MAX_STREAMS):
        client.answer(poet.ask(client, window=1))
    with pytest.raises(Refused) as refusal:
        client.answer(poet.ask(client))
    assert refusal.value.code == EnclaveCode.BUSY


@pytest.mark.parametrize("op", ["generate", "models", "continue"])
def test_the_number_of_an_open_stream_is_no_number_for_another_request(poet: Poet, op: str) -> None:
    client = poet.rig.client()
    number = poet.ask(client, window=1)
    client.answer(number)
    with pytest.raises(Refused, match="open stream") as refusal:
        client.exchange(encode_body({"op": op, "id": number}))
    assert (refusal.value.code, refusal.value.field) == (EnclaveCode.REQUEST_MALFORMED, "id")


@pytest.mark.parametrize(
    "header",
    [
        {"op": "continue", "stream": 1, "parts": 0},
        {"op": "continue", "stream": 1, "parts": MAX_WINDOW + 1},
        {"op": "continue", "stream": 1},
        {"op": "cancel", "stream": "1"},
        {"op": "cancel"},
    ],
)
def test_notes_that_are_malformed_are_refused(poet: Poet, header: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refusal:
        poet.rig.client().request(header)
    assert refusal.value.code == ManifestCode.FIELD_INVALID


def test_notes_on_streams_that_are_over_are_not_answered(poet: Poet) -> None:
    client = poet.rig.client()
    client.send({"op": "continue", "stream": 7, "parts": 3})
    client.send({"op": "cancel", "stream": 7})
    assert client.request({"op": "models"}).header["class"] == "simulated"


def test_draining_ends_streams_with_a_word_and_closes(poet: Poet) -> None:
    client = poet.rig.client()
    client.answer(poet.ask(client, window=1))
    poet.rig.host.send(Frame(ROUTE_STOP, 0, b""))
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == EnclaveCode.STOPPING
    with pytest.raises(Ended):
        client.answer()


def test_the_time_limit_is_for_all_steps_together(rig: Rig, tmp_path: Path) -> None:
    poet = Poet(rig, tmp_path)
    [model] = rig.service.owners.models()
    assert model.generation is not None
    ask = model.generation
    seconds: list[float] = []

    def noted(names: Any, inputs: Any, left: float) -> Any:
        seconds.append(left)
        return model._run_for(names, inputs, left)

    ask.try_out(noted)
    assert seconds[0] == 30.0
    assert seconds[1] < 30.0
    assert poet.slots == 4


def test_threads_that_all_serve_streams_hear_whatever_else_arrives(tmp_path: Path) -> None:
    settings = EnclaveSettings("first")
    few = replace(settings, limits=replace(settings.limits, threads=2))
    with running(few) as rig:
        poet = Poet(rig, tmp_path)
        clients = [rig.client() for _ in range(4)]
        numbers = [poet.ask(client, max_new_tokens=40, window=64) for client in clients]
        late = rig.client()
        assert late.request({"op": "models"}).header["class"] == "simulated"
        expected = stepped(poet_bytes(), list(b"The sea"), 40)
        assert [tokens_of(client, number) for client, number in zip(clients, numbers, strict=True)] == [expected] * 4


def test_a_stream_whose_client_does_not_read_ends_after_a_while(poet: Poet) -> None:
    lanes = poet.rig.server.lanes
    client, other = poet.rig.client(), poet.rig.client()
    number = poet.ask(client, window=1)
    client.answer(number)
    poet.rig.wait_until(lambda: any(lane.stalled < math.inf for lane in list(lanes._lanes.values())))
    for passed in (STALLED_SECONDS - 10, STALLED_SECONDS + 1):
        lanes._clock = lambda passed=passed: time.monotonic() + passed  # type: ignore[misc]
        other.request({"op": "models"})
        assert len(lanes) == 3
    with pytest.raises(Refused) as refusal:
        client.answer()
    assert refusal.value.code == EnclaveCode.STREAM_STALLED
    assert poet.slots == 4
    assert client.request({"op": "models"}).header["class"] == "simulated", "the session goes on"


def test_a_stream_that_was_never_begun_holds_nothing(poet: Poet) -> None:
    client: Client = poet.rig.client()
    with pytest.raises(Refused):
        client.answer(poet.ask(client, prompt=""))
    assert poet.slots == 4


def test_what_is_answered_stands_in_no_repr() -> None:
    """Headers hold tickets' keys, salts of receipts and generated text."""
    secret = b"pre-shared key"
    assert "pre-shared" not in repr(Reply({"psk": secret})) + repr(Piece({"text": secret}))


def test_a_step_is_refused_under_the_number_of_its_stream_and_not_of_the_note_before_it(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A `continue` has a number of its own, and comes between the steps of the stream that it is for."""
    session = Session(rig.service)
    session._answering = 6
    monkeypatch.setattr(session, "_check_revoked", lambda: True)
    monkeypatch.setattr(session._caller.streams, "turn", lambda: 5)
    monkeypatch.setattr(session, "_advance", lambda: None)
    stuck: list[int] = []
    monkeypatch.setattr(session, "_guarded", lambda _number, _work: stuck.append(session._answering))
    session.step()
    assert stuck == [5]
