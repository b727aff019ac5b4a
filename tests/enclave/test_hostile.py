"""What clients and the host may send: refused with a code, bounded in memory, and never the process's end."""

from __future__ import annotations

import math
import random
import resource
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgpack
import numpy as np
import pytest

from attestation.wire.frames import Frame
from attestation.wire.messages import MessageType, encode_body
from enclave.errors import EnclaveCode
from enclave.lanes import IDLE_SECONDS, Lanes
from enclave.session import Session
from manifests import canonical
from manifests.gramine.settings import EnclaveSettings, Limits
from tests.enclave.conftest import Served
from tests.enclave.rig import Client, Ended, Refused, Rig, running

X = np.ones((1, 4), np.float32)


def small(**changes: int) -> EnclaveSettings:
    return EnclaveSettings("first", limits=Limits(**{"max_message": 1 << 16, "max_pending": 1 << 19, **changes}))


def head(header: Any, *, raw: bytes | None = None, tail: bytes = b"") -> bytes:
    packed = msgpack.packb(header) if raw is None else raw
    return struct.pack(">I", len(packed)) + packed + tail


def infer(model: bytes, tensors: list[Any], tail: bytes = b"") -> bytes:
    header = {"id": 1, "model": {"digest": model}, "op": "infer", "tensors": tensors}
    return head(header, raw=canonical.encode(header), tail=tail)


def deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


# ------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "message-malformed"),
        (b"\0\0\0", "message-malformed"),
        (b"\xff\xff\xff\xff", "message-malformed"),
        (head(None, raw=b"\xc1"), "message-malformed"),
        (head(None, raw=deep(1000)), "message-malformed"),
        (head(None, raw=deep(100_000)), "message-malformed"),
        (head(None, raw=b"\xdd\xff\xff\xff\xff"), "message-malformed"),
        (head(None, raw=b"\xdf\xff\xff\xff\xff"), "message-malformed"),
        (head(None, raw=b"\xc6\xff\xff\xff\xff"), "message-malformed"),
        (head([1, 2]), "message-malformed"),
        (head({}), "field-invalid"),
        (head({"id": 0}), "field-invalid"),
        (head({"id": "1"}), "field-invalid"),
        (head({"id": 1 << 32}), "field-invalid"),
        (head({"id": 1}), "field-invalid"),
        (head({"id": 1, "op": 5}), "field-invalid"),
        (head({"id": 1, "op": "frobnicate"}), "operation-unknown"),
        (head({"id": 1, "op": "models", "x": 1}), "field-invalid"),
        (head({"id": 1, "op": "ticket", "x": 1}), "field-invalid"),
        (head({"id": 1, "op": "infer"}), "field-invalid"),
        (head({"id": 1, "op": "challenge", "owner": b"short"}), "field-invalid"),
        (head({"id": 1, "op": "challenge", "owner": bytes(32)}), "key-invalid"),
        (head({"id": 1, "op": "heartbeat"}), "field-invalid"),
        (head({"id": 1, "op": "revoke"}), "field-invalid"),
        (head({"id": 1, "op": "models", "tensors": [["x", "bool", [], 1]]}, tail=b"\1"), "request-malformed"),
        (head({"id": 1, "op": "models"}, tail=b"extra"), "message-malformed"),
        (b"\0\0\0\x0a" + msgpack.packb({"id": 1, "op": "models"}) + b"\x00" * 3, "message-malformed"),
    ],
)
def test_a_malformed_message_is_refused_and_the_session_goes_on(served: Served, content: bytes, code: str) -> None:
    client = served.rig.client()
    with pytest.raises(Refused) as refusal:
        client.exchange(content)
    assert refusal.value.code == code
    assert client.request({"op": "models"}).header["class"] == "simulated"


