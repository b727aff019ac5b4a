"""Two sides of a session, brought to where a test wants them."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from attestation.binding import InclusionProof
from attestation.types import EvidenceRecord
from attestation.wire.messages import MessageType
from attestation.wire.session import ClientSession, Evidence, HandshakeDone, Resumed, ServerSession
from attestation.wire.tickets import Ticket
from tests.wire.store import TicketStore

EVIDENCE = EvidenceRecord(claims=b"claims" * 20, quote=b"quote" * 40, proof=InclusionProof(0, 1, ()), hint="dummy")
REQUEST, RESPONSE = MessageType.REQUEST, MessageType.RESPONSE


def greeted() -> tuple[ClientSession, ServerSession, bytes]:
    """Return both sides after the handshake, and the bytes of the evidence record, not yet received."""
    client, server = ClientSession(), ServerSession()
    (done,) = server.receive(client.start())
    assert isinstance(done, HandshakeDone)
    assert client.receive(server.data_to_send()) == []
    assert client.handshake_hash == server.handshake_hash == done.handshake_hash
    return client, server, server.send_evidence(EVIDENCE)


def established() -> tuple[ClientSession, ServerSession]:
    """Return both sides with the evidence accepted."""
    client, server, evidence = greeted()
    assert client.receive(evidence) == [Evidence(EVIDENCE)]
    client.accept()
    return client, server


def ticket_from(store: TicketStore, identity: bytes = b"alice") -> Ticket:
    """Return a client's ticket of this store."""
    ticket_id, psk = store.issue(identity, EVIDENCE.digest())
    return Ticket(ticket_id, psk, EVIDENCE.digest(), secrets.token_bytes(64), 1000, 4600)


def resumed(store: TicketStore, ticket: Ticket) -> tuple[ClientSession, ServerSession]:
    """Return both sides of a resumed session."""
    client, server = ClientSession(ticket=ticket), ServerSession(tickets=store)
    (done,) = server.receive(client.start())
    assert isinstance(done, HandshakeDone)
    assert client.receive(server.data_to_send()) == [Resumed()]
    return client, server


def exchange(client: ClientSession, server: ServerSession, content: bytes = b"x", answer: bytes = b"y") -> None:
    """Send a request and a response, and check what arrives."""
    (request,) = server.receive(client.send(REQUEST, content))
    assert (request.type, bytes(request.content)) == (REQUEST, content)
    (response,) = client.receive(server.send(RESPONSE, answer))
    assert (response.type, bytes(response.content)) == (RESPONSE, answer)


def records_of(data: bytes) -> list[bytes]:
    """Cut a stream at its length prefixes; each piece keeps its own."""
    pieces = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        pieces.append(data[:end])
        data = data[end:]
    return pieces


def flips(data: bytes) -> list[Callable[[], bytes]]:
    """Return one maker for every single-bit change of `data`."""

    def maker(bit: int) -> Callable[[], bytes]:
        def flipped() -> bytes:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            return bytes(changed)

        return flipped

    return [maker(bit) for bit in range(len(data) * 8)]
