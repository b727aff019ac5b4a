"""Answers in parts, as a client takes them: from an enclave that keeps to the protocol, and from one that does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from attestation.client import AsyncSession, RemoteError, Session
from attestation.client.errors import ClientCode, ClientError
from attestation.client.generation import WINDOW
from attestation.errors import WireCode, WireError
from attestation.wire.messages import Body
from manifests.errors import StrongroomError
from tests.client.conftest import DIGEST, Serve, World
from tests.client.scripted import Peer


class Talker:
    """A script that answers `generate` with these bytes, one to a part, and notes what it is asked."""

    def __init__(self, world: World, text: bytes = "größer".encode(), **last: Any) -> None:
        self.world = world
        self.text = text
        self.last = {"reason": "length", **last}
        self.asked: list[dict[str, Any]] = []
        self.sent = threading.Event()
        self.change: Callable[[dict[str, Any], int], dict[str, Any] | None] = lambda header, _: header

    def __call__(self, peer: Peer, body: Body) -> None:
        self.asked.append(body.header)
        if body.header["op"] == "generate":
            for part in range(len(self.text)):
                header = self.change(self.part(body.header["id"], part), part)
                if header is not None:
                    peer.respond(header)
            self.sent.set()
        elif body.header["op"] == "cancel":
            peer.refuse(body.header["stream"], "stream-cancelled")
        elif body.header["op"] != "continue":
            self.world.doubling(peer, body)

    def part(self, number: int, part: int) -> dict[str, Any]:
        final = part == len(self.text) - 1
        beat = [self.world.beat_time, self.world.epoch, self.world.owner.public]
        header = {"id": number, "part": part, "final": final, "model": DIGEST, "epoch": self.world.epoch, "beat": beat}
        return header | {"text": self.text[part : part + 1], "tokens": [part]} | (self.last if final else {})


def at_once() -> None:
    """Read as soon as it was asked."""


def read_blocking(address: str, terms: dict[str, Any], before: Callable[[], Any] = at_once, **asked: Any) -> str:
    with Session.connect(address, **terms) as session, session.generate("doubler", "x", **asked) as answer:
        before()
        return answer.read()


def read_async(address: str, terms: dict[str, Any], before: Callable[[], Any] = at_once, **asked: Any) -> str:
    async def read() -> str:
        async with (
            AsyncSession.connect(address, **terms) as session,
            await session.generate("doubler", "x", **asked) as answer,
        ):
            before()
            return await answer.read()

    return asyncio.run(read())


READ = pytest.mark.parametrize("read", [read_blocking, read_async])
Read = Callable[..., str]


@READ
def test_parts_make_up_a_text_whose_characters_are_never_cut(serve: Serve, world: World, read: Read) -> None:
    talker = Talker(world)
    assert read(serve(talker).address, world.terms(), max_new_tokens=8, stop="\n") == "größer"
    assert talker.asked[0] | {"id": 1} == {
        "op": "generate",
        "id": 1,
        "model": talker.asked[0]["model"],
        "prompt": "x",
        "max_new_tokens": 8,
        "window": WINDOW,
        "stop": ["\n"],
    }


def test_pieces_come_one_by_one_with_reason_and_seed_at_the_end(serve: Serve, world: World) -> None:
    talker = Talker(world, b"abc", seed=9)
    with Session.connect(serve(talker).address, **world.terms()) as session:
        answer = session.generate("doubler", [1, 2], max_new_tokens=3, temperature=1, top_k=5, top_p=0.5, seed=9)
        assert [(piece.text, piece.data, piece.tokens) for piece in answer][1] == ("b", b"b", (1,))
        assert (answer.finished, answer.reason, answer.seed) == (True, "length", 9)
        assert (answer.text, answer.data, answer.tokens) == ("abc", b"abc", (0, 1, 2))
        assert repr(answer) == "<Generation 3 tokens, length>"
    assert {"temperature": 1.0, "top_k": 5, "top_p": 0.5, "seed": 9}.items() <= talker.asked[0].items()


@READ
def test_a_client_asks_for_more_before_it_runs_dry(serve: Serve, world: World, read: Read) -> None:
    talker = Talker(world, b"x" * (WINDOW + 5))
    held: list[tuple[Peer, dict[str, Any]]] = []

    def script(peer: Peer, body: Body) -> None:
        talker.change = lambda header, part: header if part < WINDOW else held.append((peer, header))
        talker(peer, body)
        if body.header["op"] == "continue":
            while held:
                peer.respond(held.pop(0)[1])

    assert len(read(serve(script).address, world.terms(), max_new_tokens=200)) == WINDOW + 5
    notes = [header for header in talker.asked if header["op"] == "continue"]
    assert notes[0] | {"id": 0} == {"id": 0, "op": "continue", "stream": 1, "parts": WINDOW // 2}


def test_other_requests_are_answered_while_an_answer_is_open(serve: Serve, world: World) -> None:
    with Session.connect(serve(Talker(world, b"abc")).address, **world.terms()) as session:
        answer = session.generate("doubler", "x", max_new_tokens=3)
        assert next(answer).text == "a"
        assert session.infer("doubler", {"x": [[1.0]]})["x"].tolist() == [[2.0]]
        other = session.generate("doubler", b"y", max_new_tokens=3)
        assert other.read() == "abc"
        assert answer.read() == "abc"


def test_an_answer_that_was_given_up_is_never_taken_as_whole(serve: Serve, world: World) -> None:
    talker = Talker(world, b"abc")
    talker.change = lambda header, part: header if part < 2 else None
    with Session.connect(serve(talker).address, **world.terms()) as session:
        with session.generate("doubler", "x", max_new_tokens=3) as answer:
            assert next(answer).text == "a"
        assert not answer.finished
        assert repr(answer) == "<Generation 1 tokens, given up>"
        with pytest.raises(ClientError) as truncated:
            answer.read()
        assert truncated.value.code is ClientCode.ANSWER_TRUNCATED
        assert session.infer("doubler", {"x": [[1.0]]})["x"].tolist() == [[2.0]], "the session goes on"
    assert talker.asked[1]["op"] == "cancel"


WRONG: dict[str, Callable[[dict[str, Any], int], dict[str, Any] | None]] = {
    "a part is left out": lambda header, part: header if part != 1 else None,
    "a part comes twice": lambda header, part: header | {"part": min(part, 1)},
    "a part has no number": lambda header, part: {k: v for k, v in header.items() if part != 1 or k != "part"},
    "a part does not say whether it is the last": lambda header, _: {k: v for k, v in header.items() if k != "final"},
    "the last part is no number": lambda header, _: header | {"final": 1},
    "an answer becomes whole in the middle": lambda header, part: (
        {k: v for k, v in header.items() if k not in {"part", "final"}} if part == 1 else header
    ),
    "another model goes on": lambda header, part: header | {"beat": [0, 0, bytes(31)]} if part == 1 else header,
    "a part lacks its text": lambda header, part: {k: v for k, v in header.items() if part != 1 or k != "text"},
    "a text is no bytes": lambda header, part: header | {"text": "b"} if part == 1 else header,
    "tokens are no numbers": lambda header, part: header | {"tokens": ["b"]} if part == 1 else header,
    "the last part gives no reason": lambda header, _: {k: v for k, v in header.items() if k != "reason"},
}


@READ
@pytest.mark.parametrize("case", WRONG)
def test_parts_that_do_not_make_up_an_answer_are_refused(serve: Serve, world: World, read: Read, case: str) -> None:
    talker = Talker(world, b"abc")
    talker.change = WRONG[case]
    with pytest.raises(ClientError) as refusal:
        read(serve(talker).address, world.terms(), max_new_tokens=3)
    assert refusal.value.code is ClientCode.RESPONSE_UNEXPECTED


@READ
def test_more_parts_than_were_asked_for_are_refused(serve: Serve, world: World, read: Read) -> None:
    talker = Talker(world, b"x" * (WINDOW + 40))
    with pytest.raises(ClientError, match="more parts") as refusal:  # all of them are there before the first is read
        read(serve(talker).address, world.terms(), lambda: talker.sent.wait(20), max_new_tokens=WINDOW + 40)
    assert refusal.value.code is ClientCode.RESPONSE_UNEXPECTED


def close_early(peer: Peer) -> None:
    peer.send(peer.session.close())


ENDS: dict[str, tuple[Callable[[Peer], None], Any, Any]] = {
    "closed in order": (close_early, ClientError, ClientCode.ANSWER_TRUNCATED),
    "cut off": (lambda peer: peer.end(), WireError, WireCode.SESSION_TRUNCATED),
    "refused by name": (lambda peer: peer.refuse(1, "lease-exhausted"), RemoteError, ClientCode.REMOTE_REFUSED),
    "ended by the enclave": (lambda peer: peer.refuse(0, "session-revoked"), RemoteError, ClientCode.REMOTE_REFUSED),
}


@READ
@pytest.mark.parametrize("case", ENDS)
def test_an_answer_that_ends_early_is_an_error(serve: Serve, world: World, read: Read, case: str) -> None:
    end, kind, code = ENDS[case]
    talker = Talker(world, b"abc")
    talker.change = lambda header, part: header if part < 2 else None

    def script(peer: Peer, body: Body) -> None:
        talker(peer, body)
        if body.header["op"] == "generate":
            end(peer)

    with pytest.raises(StrongroomError) as refusal:
        read(serve(script).address, world.terms(), max_new_tokens=3)
    assert isinstance(refusal.value, kind)
    assert refusal.value.code is code


@READ
def test_a_prompt_that_is_no_list_of_numbers_is_not_sent(serve: Serve, world: World, read: Read) -> None:
    talker = Talker(world)
    with Session.connect(serve(talker).address, **world.terms()) as session:
        for prompt in ([1.5], [[1]]):
            with pytest.raises(ClientError) as refusal:
                session.generate("doubler", prompt, max_new_tokens=3)  # type: ignore[arg-type]
            assert refusal.value.code is ClientCode.TENSOR_INVALID
    assert talker.asked == []


@READ
def test_a_last_part_that_comes_together_with_the_sessions_end_counts(serve: Serve, world: World, read: Read) -> None:
    talker = Talker(world, b"abc")

    def script(peer: Peer, body: Body) -> None:
        talker(peer, body)
        if body.header["op"] == "generate":
            close_early(peer)

    assert read(serve(script).address, world.terms(), max_new_tokens=3) == "abc"


def test_an_answer_that_fails_its_check_is_given_up_and_the_session_goes_on(serve: Serve, world: World) -> None:
    talker = Talker(world, b"abc")
    talker.change = lambda header, part: header | {"epoch": 0} if part == 1 else header
    with Session.connect(serve(talker).address, **world.terms()) as session:
        answer = session.generate("doubler", "x", max_new_tokens=3)
        assert next(answer).text == "a"
        with pytest.raises(ClientError) as refusal:
            next(answer)
        assert refusal.value.code is ClientCode.EPOCH_ROLLBACK
        assert session.infer("doubler", {"x": [[1.0]]})["x"].tolist() == [[2.0]]