@pytest.mark.parametrize(
    ("tensors", "size", "code"),
    [
        ([["x", "float32", [1, 4], 16], ["x", "float32", [1, 4], 16]], 32, "message-malformed"),
        ([["x", "float32", [1 << 60, 4], 16]], 16, "message-malformed"),
        ([["x", "float32", [1 << 40] * 16, 0]], 0, "message-malformed"),
        ([["x", "float32", [0, 1 << 62], 0]], 0, "message-malformed"),
        ([["x", "float32", [1] * 17, 4]], 4, "message-malformed"),
        ([["x", "float32", [-1, 4], 16]], 16, "message-malformed"),
        ([["x", "float33", [1, 4], 16]], 16, "message-malformed"),
        ([["x", "float32", [1, 4], 1 << 62]], 16, "message-malformed"),
        ([["x", "string", [1 << 40], 16]], 16, "message-malformed"),
        ([["x", "float32", [1, 4]]], 16, "message-malformed"),
        ([[f"x{i}", "bool", [], 1] for i in range(1025)], 1025, "message-malformed"),
        ([], 0, "tensor-name"),
        ([["y", "float32", [1, 4], 16]], 16, "tensor-name"),
        ([["x", "float32", [1, 4], 16], ["y", "float32", [1, 4], 16]], 32, "tensor-name"),
        ([["x", "float64", [1, 4], 32]], 32, "tensor-dtype"),
        ([["x", "string", [1], 4]], 4, "tensor-dtype"),
        ([["x", "float32", [4], 16]], 16, "tensor-shape"),
        ([["x", "float32", [1, 5], 20]], 20, "tensor-shape"),
        ([["x", "float32", [9, 4], 144]], 144, "tensor-shape"),
        ([["x", "float32", [0, 4], 0]], 0, "tensor-shape"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(served: Served, tensors: list[Any], size: int, code: str) -> None:
    client = served.rig.client()
    with pytest.raises(Refused) as refusal:
        client.exchange(infer(served.digest, tensors, bytes(size)))
    assert refusal.value.code == code
    assert served.rig.leases() == {served.digest: 1000}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (np.nan, "tensor-not-finite"),
        (np.inf, "tensor-not-finite"),
        (-np.inf, "tensor-not-finite"),
        (100.5, "tensor-value"),
        (-101.0, "tensor-value"),
        (3e38, "tensor-value"),
    ],
)
def test_values_out_of_range_are_refused_by_field_and_bound_without_content(
    served: Served, value: float, code: str
) -> None:
    x = np.full((2, 4), 0.25, np.float32)
    x[1, 3] = value
    with pytest.raises(Refused) as refusal:
        served.rig.client().infer(served.digest, x=x)
    assert refusal.value.code == code
    assert refusal.value.field == "x"
    assert str(value) not in refusal.value.message
    assert "0.25" not in refusal.value.message


def test_a_message_longer_than_admitted_ends_the_session_alone() -> None:
    with running(small()) as rig:
        client = rig.client()
        client.put(client.wire.send(MessageType.REQUEST, bytes((1 << 16) + 1)))
        with pytest.raises(Ended):
            client.answer()
        assert rig.is_alive()


@pytest.mark.parametrize("kind", [MessageType.RESPONSE, MessageType.ERROR])
def test_messages_that_only_the_enclave_sends_end_the_session(rig: Rig, kind: MessageType) -> None:
    client = rig.client()
    writer = client.wire._writer
    assert writer is not None
    client.put(b"".join(writer.seal(kind, encode_body({"id": 1}))))
    with pytest.raises(Ended):
        client.answer()
    assert rig.is_alive()


def test_a_flipped_bit_in_a_record_ends_the_session(served: Served) -> None:
    client = served.rig.client()
    record = bytearray(client.wire.send(MessageType.REQUEST, encode_body({"op": "models", "id": 1})))
    record[40] ^= 1
    client.put(bytes(record))
    with pytest.raises(Ended):
        client.answer()
    assert served.rig.is_alive()


def test_a_client_that_closes_is_answered_with_a_close(rig: Rig) -> None:
    client = rig.client()
    client.close()
    with pytest.raises(Ended):
        client.answer()
    rig.wait_until(lambda: not rig.server.lanes._lanes)


def test_a_stream_that_is_cut_ends_the_session(rig: Rig) -> None:
    client = rig.client()
    rig.host.send(Frame("default", client.sid, b""))
    assert rig.host.receive(client.sid) == b""
    rig.wait_until(lambda: not rig.server.lanes._lanes)


# ------------------------------------------------------------------------------------------ handshakes and bounds


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0", b"\xff" * 64, b"\0\0\0\x02\x07\x00", b"\0\0\0\x02\x01\x09", b"GET / HTTP"]
)
def test_a_hello_that_is_none_ends_the_stream(rig: Rig, data: bytes) -> None:
    client = Client(rig.host)
    client.put(data)
    assert rig.host.receive(client.sid) == b""
    assert rig.is_alive()


