"""An enclave end on a Unix socket: real handshake, records, quotes and control checks; models that load from nothing.

What the enclave itself would refuse is refused here too, since its own Provisioner decides; only files and inference
are missing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attestation.binding import batch, session_leaf
from attestation.sim.platform import SimulatedPlatform
from attestation.types import Claims, EvidenceRecord, Grant, PlatformClass
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from attestation.wire.messages import MessageType, decode_body, encode_body
from attestation.wire.session import HandshakeDone, Message, ServerSession
from enclave.arena import Arena
from enclave.budget import Budget
from enclave.condemned import Condemned
from enclave.errors import EnclaveCode, EnclaveError
from enclave.lease import Lease
from enclave.owners import Owners
from enclave.provision import ControlState, Provisioner
from manifests.errors import StrongroomError
from manifests.signing import Signer

MRENCLAVE = b"\x07" * 32


class _Provisioner(Provisioner):
    """Loads no file: notes the key that came with the grant."""

    def __init__(self, enclave: FakeEnclave, **parts: Any) -> None:
        super().__init__(**parts)
        self._enclave = enclave

    def _open(self, grant: Grant, dek: memoryview) -> Any:
        self._enclave.loading(grant, bytes(dek))
        return SimpleNamespace(
            digest=grant.model,
            owner=grant.owner,
            name=grant.name,
            epoch=grant.epoch,
            lease=Lease(grant.lease),
            budget=Budget(),
        )


class FakeEnclave:
    """Listens until it is closed; `restart` makes it another process.

    keys: data keys by model digest.  operations: what was asked, in order.  misbehave: may change or refuse an answer.
    """

    def __init__(self, path: Path, platform: SimulatedPlatform, *, measurement: bytes = MRENCLAVE) -> None:
        self.path = path
        self.address = f"unix:{path}"
        self.platform = platform
        self.measurement = measurement
        self.quoted: Callable[[bytes], bytes] = lambda quote: quote
        self.misbehave: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _operation, answer: answer
        self.before_loading: Callable[[Grant], None] = lambda _grant: None
        self.keys: dict[bytes, bytes] = {}
        self.grants: list[Grant] = []
        self.operations: list[str] = []
        self.sessions = 0
        self._arena = Arena(4096)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.restart()
        self.listen()

    def restart(self) -> None:
        """Forget everything, as a new process would."""
        self.boot_id = os.urandom(16)
        self.owners = Owners("first", lambda *_: None)
        self.condemned = Condemned(self.owners)
        self._control = _Provisioner(
            self,
            owners=self.owners,
            condemned=self.condemned,
            loader=None,
            channel=None,
            arena=self._arena,
            platform=PlatformClass.SIMULATED,
            boot_id=self.boot_id,
        )

    def listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._start(self._accept)

    def hang_up(self) -> None:
        """Break every connection, as a host that dies would."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.hang_up()
        for thread in self._threads:
            thread.join(5)

    def leases(self) -> dict[bytes, int]:
        return {model.digest: model.lease.remaining for model in self.owners.models()}

    def loading(self, grant: Grant, key: bytes) -> None:
        self.before_loading(grant)
        self.grants.append(grant)
        self.keys[grant.model] = key

    # ------------------------------------------------------------------------------------ the wire

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = self._listener
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self._sockets.append(sock)
                self.sessions += 1
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        decoder, session, state = FrameDecoder(), ServerSession(tickets=None), ControlState()
        with contextlib.suppress(OSError, StrongroomError), sock:
            while data := sock.recv(65536):
                for frame in decoder.feed(data):
                    for event in session.receive(frame.body) if frame.body else []:
                        _send(sock, session.data_to_send())
                        if isinstance(event, HandshakeDone):
                            state.handshake_hash = event.handshake_hash
                            _send(sock, session.send_evidence(self._evidence(event.handshake_hash)))
                        elif isinstance(event, Message):
                            _send(sock, session.send(*self._answer(state, bytes(event.content))))

    def _evidence(self, handshake_hash: bytes) -> EvidenceRecord:
        receipt = Signer.from_seed(self.boot_id * 2).public
        claims = Claims(receipt, bytes(1216), self.boot_id, self.owners.admitted, self.owners.states()).encode()
        report_data, (proof,) = batch([session_leaf(handshake_hash, claims)])
        quote = self.platform.quote(self.platform.report_body(self.measurement), report_data)
        return EvidenceRecord(claims, self.quoted(quote), proof, "sgx simulated")

    def _answer(self, state: ControlState, content: bytes) -> tuple[MessageType, bytes]:
        header = decode_body(content).header
        self.operations.append(header["op"])
        try:
            answer = self.misbehave(header["op"], self._act(state, header))
            return MessageType.RESPONSE, encode_body({**answer, "id": header["id"]})
        except StrongroomError as error:
            refusal = {"code": str(error.code), "message": error.message, "field": None, "retry_after": None}
            return MessageType.ERROR, encode_body({**refusal, "id": header["id"]})

    def _act(self, state: ControlState, header: dict[str, Any]) -> dict[str, Any]:
        match header["op"]:
            case "provision":
                return self._control.provision(state, header)()
            case "challenge":
                return self._control.challenge(state, header)
            case "heartbeat":
                return self._control.heartbeat(state, header)
            case "revoke":
                return self._control.revoke(state, header)
        raise EnclaveError(EnclaveCode.OPERATION_UNKNOWN, "no such operation")


def _send(sock: socket.socket, data: bytes) -> None:
    if data:
        sock.sendall(encode_frame(Frame("default", 1, data)))
