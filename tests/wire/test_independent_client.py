"""A client that was written from docs/wire.md alone works with our server."""

from __future__ import annotations

import ast
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from attestation import binding
from attestation.types import EvidenceRecord
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from attestation.wire.messages import MessageType, decode_body, encode_body
from attestation.wire.records import ROOM
from attestation.wire.session import Closed, HandshakeDone, Message, ServerSession
from tests.wire import independent_client
from tests.wire.independent_client import Client, RefusalError
from tests.wire.store import TicketStore

CLAIMS = b"claims of a dummy"


class Server:
    """An enclave and its host in one thread: answers `echo`, `ticket` and refuses the rest."""

    def __init__(self, tickets, batch=1):
        self.tickets, self.batch = tickets, batch
        self.session = ServerSession(tickets=tickets)
        self.decoder = FrameDecoder()
        self.here, self.there = socket.socketpair()
        self.there.settimeout(20)
        self.closed = False
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self.there

    def __exit__(self, *_):
        self.there.close()
        self.thread.join(20)
        self.here.close()
        assert not self.thread.is_alive()

    def _run(self):
        while data := self.here.recv(1 << 16):
            for frame in self.decoder.feed(data):
                for event in self.session.receive(frame.body) if frame.body else []:
                    self._send(frame, self._answer(event))

    def _send(self, frame, data):
        for start in range(0, len(data), 700_000):  # cuts that fall within records
            self.here.sendall(encode_frame(Frame(frame.route, frame.sid, data[start : start + 700_000])))

    def _answer(self, event):
        match event:
            case HandshakeDone(ticket=None):
                return self.session.send_evidence(self._evidence())
            case HandshakeDone():
                return self.session.data_to_send()
            case Closed():
                self.closed = True
                return self.session.close()
            case Message():
                return self._respond(decode_body(event.content))
        raise AssertionError(event)

    def _evidence(self):
        leaves = [bytes([number]) * 64 for number in range(self.batch)]
        leaves[-1] = binding.session_leaf(self.session.handshake_hash, CLAIMS)
        quoted, proofs = binding.batch(leaves)
        return EvidenceRecord(CLAIMS, b"quote of " + quoted, proofs[-1], "dummy")

    def _respond(self, body):
        number = body.header["id"]
        if body.header["op"] == "echo":
            return self.session.send(MessageType.RESPONSE, encode_body({"id": number}, body.arrays()))
        if body.header["op"] == "ticket":
            ticket, psk = self.tickets.issue(b"me", bytes(64))
            return self.session.send(MessageType.RESPONSE, encode_body({"id": number, "ticket": ticket, "psk": psk}))
        refusal = {"id": number, "code": "op-unknown", "message": "no", "field": None, "retry_after": None}
        return self.session.send(MessageType.ERROR, encode_body(refusal))


def test_it_imports_nothing_of_ours():
    tree = ast.parse(Path(independent_client.__file__).read_text())
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition(".")[0] for name in named} <= {*("hashlib", "hmac", "struct", "cryptography", "msgpack")}


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 8])
def test_it_attests_asks_and_closes(batch):
    server = Server(TicketStore(), batch)
    with server as sock:
        client = Client()
        evidence = client.connect(sock)
        assert client.h == server.session.handshake_hash
        assert evidence["claims"] == CLAIMS
        assert evidence["quote"] == b"quote of " + evidence["report_data"]
        for size in (0, 1, 100, ROOM // 4, ROOM // 2):
            array = np.arange(size, dtype="<f4")
            tensors = [["x", "float32", [size], size * 4]]
            answer, buffers = client.request({"op": "echo", "tensors": tensors}, array.tobytes())
            assert answer == {"tensors": tensors}
            assert buffers == array.tobytes()
        client.close()
    assert server.closed


def test_a_refusal_of_one_request_leaves_its_session_open():
    with Server(TicketStore()) as sock:
        client = Client()
        client.connect(sock)
        with pytest.raises(RefusalError, match="op-unknown"):
            client.request({"op": "dance"})
        assert client.request({"op": "echo"}) == ({"tensors": []}, b"")


def test_it_resumes_with_a_ticket():
    store = TicketStore()
    with Server(store) as sock:
        client = Client()
        client.connect(sock)
        answer, _ = client.request({"op": "ticket"})
    again = Server(store)
    with again as sock:
        client = Client(ticket=(answer["ticket"], answer["psk"]))
        assert client.connect(sock) is None
        assert client.request({"op": "echo"}) == ({"tensors": []}, b"")
        client.close()
    assert again.session.ticket.identity == b"me"


def test_it_changes_keys_when_the_page_says_so():
    server = Server(TicketStore())
    with server as sock:
        client = Client()
        client.connect(sock)
        client.up.n = server.session._reader.counter = 65535
        client.down.n = server.session._writer.counter = 65535
        for _ in range(3):
            client.request({"op": "echo"})
        assert client.up.n == server.session._reader.counter == 65538