def test_handshakes_that_wait_share_one_quote(rig: Rig) -> None:
    rig.attester.hold.clear()
    clients = [Client(rig.host) for _ in range(9)]
    clients[0].put(clients[0].wire.start())
    rig.wait_until(lambda: len(rig.attester.asked) == 1)
    for client in clients[1:]:
        client.put(client.wire.start())
    rig.wait_until(lambda: len(rig.service.quoter._waiting) == 8)
    rig.attester.hold.set()
    for client in clients:
        finish(client)
    assert len(rig.attester.asked) == 2
    assert sorted(client.record.proof.size for client in clients if client.record) == [1] + [8] * 8


def finish(client: Client) -> None:
    """Complete a handshake whose hello was sent already."""
    start, client.wire.start = client.wire.start, lambda: b""  # type: ignore[method-assign]
    client.connect()
    client.wire.start = start  # type: ignore[method-assign]


def test_half_open_handshakes_are_bounded() -> None:
    with running(small(max_half_open=2)) as rig:
        rig.attester.hold.clear()
        waiting = [Client(rig.host) for _ in range(2)]
        for client in waiting:
            client.put(client.wire.start())
        rig.wait_until(lambda: rig.server.lanes._half_open == 2)
        late = Client(rig.host)
        late.put(late.wire.start())
        assert rig.host.receive(late.sid) == b""
        error = rig.host.control.get(timeout=5)
        assert error.route == "!error"
        assert canonical.decode(error.body, max_size=4096)["code"] == "enclave-busy"
        rig.attester.hold.set()
        for client in waiting:
            finish(client)
        rig.client()


def test_sessions_are_bounded() -> None:
    with running(small(max_sessions=2)) as rig:
        first = rig.client()
        rig.client()
        with pytest.raises(Ended):
            rig.client()
        first.close()
        with pytest.raises(Ended):
            first.answer()
        rig.wait_until(lambda: len(rig.server.lanes._lanes) == 1)
        rig.client()


def test_a_session_that_has_been_idle_makes_room_for_another_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("enclave.lanes.IDLE_SECONDS", 0.2)
    with running(small(max_sessions=2)) as rig:
        idle, busy = rig.client(), rig.client()
        for client in (idle, busy):
            client.request({"op": "models"})
        time.sleep(0.25)
        busy.request({"op": "models"})
        newcomer = rig.client()
        with pytest.raises(Refused) as refusal:
            idle.answer()
        assert refusal.value.code == "enclave-busy"
        with pytest.raises(Ended):
            rig.client()
        for client in (busy, newcomer):
            assert client.request({"op": "models"}).header["class"] == "simulated"


def test_the_longest_idle_session_that_is_at_rest_is_the_one_that_goes() -> None:
    now = [0.0]
    lanes = still(lambda: now[0], max_sessions=3)
    for sid in (1, 2, 3):
        now[0] += 1
        lanes.put(Frame("default", sid, b"hello"))
    lanes._greeting.clear()  # as after their hellos
    for sid in (2, 3, 1):  # served in this order; the second is not done yet
        now[0] += 1
        lanes._touch(lanes._lanes[sid])
        lanes._lanes[sid].busy = sid == 2
    now[0] = lanes._lanes[3].moved + IDLE_SECONDS - 0.5
    (refused, _) = lanes.put(Frame("default", 4, b"hello"))
    assert (refused.route, refused.sid) == ("!error", 4), "nobody has been idle for long enough"
    now[0] += 0.5
    assert lanes.put(Frame("default", 5, b"hello")) == []
    assert [sid for sid, lane in lanes._lanes.items() if lane.failure is not None] == [3]
    assert len(lanes) - len(lanes._failing) == 3


