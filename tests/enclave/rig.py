"""An enclave within the test's process: a host that the test controls, clients, an owner with a broker, models."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from attestation.binding import expected_report_data, session_leaf
from attestation.types import (
    Allotment,
    Claims,
    ClientAuthentication,
    Delegation,
    EvidenceRecord,
    Grant,
    Heartbeat,
    PlatformClass,
    Revocation,
    Right,
    document_digest,
)
from attestation.types.budgets import ModelSlices
from attestation.wire.frames import MAX_BODY, Frame, FrameDecoder, encode_frame
from attestation.wire.messages import Body, MessageType, decode_body, encode_body
from attestation.wire.session import ClientSession, Closed, Evidence, Message, Resumed
from attestation.wire.tickets import Ticket
from enclave.arena import Arena
from enclave.attesters.base import Attester
from enclave.channel import Channel
from enclave.server import Server
from enclave.service import Service
from manifests import canonical
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from manifests.sealed import RecipientKey, recover_dek, seal
from manifests.signing import Signer

RECIPIENT = RecipientKey.generate()
PATIENCE = 20.0


class Refused(Exception):  # noqa: N818 - reads as what happened
    """The enclave answered with an ERROR."""

    def __init__(self, code: str, message: str, field: str | None, retry_after: float | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after


class Ended(Exception):  # noqa: N818 - reads as what happened
    """The enclave ended the stream."""


class FakeAttester(Attester):
    """Quotes are the report data; `hold` keeps the next quotes back until it is set."""

    platform = PlatformClass.SIMULATED
    hint = "test"

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.fails = False
        self.asked: list[bytes] = []

    def _quote(self, report_data: bytes) -> bytes:
        self.asked.append(report_data)
        self.hold.wait(PATIENCE)
        if self.fails:
            raise OSError("no quote")
        return b"quote" + report_data


class Host:
    """The host's end of the stream: deals frames out to queues by sid, and serves sealed files by digest."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._queues: dict[int, queue.Queue[bytes]] = {}
        self.control: queue.Queue[Frame] = queue.Queue()
        self.files: dict[bytes, bytes] = {}
        self.tamper: Callable[[int, bytes], bytes | None] = lambda _offset, data: data
        self.fetched = 0
        self._sids = iter(range(1, 1 << 40))
        self._fetches: queue.Queue[Frame | None] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()
        threading.Thread(target=self._serve_files, daemon=True).start()

    def open(self) -> int:
        sid = next(self._sids)
        self._queues[sid] = queue.Queue()
        return sid

    def send(self, frame: Frame) -> None:
        with self._lock:
            self._stream.sendall(encode_frame(frame))

    def send_raw(self, data: bytes) -> None:
        with self._lock:
            self._stream.sendall(data)

    def receive(self, sid: int) -> bytes:
        """The next bytes of a session; b"" at its end."""
        return self._queues[sid].get(timeout=PATIENCE)

    def close(self) -> None:
        self._stream.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := self._stream.recv(1 << 18):
                for frame in decoder.feed(data):
                    self._take(frame)
        except OSError:
            pass
        self._stream.close()
        self._fetches.put(None)
        for waiting in list(self._queues.values()):
            waiting.put(b"")

    def _take(self, frame: Frame) -> None:
        if frame.route == "!fetch":
            self._fetches.put(Frame(frame.route, frame.sid, bytes(frame.body)))
        elif frame.route.startswith("!"):
            self.control.put(Frame(frame.route, frame.sid, bytes(frame.body)))
        elif frame.sid in self._queues:
            self._queues[frame.sid].put(bytes(frame.body))

    def _serve_files(self) -> None:
        with suppress(OSError):
            while (frame := self._fetches.get()) is not None:
                self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        request = canonical.decode(frame.body, max_size=4096)
        data = self.files.get(request["digest"])
        if data is None:
            answer: bytes | None = b"\x01" + canonical.encode({"code": "model-unknown", "message": "no such file"})
        elif request["length"] == 0:
            answer = b"\x00" + len(data).to_bytes(8, "big")
        else:
            self.fetched += request["length"]
            piece = data[request["offset"] : request["offset"] + request["length"]]
            tampered = self.tamper(request["offset"], piece)
            answer = None if tampered is None else b"\x00" + tampered
        if answer is not None:
            self.send(Frame("!fetch", frame.sid, answer))


