"""An enclave end whose every move a test decides: real handshake and records, scripted evidence and answers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attestation.types import EvidenceRecord
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from attestation.wire.messages import Body, MessageType, decode_body, encode_body
from attestation.wire.session import Closed, HandshakeDone, Message, ServerSession
from manifests.errors import StrongroomError
from tests.wire.store import TicketStore


class Peer:
    """One connection, as the script sees it."""

    def __init__(self, sock: socket.socket, tickets: TicketStore) -> None:
        self.sock = sock
        self.session = ServerSession(tickets=tickets)
        self.tickets = tickets
        self.received = b""
        """Every byte of the session that the client has sent."""
        self.messages: list[tuple[MessageType, bytes]] = []
        self.closed_in_order = False
        self.error: StrongroomError | None = None
        self.route, self.sid = "default", 1

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), 1 << 20):
            self.sock.sendall(encode_frame(Frame(self.route, self.sid, data[start : start + (1 << 20)])))

    def respond(self, header: dict[str, Any], tensors: dict[str, Any] | None = None) -> None:
        self.send(self.session.send(MessageType.RESPONSE, encode_body(header, tensors)))

    def refuse(self, number: int, code: str, field: str | None = None, retry_after: float | None = None) -> None:
        content = {"id": number, "code": code, "message": "no", "field": field, "retry_after": retry_after}
        self.send(self.session.send(MessageType.ERROR, encode_body(content)))

    def host_error(self, body: bytes) -> None:
        self.sock.sendall(encode_frame(Frame("!error", self.sid, body)))

    def end(self) -> None:
        """End the stream without a close record."""
        self.sock.sendall(encode_frame(Frame(self.route, self.sid, b"")))

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


Script = Callable[[Peer, Body], None]
Evidence = Callable[[bytes], EvidenceRecord]


class ScriptedEnclave:
    """Listens on a Unix socket, or on TCP without a path.

    `evidence` makes the record for a handshake, `script` answers each request.
    """

    def __init__(self, path: Path | None, evidence: Evidence, script: Script) -> None:
        self.peers: list[Peer] = []
        self.tickets = TicketStore()
        self.on_evidence: Callable[[Peer, bytes], None] = self.send_evidence
        self._evidence = evidence
        self.script = script
        self._listener, self.address = _listen(path)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def peer(self) -> Peer:
        return self.peers[-1]

    def send_evidence(self, peer: Peer, handshake_hash: bytes) -> None:
        peer.send(peer.session.send_evidence(self._evidence(handshake_hash)))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            peer.hang_up()
        for thread in self._threads:
            thread.join(5)

    def settled(self) -> Peer:
        """Wait until the newest connection has been read to its end and return it."""
        self._threads[-1].join(5)
        return self.peer

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                peer = Peer(sock, self.tickets)
                self.peers.append(peer)
                self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
                self._threads[-1].start()

    def _serve(self, peer: Peer) -> None:
        decoder = FrameDecoder()
        try:
            while data := peer.sock.recv(65536):
                for frame in decoder.feed(data):
                    peer.received += bytes(frame.body)
                    if frame.body:
                        self._take(peer, frame)
        except StrongroomError as error:
            peer.error = error
            peer.hang_up()
        except OSError:
            pass
        finally:
            peer.sock.close()

    def _take(self, peer: Peer, frame: Frame) -> None:
        events = peer.session.receive(frame.body)
        peer.send(peer.session.data_to_send())
        for event in events:
            match event:
                case HandshakeDone(handshake_hash=handshake_hash) if not peer.session.resumed:
                    self.on_evidence(peer, handshake_hash)
                case Message(type=kind, content=content):
                    peer.messages.append((kind, bytes(content)))
                    if kind is MessageType.REQUEST:
                        self.script(peer, decode_body(bytes(content)))
                case Closed():
                    peer.closed_in_order = True


def _listen(path: Path | None) -> tuple[socket.socket, str]:
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        return listener, f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener, f"unix:{path}"