def test_nobody_is_ended_for_a_newcomer_while_the_enclave_is_drained() -> None:
    now = [0.0]
    lanes = still(lambda: now[0], max_sessions=1)
    lanes.put(Frame("default", 1, b"hello"))
    lanes._greeting.clear()
    lanes.drain()
    now[0] = 2 * IDLE_SECONDS
    lanes._lanes[1].busy = False
    (refused, _) = lanes.put(Frame("default", 2, b"hello"))
    assert canonical.decode(refused.body, max_size=4096)["code"] == "enclave-stopping"
    assert lanes._lanes[1].failure is None


def test_a_platform_without_quotes_ends_the_handshake_and_the_enclave_lives_on(rig: Rig) -> None:
    rig.attester.fails = True
    with pytest.raises(Ended):
        rig.client()
    rig.attester.fails = False
    assert rig.is_alive()


def test_a_session_that_sends_while_it_must_wait_is_ended_over_the_bound() -> None:
    with running(small(max_pending=1 << 27)) as rig:
        rig.attester.hold.clear()
        client = Client(rig.host)
        client.put(client.wire.start())
        rig.wait_until(lambda: len(rig.attester.asked) == 1)
        client.put(bytes(3 << 20))
        rig.wait_until(lambda: rig.server.lanes._held < 1 << 20)
        rig.attester.hold.set()
        assert rig.host.receive(client.sid)  # the handshake's answer, which had left before
        assert rig.host.receive(client.sid) == b""
        assert rig.is_alive()


def test_bytes_that_wait_are_bounded_over_all_sessions() -> None:
    with running(small(max_message=1 << 17)) as rig:
        clients = [rig.client() for _ in range(12)]
        for client in clients:  # each leaves a message unfinished
            client.request({"op": "models"})
            record = client.wire.send(MessageType.REQUEST, bytes(120_000))
            client.put(record[:-1])
        rig.wait_until(lambda: len(rig.server.lanes._lanes) < 12)
        assert rig.server.lanes._held <= 1 << 19
        codes = set()
        for client in clients:
            if client.sid not in rig.server.lanes._lanes:
                with pytest.raises(Refused) as refusal:
                    client.answer()
                codes.add(refusal.value.code)
        assert codes == {"enclave-busy"}
        assert rig.is_alive()


def test_unfinished_messages_stop_nobody_who_sends_little() -> None:
    with running(small(max_message=1 << 18)) as rig:
        victim = rig.client()
        hogs = [rig.client() for _ in range(8)]
        for hog in hogs:
            hog.put(hog.wire.send(MessageType.REQUEST, bytes(200_000))[:-1])
            assert victim.request({"op": "models"}).header["class"] == "simulated"
        rig.wait_until(lambda: rig.server.lanes._held <= 1 << 19)
        assert rig.is_alive()
        assert victim.sid in rig.server.lanes._lanes


def test_a_lane_that_holds_little_never_ends_for_others() -> None:
    lanes = still(max_message=1 << 16, max_pending=1 << 17)
    for sid in range(4):
        assert not lanes.put(Frame("default", sid, bytes(60_000)))
    assert [lane.failure for lane in lanes._lanes.values()] == [None] * 4


def test_a_kept_piece_keeps_no_larger_read_in_memory() -> None:
    lanes = still()
    read = memoryview(bytes(200_000))
    for sid, size in [(1, 5000), (2, 99_999), (3, 100_000)]:
        lanes.put(Frame("default", sid, read[:size]))
    kept = [lane.inbox[0] for lane in lanes._lanes.values()]
    assert [isinstance(piece, memoryview) for piece in kept] == [False, False, True]


def test_tiny_pieces_are_charged_what_they_cost() -> None:
    lanes = still(max_message=1 << 16)
    for _ in range(10_000):
        lanes.put(Frame("default", 1, b"x"))
    lane = lanes._lanes[1]
    assert lane.failure is not None
    assert lane.failure.code is EnclaveCode.SESSION_OVERRUN
    assert not lane.inbox


def still(clock: Callable[[], float] = time.monotonic, **limits: int) -> Lanes:
    """Lanes that nobody serves."""
    return Lanes(Limits(**limits), lambda: cast(Session, SimpleNamespace(kind=b"")), clock)