class Client:
    """A relying party that checks the binding of evidence and otherwise believes it."""

    def __init__(self, host: Host, *, ticket: Ticket | None = None, max_message: int = 64 << 20) -> None:
        self.host = host
        self.sid = host.open()
        self.wire = ClientSession(ticket=ticket, max_message=max_message)
        self.record: EvidenceRecord | None = None
        self._events: list[Any] = []
        self._last = 0

    def connect(self) -> Client:
        self.put(self.wire.start())
        event = self._next()
        if isinstance(event, Resumed):
            return self
        assert isinstance(event, Evidence)
        self.record = event.record
        leaf = session_leaf(self.wire.handshake_hash, event.record.claims)
        assert event.record.quote == b"quote" + expected_report_data(leaf, event.record.proof)
        self.wire.accept()
        return self

    @property
    def claims(self) -> Claims:
        assert self.record is not None
        return Claims.decode(self.record.claims)

    def put(self, data: bytes) -> None:
        """Send bytes of the stream as they are."""
        for start in range(0, len(data), MAX_BODY):
            self.host.send(Frame("default", self.sid, data[start : start + MAX_BODY]))

    def authenticate(self, key: Signer, credential: bytes = b"") -> None:
        assert self.record is not None
        proof = ClientAuthentication.sign(key, credential, self.wire.handshake_hash, self.record.claims)
        self.put(self.wire.send(MessageType.AUTHENTICATE, proof.encode()))

    def request(self, header: Mapping[str, Any], tensors: Mapping[str, Any] | None = None) -> Body:
        return self.answer(self.send(header, tensors))

    def send(self, header: Mapping[str, Any], tensors: Mapping[str, Any] | None = None) -> int:
        """Send a request without waiting for its answer, and return its number."""
        self._last += 1
        self.put(self.wire.send(MessageType.REQUEST, encode_body({**header, "id": self._last}, tensors)))
        return self._last

    def exchange(self, content: bytes, number: int | None = None) -> Body:
        """Send a message's content as it is, and return the answer or raise it."""
        self.put(self.wire.send(MessageType.REQUEST, content))
        return self.answer(number)

    def answer(self, number: int | None = None) -> Body:
        event = self._next()
        if isinstance(event, Closed):
            raise Ended
        assert isinstance(event, Message)
        body = decode_body(event.content)
        if event.type is MessageType.ERROR:
            value = body.header
            raise Refused(value["code"], value["message"], value["field"], value["retry_after"])
        assert event.type is MessageType.RESPONSE
        assert number is None or body.header["id"] == number
        return body

    def infer(self, model: bytes, **tensors: Any) -> dict[str, Any]:
        return self.request({"op": "infer", "model": {"digest": model}}, tensors).arrays()

    def ticket(self) -> Ticket:
        header = self.request({"op": "ticket"}).header
        assert self.record is not None
        now = int(time.time())
        return Ticket(header["ticket"], header["psk"], self.record.digest(), bytes(64), now, now + 3600)

    def close(self) -> None:
        self.put(self.wire.close())

    def _next(self) -> Any:
        while not self._events:
            data = self.host.receive(self.sid)
            if not data:
                raise Ended
            self._events.extend(self.wire.receive(data))
        return self._events.pop(0)


