"""Every single-bit change of everything that the host carries is refused, and with the right code."""

from __future__ import annotations

import copy
from collections import Counter

from attestation.errors import WireCode
from attestation.wire.session import ClientSession, ServerSession
from attestation.wire.stream import PrefixedStream
from tests.wire.kit import outcome, refusal
from tests.wire.pairs import EVIDENCE, REQUEST, RESPONSE, established, exchange, flips, greeted, ticket_from
from tests.wire.store import TicketStore


def fork(session):
    """Return a copy that can fail in the session's place."""
    twin = copy.copy(session)
    twin._stream = PrefixedStream(session._stream.bounds)
    twin._reader, twin._writer = copy.copy(session._reader), copy.copy(session._writer)
    handshake = getattr(session, "_handshake", None)
    if handshake is not None:
        twin._handshake = copy.copy(handshake)
        twin._handshake._pending = list(handshake._pending)
        twin._handshake._symmetric = copy.copy(handshake._symmetric)
        twin._handshake._symmetric._state = copy.copy(handshake._symmetric._state)
    return twin


def end(session, data):
    """Return the code in which the bytes, followed by the end of the stream, end the session."""
    result = outcome(session.receive, data)
    return result if isinstance(result, WireCode) else refusal(session.end_of_stream)


def test_a_fork_is_as_good_as_the_session():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    answer = server.data_to_send()
    for session in (fork(client), client):
        assert session.receive(answer) == []
        assert session.handshake_hash == server.handshake_hash


def test_every_bit_of_a_hello():
    client = ClientSession()
    codes = Counter()
    for flipped in flips(client.start()):
        server = ServerSession()
        result = outcome(server.receive, flipped())
        if isinstance(result, WireCode):
            codes["server", result] += 1
        elif not result:
            codes["server", refusal(server.end_of_stream)] += 1
        else:  # the server cannot know; the client does
            codes["client", refusal(fork(client).receive, server.data_to_send())] += 1
    assert {code for _, code in codes} == {
        WireCode.HANDSHAKE_FAILED,
        WireCode.HANDSHAKE_VERSION,
        WireCode.SESSION_TRUNCATED,
        WireCode.TICKET_REFUSED,
    }
    assert codes["server", WireCode.HANDSHAKE_VERSION] == 8
    assert codes["server", WireCode.TICKET_REFUSED] == 1
    assert codes.total() == 1222 * 8


def test_every_bit_of_a_resumed_hello():
    ticket = ticket_from(TicketStore())
    hello = ClientSession(ticket=ticket).start()
    codes = Counter()
    for flipped in flips(hello):
        store = TicketStore()
        store._tickets[ticket.id] = ticket
        codes[end(ServerSession(tickets=store), flipped())] += 1
    assert codes[WireCode.TICKET_REFUSED] == 16 * 8
    assert codes[WireCode.HANDSHAKE_VERSION] == 8
    assert codes[WireCode.HANDSHAKE_FAILED] > 9000
    assert set(codes) == {
        WireCode.TICKET_REFUSED,
        WireCode.HANDSHAKE_VERSION,
        WireCode.HANDSHAKE_FAILED,
        WireCode.SESSION_TRUNCATED,
    }
    assert codes.total() == 1270 * 8


def test_every_bit_of_the_answer():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    codes = Counter(end(fork(client), flipped()) for flipped in flips(server.data_to_send()))
    assert set(codes) == {WireCode.HANDSHAKE_FAILED, WireCode.HANDSHAKE_VERSION, WireCode.SESSION_TRUNCATED}
    assert codes[WireCode.HANDSHAKE_VERSION] == 8
    assert codes.total() == 1158 * 8


def _hold_all_bits(session, record):
    """Refuse every flip: `record-refused`, or truncation where the length now promises bytes that never come."""
    codes = Counter(end(fork(session), flipped()) for flipped in flips(record))
    assert set(codes) == {WireCode.RECORD_REFUSED, WireCode.SESSION_TRUNCATED}
    assert codes[WireCode.SESSION_TRUNCATED] < 32
    assert codes.total() == len(record) * 8
    assert len(session.receive(record)) == 1


def test_every_bit_of_the_evidence_record():
    client, _, evidence = greeted()
    _hold_all_bits(client, evidence)


def test_every_bit_of_a_request_and_of_its_response():
    client, server = established()
    exchange(client, server)
    _hold_all_bits(server, client.send(REQUEST, b"a request of one record" * 11))
    _hold_all_bits(client, server.send(RESPONSE, EVIDENCE.claims))


def test_every_bit_of_the_closing_record():
    client, server = established()
    _hold_all_bits(server, client.close())
    _hold_all_bits(client, server.close())