def test_one_byte_streams_lock_nobody_out() -> None:
    with running(small(max_half_open=4)) as rig:
        for _ in range(40):
            rig.host.send(Frame("default", rig.host.open(), b"\0"))
        assert rig.is_alive()
        rig.wait_until(lambda: rig.server.lanes.counts()["greeting"] <= 4)


def test_one_byte_streams_take_no_sessions_place() -> None:
    with running(small(max_sessions=4)) as rig:
        for _ in range(10):
            rig.host.send(Frame("default", rig.host.open(), b"\0"))
        assert rig.is_alive()


def test_a_hello_and_a_message_that_take_too_long_end_their_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enclave.lanes.HELLO_SECONDS", 0.1)
    monkeypatch.setattr("enclave.lanes.MESSAGE_SECONDS", 0.1)
    monkeypatch.setattr("enclave.lanes.SWEEP_SECONDS", 0.0)
    with running() as rig:
        slow, idle = rig.client(), rig.client()
        slow.put(slow.wire.send(MessageType.REQUEST, bytes(1000))[:-1])
        greeting = rig.host.open()
        rig.host.send(Frame("default", greeting, b"\0"))
        rig.wait_until(lambda: rig.server.lanes.counts()["greeting"] == 1 and slow_has_begun(rig, slow))
        time.sleep(0.15)
        assert idle.request({"op": "models"}).header["class"] == "simulated"
        assert rig.host.receive(greeting) == b""
        with pytest.raises(Ended):
            slow.answer()


def slow_has_begun(rig: Rig, client: Client) -> bool:
    return rig.server.lanes._lanes[client.sid].since < math.inf


def test_frames_to_a_session_that_has_ended_begin_no_other(rig: Rig) -> None:
    client = rig.client()
    client.close()
    with pytest.raises(Ended):
        client.answer()
    rig.host.send(Frame("default", client.sid, b"more"))
    assert rig.is_alive()
    assert rig.server.lanes._opened == 2


def test_control_frames_that_nobody_knows_are_ignored(rig: Rig) -> None:
    for route, body in [("!ready", b""), ("!fetch", b""), ("!fetch", b"\x00data"), ("!x", b""), ("!error", b"x")]:
        rig.host.send(Frame(route, 1 << 40, body))
    assert rig.is_alive()


# ------------------------------------------------------------------------------------------ the host's stream


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\xff", b"\0\0\0\x01\x80", bytes(64)])
def test_the_end_of_the_hosts_stream_or_garbage_on_it_ends_the_server_in_order(data: bytes) -> None:
    with running() as rig:
        rig.client()
        if data:
            rig.host.send_raw(data)
        else:
            rig.host.close()
        rig.thread.join(10)
        assert not rig.thread.is_alive()


def test_stop_closes_sessions_in_order_and_ends_the_server(served: Served) -> None:
    client = served.rig.client()
    served.rig.host.send(Frame("!stop", 0, b""))
    with pytest.raises(Ended):
        client.answer()
    assert client.wire.state.name == "PEER_CLOSED"
    served.rig.thread.join(10)
    assert not served.rig.thread.is_alive()


def test_stop_without_sessions_ends_the_server(rig: Rig) -> None:
    rig.host.send(Frame("!stop", 0, b""))
    rig.thread.join(10)
    assert not rig.thread.is_alive()


def test_stop_waits_for_the_request_that_is_being_served(served: Served) -> None:
    data_asked: list[int] = []
    served.rig.host.tamper = lambda offset, data: (data_asked.append(offset), time.sleep(0.2), data)[2]
    from tests.enclave.rig import linear

    data, manifest = linear(served.owner, name="late")
    digest = served.owner.seal(served.rig.host, served.folder, data, manifest=manifest)
    grant = served.owner.grant(served.broker, digest, "late").sign(served.owner.broker)
    header = {"op": "provision", "delegation": served.owner.delegation, "grant": grant, "id": 9}
    content = encode_body({**header, "dek": served.owner.deks[digest]})
    served.broker.put(served.broker.wire.send(MessageType.REQUEST, content))
    served.rig.wait_until(lambda: bool(data_asked))
    served.rig.host.send(Frame("!stop", 0, b""))
    assert served.broker.answer().header["model"] == digest
    served.rig.thread.join(10)
    assert not served.rig.thread.is_alive()


