"""Tickets: one return each, to the process that issued them."""

from __future__ import annotations

import threading

import pytest

from attestation.errors import WireCode
from attestation.wire.messages import MessageType
from attestation.wire.session import ClientSession, ServerSession
from attestation.wire.tickets import ServerTicket, Ticket
from tests.wire.kit import refusal
from tests.wire.pairs import EVIDENCE, exchange, resumed, ticket_from
from tests.wire.store import TicketStore


def test_a_ticket_brings_back_identity_and_evidence_digest():
    store = TicketStore()
    client, server = resumed(store, ticket_from(store, b"alice"))
    assert client.handshake_hash == server.handshake_hash
    assert client.resumed
    assert server.resumed
    assert (server.ticket.identity, server.ticket.evidence_digest) == (b"alice", EVIDENCE.digest())
    exchange(client, server)


def test_no_data_rides_in_the_first_message():
    store = TicketStore()
    hello = ClientSession(ticket=ticket_from(store)).start()
    assert len(hello) == 4 + 2 + 16 + 32 + 1184 + 16 + 16


def test_a_resumed_client_does_not_authenticate_again():
    store = TicketStore()
    client, _ = resumed(store, ticket_from(store))
    assert refusal(client.send, MessageType.AUTHENTICATE, b"") is WireCode.SESSION_STATE


def test_a_ticket_is_good_once():
    store = TicketStore()
    ticket = ticket_from(store)
    resumed(store, ticket)
    second = ClientSession(ticket=ticket).start()
    assert refusal(ServerSession(tickets=store).receive, second) is WireCode.TICKET_REFUSED


def test_a_ticket_of_another_server_is_refused():
    mine, other = TicketStore(), TicketStore()
    hello = ClientSession(ticket=ticket_from(other)).start()
    assert refusal(ServerSession(tickets=mine).receive, hello) is WireCode.TICKET_REFUSED
    assert len(other) == 1


def test_a_server_without_a_store_refuses_every_ticket():
    hello = ClientSession(ticket=ticket_from(TicketStore())).start()
    assert refusal(ServerSession().receive, hello) is WireCode.TICKET_REFUSED


def test_an_id_without_its_key_is_refused_and_spent():
    store = TicketStore()
    ticket = ticket_from(store)
    forged = Ticket(ticket.id, bytes(32), ticket.evidence_digest, ticket.policy_digest, 0, 1)
    assert (
        refusal(ServerSession(tickets=store).receive, ClientSession(ticket=forged).start()) is WireCode.HANDSHAKE_FAILED
    )
    assert len(store) == 0


def test_a_server_that_does_not_hold_the_key_cannot_answer_a_resumed_hello():
    ticket = ticket_from(TicketStore())
    impostor = TicketStore()
    client = ClientSession(ticket=ticket)
    client.start()
    forged = Ticket(ticket.id, bytes(32), b"", b"", 0, 1)
    impostor._tickets[ticket.id] = ServerTicket(ticket.id, bytes(32), b"", b"")
    server = ServerSession(tickets=impostor)
    server.receive(ClientSession(ticket=forged).start())
    assert refusal(client.receive, server.data_to_send()) is WireCode.HANDSHAKE_FAILED


def test_a_full_answer_to_a_resumed_hello_is_no_fallback():
    store = TicketStore()
    client = ClientSession(ticket=ticket_from(store))
    client.start()
    server = ServerSession()
    server.receive(ClientSession().start())
    assert refusal(client.receive, server.data_to_send()) is WireCode.HANDSHAKE_FAILED


def test_a_resumed_session_never_carries_evidence():
    store = TicketStore()
    client, server = resumed(store, ticket_from(store))
    assert refusal(server.send_evidence, EVIDENCE) is WireCode.SESSION_STATE
    client, server = resumed(store, ticket_from(store))
    record = b"".join(server._writer.seal(MessageType.EVIDENCE, EVIDENCE.encode()))
    assert refusal(client.receive, record) is WireCode.RECORD_MALFORMED


def test_the_ticket_id_is_part_of_the_transcript():
    store = TicketStore()
    first, second = ticket_from(store), ticket_from(store)
    store._tickets[second.id] = ServerTicket(second.id, first.psk, b"mallory", b"")
    hello = ClientSession(ticket=first).start()
    steered = hello[:6] + second.id + hello[22:]
    assert refusal(ServerSession(tickets=store).receive, steered) is WireCode.HANDSHAKE_FAILED


def test_a_full_store_forgets_its_oldest_ticket():
    store = TicketStore(capacity=2)
    tickets = [ticket_from(store) for _ in range(3)]
    assert len(store) == 2
    assert store.take(tickets[0].id) is None
    assert store.take(tickets[1].id).psk == tickets[1].psk


def test_clearing_forgets_every_ticket():
    store = TicketStore()
    ticket = ticket_from(store)
    store.clear()
    assert store.take(ticket.id) is None


def test_a_store_that_could_hold_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        TicketStore(0)


def test_of_many_threads_one_takes_a_ticket():
    store = TicketStore()
    ticket = ticket_from(store)
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(store.take(ticket.id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in taken) == 1


def test_the_key_of_a_ticket_never_shows():
    store = TicketStore()
    ticket = ticket_from(store)
    assert ticket.psk.hex() not in repr(ticket)
    assert repr(ticket.psk) not in repr(ticket) + repr(store.take(ticket.id))