@dataclass
class Owner:
    """An owner, and the broker key that it delegates everything to."""

    key: Signer = field(default_factory=Signer.generate)
    broker: Signer = field(default_factory=Signer.generate)
    models: tuple[str, ...] = ("*",)
    rights: tuple[Right, ...] = tuple(Right)
    epoch_floor: int = 0
    deks: dict[bytes, bytes] = field(default_factory=dict)
    now: int = 1_800_000_000

    @property
    def public(self) -> bytes:
        return self.key.public

    @property
    def delegation(self) -> bytes:
        body = Delegation(self.public, self.broker.public, self.rights, self.models, self.epoch_floor)
        return body.sign(self.key)

    def seal(self, host: Host, folder: Path, model: Any, **options: Any) -> bytes:
        """Seal a model, put it where the host serves it, and return its digest."""
        path = folder / f"{len(self.deks)}-{os.urandom(4).hex()}.sealed"
        info = seal(model, path, owner_key=self.key, recipients=[RECIPIENT.public], **options)
        host.files[info.digest] = path.read_bytes()
        self.deks[info.digest] = bytes(recover_dek(path, RECIPIENT))
        return info.digest

    def grant(self, client: Client, model: bytes, /, name: str = "tiny", **changes: Any) -> Grant:
        grant = Grant(
            owner=self.public,
            delegation=document_digest(self.delegation),
            model=model,
            name=name,
            epoch=1,
            handshake_hash=client.wire.handshake_hash,
            serial=os.urandom(16),
            lease=1000,
            platform=PlatformClass.SIMULATED,
            audit_head=bytes(64),
            time=self.now,
        )
        return replace(grant, **changes)

    def provision(self, client: Client, model: bytes, **changes: Any) -> dict[str, Any]:
        return self.release(client, self.grant(client, model, **changes).sign(self.broker), self.deks[model])

    def release(self, client: Client, grant: bytes, dek: bytes) -> dict[str, Any]:
        header = {"op": "provision", "delegation": self.delegation, "grant": grant, "dek": dek}
        return client.request(header).header

    def challenge(self, client: Client) -> dict[str, Any]:
        return client.request({"op": "challenge", "owner": self.public}).header

    def heartbeat(
        self,
        client: Client,
        challenge: dict[str, Any],
        leases: dict[bytes, int],
        *,
        allotment: bytes | None = None,
        **changes: Any,
    ) -> Any:
        beat = Heartbeat(
            owner=self.public,
            delegation=document_digest(self.delegation),
            nonce=challenge["nonce"],
            boot_id=challenge["boot_id"],
            time=self.now,
            epoch=challenge["epoch"],
            leases=tuple(sorted(leases.items())),
        )
        signed = replace(beat, **changes).sign(self.broker)
        header = {"op": "heartbeat", "delegation": self.delegation, "heartbeat": signed}
        if allotment is not None:
            header["allotment"] = allotment
        return client.request(header).header["leases"]

    def allotment(self, challenge: dict[str, Any], *models: ModelSlices, **changes: Any) -> bytes:
        """Sign slices for the enclave that gave this challenge."""
        made = Allotment(
            owner=self.public,
            delegation=document_digest(self.delegation),
            nonce=challenge["nonce"],
            boot_id=challenge["boot_id"],
            time=self.now,
            models=models,
        )
        return replace(made, **changes).sign(self.broker)

    def revoke(self, client: Client, name: str = "*", epoch: int = 0, models: tuple[bytes, ...] = ()) -> list[bytes]:
        digest = document_digest(self.delegation)
        signed = Revocation(self.public, digest, name, epoch, models, self.now).sign(self.broker)
        header = {"op": "revoke", "delegation": self.delegation, "revocation": signed}
        ended: list[bytes] = client.request(header).header["ended"]
        return ended


@dataclass
class Rig:
    """A running enclave."""

    host: Host
    attester: FakeAttester
    service: Service
    server: Server
    thread: threading.Thread

    def client(self, **options: Any) -> Client:
        return Client(self.host, **options).connect()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.005)

    def leases(self) -> dict[bytes, int]:
        """What is left of each loaded model's lease."""
        return {model.digest: model.lease.remaining for model in self.service.owners.models()}

    def is_alive(self) -> bool:
        return bool(self.client().request({"op": "models"}).header["class"] == "simulated")


@contextmanager
def running(settings: EnclaveSettings | None = None) -> Iterator[Rig]:
    """Run an enclave over a socket pair until the block ends."""
    inner, outer = socket.socketpair()
    attester = FakeAttester()
    channel = Channel(inner)
    service = Service(settings or EnclaveSettings("first"), attester, channel, Arena(1 << 18))
    server = Server(channel, service)
    thread = threading.Thread(target=server.serve, daemon=True)
    host = Host(outer)
    thread.start()
    try:
        ready = host.control.get(timeout=PATIENCE)
        assert ready.route == "!ready"
        yield Rig(host, attester, service, server, thread)
    finally:
        attester.hold.set()
        if thread.is_alive():
            with suppress(OSError):
                host.close()
        thread.join(PATIENCE)
        channel.close()
        assert not thread.is_alive()


# ---------------------------------------------------------------------------------------------- models


def linear(owner: Owner, *, epoch: int = 1, name: str = "tiny", **changes: Any) -> tuple[bytes, ModelManifest]:
    """A linear layer from 4 to 3 with a softmax; weights from a fixed seed."""
    rng = np.random.default_rng(7)
    weights = numpy_helper.from_array(rng.normal(size=(4, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    data = graph(nodes, [("x", TensorProto.FLOAT, ["n", 4])], [("y", TensorProto.FLOAT, ["n", 3])], [weights])
    table = {
        "name": name,
        "version": "1.0",
        "epoch": epoch,
        "owner": owner.public,
        "axes": {"n": {"minimum": 1, "maximum": 8}},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 4], "minimum": -100.0, "maximum": 100.0}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 3]}],
        "labels": ["red", "green", "blue"],
    }
    return data, ModelManifest.from_map({**table, **changes})


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None) -> bytes:
    """An ONNX model (opset 17) from nodes and (name, type, shape) triples."""
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        weights or [],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