def test_a_defect_ends_its_session_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret content")

    client = served.rig.client()
    monkeypatch.setattr("enclave.operations.listing", broken)
    with pytest.raises(Refused) as refusal:
        client.request({"op": "models"})
    assert refusal.value.code == "enclave-internal"
    assert "secret" not in refusal.value.message
    with pytest.raises(Ended):
        client.answer()
    monkeypatch.undo()
    assert served.rig.is_alive()


# ------------------------------------------------------------------------------------------ mutations


def test_ten_thousand_mutated_messages_leave_the_server_alive_and_memory_flat(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nine of ten mutate the content inside a session; the rest mutate the stream, which costs the session."""
    rng = random.Random(20_26)
    good = infer(served.digest, [["x", "float32", [1, 4], 16]], X.tobytes())
    seeds = [good, encode_body({"op": "models", "id": 2}), encode_body({"op": "ticket", "id": 3})]
    seeds.append(encode_body({"op": "challenge", "id": 4, "owner": served.owner.public}))
    seeds.append(
        encode_body({"op": "provision", "id": 5, "delegation": served.owner.delegation, "grant": b"", "dek": bytes(32)})
    )
    client = served.rig.client()
    served.owner.heartbeat(served.broker, served.owner.challenge(served.broker), {served.digest: 1 << 40})
    before = 0
    for number in range(10_000):
        content = mutate(rng, rng.choice(seeds))
        try:
            if number % 10:
                client.exchange(content)
            else:
                client.put(mutate(rng, client.wire.send(MessageType.REQUEST, content)))
                served.rig.host.send(Frame("default", client.sid, b""))
                while True:
                    client.answer()
        except Refused:
            pass
        except Ended:
            client = served.rig.client()
        if number == 2000:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 * 1024, f"{grown} KiB"
    assert served.rig.is_alive()
    assert len(served.rig.server.lanes._lanes) <= 3
    assert '"defect"' not in capfd.readouterr().err


def mutate(rng: random.Random, data: bytes) -> bytes:
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        CHANGES[rng.randrange(len(CHANGES))](rng, mutated)
    return bytes(mutated)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _grow(rng: random.Random, data: bytearray) -> None:
    data += rng.randbytes(rng.randint(1, 64))


def _insert(rng: random.Random, data: bytearray) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice(
        [b"\xdd\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\x91" * 40, b"\xcf" + b"\xff" * 8]
    )


def _repeat(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data) + 1)
    data += data[start : start + rng.randint(1, 32)]


CHANGES: list[Callable[[random.Random, bytearray], None]] = [_flip, _flip, _flip, _cut, _grow, _insert, _repeat]


def test_a_defect_while_reading_has_lost_the_place_and_stops_the_server_in_order(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret content")

    monkeypatch.setattr(rig.server, "_put", broken)
    rig.host.send(Frame("default", 1, b"x"))
    rig.thread.join(10)
    assert not rig.thread.is_alive()
    assert "secret" not in capfd.readouterr().err


def test_a_defect_outside_a_sessions_own_code_ends_that_session_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    client, other = served.rig.client(), served.rig.client()
    lane = served.rig.server.lanes._lanes[client.sid]
    monkeypatch.setattr(lane.session, "take_output", broken)
    client.put(client.wire.send(MessageType.REQUEST, encode_body({"op": "models", "id": 1})))
    assert served.rig.host.receive(client.sid) == b""
    assert other.infer(served.digest, x=X)["y"].shape == (1, 3)


def test_a_busy_session_makes_way_for_others(served: Served) -> None:
    """One session sends five hundred requests at once; another's single request is answered before they all are."""
    busy, other = served.rig.client(), served.rig.client()
    requests = [encode_body({"op": "models", "id": number}) for number in range(1, 501)]
    busy.put(b"".join(busy.wire.send(MessageType.REQUEST, content) for content in requests))
    other.infer(served.digest, x=X)
    for number in range(1, 501):
        assert busy.answer(number).header["id"] == number
