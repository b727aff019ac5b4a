"""Requests that the signed manifest does not admit, through client, host and enclave; and very many of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import helper

from attestation.client import RemoteError
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from attestation.wire.messages import Body, MessageType, decode_body, encode_body
from attestation.wire.session import ClientSession, Evidence, Message
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests import canonical
from tests.fuzz.mutate import mutated

pytestmark = pytest.mark.xdist_group("deployment")

BATCH = 16
GOOD = {
    "patient": np.array([[61.0, 120.0, 1.0]], np.float32),
    "visit": np.array([0], np.int64),
    "ward": np.array(["north"], object),
}


def ward() -> bytes:
    """Return a model of three inputs, each of which the manifest bounds in another way."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["patient", "visit"], ["y"], axis=0),
            helper.make_node("Identity", ["ward"], ["where"]),
        ],
        "ward",
        [
            info("patient", onnx.TensorProto.FLOAT, ["n", 3]),
            info("visit", onnx.TensorProto.INT64, ["m"]),
            info("ward", onnx.TensorProto.STRING, ["n"]),
        ],
        [info("y", onnx.TensorProto.FLOAT, ["m", 3]), info("where", onnx.TensorProto.STRING, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


REVIEW: dict[str, Any] = {
    "axes": {"n": {"minimum": 1, "maximum": BATCH}, "m": {"minimum": 1, "maximum": BATCH}},
    "inputs": [
        {
            "name": "patient",
            "dtype": "float32",
            "shape": ["n", 3],
            "features": [
                {"index": 0, "name": "age", "minimum": 0.0, "maximum": 120.0},
                {"index": 1, "name": "pressure", "minimum": 40.0, "maximum": 300.0},
                {"index": 2, "name": "sex", "values": [0.0, 1.0]},
            ],
        },
        {"name": "visit", "dtype": "int64", "shape": ["m"], "below_axis": "n"},
        {"name": "ward", "dtype": "string", "shape": ["n"], "max_text": 16, "characters": "ascii"},
    ],
}


@pytest.fixture(scope="module")
def hospital() -> Iterator[Deployment]:
    release = {"release": {"lease": 10_000_000}}
    with (
        temporary_home() as home,
        Deployment(home, [ModelToSeal("ward", ward(), review=REVIEW)], release=release) as running,
    ):
        yield running


def test_a_request_within_the_manifest_is_answered(hospital: Deployment) -> None:
    with hospital.session() as session:
        answer = session.infer("ward", GOOD)
    assert answer["y"].tolist() == GOOD["patient"].tolist()
    assert answer["where"].tolist() == ["north"]


@pytest.mark.parametrize(
    ("changes", "code", "field", "words"),
    [
        (
            {"patient": np.array([[121, 120, 1]], np.float32)},
            "tensor-value",
            "patient",
            "(age) must hold values between",
        ),
        ({"patient": np.array([[61, 39, 1]], np.float32)}, "tensor-value", "patient", "position 1 (pressure)"),
        ({"patient": np.array([[61, 120, 0.5]], np.float32)}, "tensor-category", "patient", "(sex) must hold one of"),
        ({"patient": np.array([[1e-40, 120, 1]], np.float32)}, "tensor-subnormal", "patient", "subnormal"),
        ({"patient": np.array([[np.nan, 120, 1]], np.float32)}, "tensor-not-finite", "patient", "finite"),
        ({"patient": np.array([[61, 120, 1]])}, "tensor-dtype", "patient", "float32"),
        ({"patient": np.array([61, 120, 1], np.float32)}, "tensor-shape", "patient", "2 axes"),
        ({"patient": np.zeros((17, 3), np.float32)}, "tensor-shape", "patient", "between 1 and 16"),
        ({"visit": np.array([1], np.int64)}, "tensor-value", "visit", "positions along 'n'"),
        ({"visit": np.array([-1], np.int64)}, "tensor-value", "visit", "positions along 'n'"),
        ({"ward": np.array(["north", "south"], object)}, "tensor-shape", "ward", "same length"),
        ({"ward": np.array(["no\x1b[31m"], object)}, "tensor-text", "ward", "printable ASCII"),
        ({"ward": np.array(["n" * 17], object)}, "tensor-value", "ward", "at most 16 bytes"),
        ({"nurse": np.array([1], np.int64)}, "tensor-name", None, "takes only"),
    ],
)
def test_a_refusal_names_the_field_and_the_bound(
    hospital: Deployment, changes: dict[str, Any], code: str, field: str | None, words: str
) -> None:
    with hospital.session() as session:
        with pytest.raises(RemoteError) as refusal:
            session.infer("ward", GOOD | changes)
        assert (refusal.value.remote_code, refusal.value.field) == (code, field)
        assert words in refusal.value.remote_message
        assert session.infer("ward", GOOD)["where"].tolist() == ["north"], "the session goes on"


# ------------------------------------------------------------------------------------------ very many requests

WINDOW = 64
"""Requests under way at once."""
WARM_UP = 1_000
"""Requests after which the enclave's memory is taken as what it needs."""
GROWTH = 8 << 20
"""Bytes by which memory may differ later: what the allocator keeps of the largest requests, not what each leaves."""


class Stranger:
    """A client that sends whatever bytes it likes inside its own session."""

    def __init__(self, address: str) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(address.removeprefix("unix:"))
        self._stream.settimeout(60)
        self._decoder = FrameDecoder()
        self._session = ClientSession()
        self._send(self._session.start())
        self._replies: list[Message] = []
        while not any(isinstance(event, Evidence) for event in self._receive()):
            pass
        self._session.accept()

    def ask(self, contents: list[bytes]) -> list[Message]:
        """Send messages, and return one reply to each."""
        for content in contents:
            for record in self._session.send_records(MessageType.REQUEST, content):
                self._send(record)
        while len(self._replies) < len(contents):
            self._replies += [event for event in self._receive() if isinstance(event, Message)]
        replies, self._replies = self._replies, []
        return replies

    def _send(self, data: Any) -> None:
        self._stream.sendall(encode_frame(Frame("default", 1, data)))

    def _receive(self) -> list[Any]:
        received = self._stream.recv(1 << 18)
        assert received, "the session has ended"
        frames = self._decoder.feed(received)
        assert all(frame.route == "default" and frame.body for frame in frames), "the session has ended"
        return [event for frame in frames for event in self._session.receive(frame.body)]

    def close(self) -> None:
        self._stream.close()


def _random_tensor(random: Random) -> np.ndarray:
    """Return values that the manifest may or may not admit: all types, odd shapes, every bit pattern."""
    dtype = random.choice(["float16", "float32", "float64", "int8", "int64", "uint64", "bool", "object"])
    shape = [random.choice((0, 1, 2, 3, 17)) for _ in range(random.choice((0, 1, 2, 2, 3)))]
    count = int(np.prod(shape))
    if dtype == "object":
        return np.array(
            ["".join(chr(random.randrange(0x250)) for _ in range(random.randrange(24)))] * count, object
        ).reshape(shape)
    if dtype == "bool":
        return np.array([random.random() < 0.5 for _ in range(count)], bool).reshape(shape)
    return np.frombuffer(random.randbytes(count * np.dtype(dtype).itemsize), dtype).reshape(shape)


def _content(random: Random, good: list[bytes]) -> bytes:
    """Return a good request, one with random tensors, or one with bytes changed anywhere."""
    kind = random.random()
    if kind < 0.1:
        return good[0]
    if kind < 0.5:
        changed = {name: _random_tensor(random) for name in GOOD if random.random() < 0.5}
        header: dict[str, canonical.Value] = {
            "op": "infer",
            "id": 1,
            "model": dict(decode_body(good[0]).header["model"]),
        }
        return encode_body(header, GOOD | changed)
    return mutated(random, good)


def _flood(hospital: Deployment, count: int) -> dict[str, int]:
    """Send so many requests in one session; return how often each code came, "answered" for answers."""
    random = Random(5)
    with hospital.session() as session:
        digest = session.infer("ward", GOOD).model
    good = [encode_body({"op": "infer", "id": 1, "model": {"digest": digest}}, GOOD)]
    process = psutil.Process(hospital.enclave_pid)
    outcomes: dict[str, int] = {}
    before = 0
    stranger = Stranger(hospital.address)
    try:
        for start in range(0, count, WINDOW):
            for reply in stranger.ask([_content(random, good) for _ in range(WINDOW)]):
                body: Body = decode_body(reply.content)
                code = str(body.header["code"]) if reply.type is MessageType.ERROR else "answered"
                outcomes[code] = outcomes.get(code, 0) + 1
            if start <= WARM_UP < start + WINDOW:
                before = process.memory_info().rss
        grown = process.memory_info().rss - before
    finally:
        stranger.close()
    assert process.pid == hospital.enclave_pid, "it is the same process still"
    assert before
    assert grown < GROWTH, f"{grown} bytes more after {count} requests"
    return outcomes


def _check_outcomes(outcomes: dict[str, int]) -> None:
    assert outcomes["answered"] > 0
    assert {"tensor-name", "tensor-dtype", "tensor-shape", "tensor-value", "message-malformed"} <= outcomes.keys()
    assert "enclave-internal" not in outcomes


def test_random_and_mutated_requests_leave_the_enclave_alive_with_flat_memory(hospital: Deployment) -> None:
    _check_outcomes(_flood(hospital, 5_000))


@pytest.mark.long
def test_a_hundred_thousand_random_and_mutated_requests_leave_it_alive_with_flat_memory(hospital: Deployment) -> None:
    _check_outcomes(_flood(hospital, 100_000))
