"""The attested session between two honest sides, and every move out of order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import WireCode
from attestation.types.claims import MAX_EVIDENCE
from attestation.wire.messages import MessageType
from attestation.wire.noise_primitives import MAX_NONCE, MlKem768
from attestation.wire.records import ROOM
from attestation.wire.session import ClientSession, Closed, Evidence, HandshakeDone, Message, ServerSession
from attestation.wire.session_states import CLIENT, RECEIVE, SEND, SERVER, Move, State
from tests.wire.kit import outcome, refusal
from tests.wire.pairs import EVIDENCE, REQUEST, RESPONSE, established, exchange, greeted

AUTHENTICATE, ERROR = MessageType.AUTHENTICATE, MessageType.ERROR


def test_both_sides_agree_and_exchange_messages_of_any_length():
    client, server = established()
    for size in (0, 1, 300, ROOM, 2 * ROOM + 7):
        exchange(client, server, b"q" * size, b"r" * size)
    assert client._writer.counter == server._reader.counter == 7
    assert client._reader.counter == server._writer.counter == 8


@given(st.lists(st.integers(1, 900), min_size=1, max_size=12))
def test_the_bytes_of_a_session_may_be_cut_anywhere(cuts):
    client, server = ClientSession(), ServerSession()
    feed(server, client.start(), cuts)
    assert feed(client, server.send_evidence(EVIDENCE), cuts) == [Evidence(EVIDENCE)]
    client.accept()
    events = feed(server, client.send(AUTHENTICATE, b"me") + client.send(REQUEST, b"q" * 700) + client.close(), cuts)
    assert [type(event) for event in events] == [Message, Message, Closed]
    assert bytes(events[1].content) == b"q" * 700


def feed(side, data, cuts):
    events, sizes = [], itertools.cycle(cuts)
    while data:
        size = next(sizes)
        events += side.receive(data[:size])
        data = data[size:]
    return events


def test_nothing_can_be_sent_before_the_evidence_is_accepted():
    client, _, evidence = greeted()
    client.receive(evidence)
    assert refusal(client.send, REQUEST, b"secret") is WireCode.SESSION_STATE
    assert client.state is State.DEAD


def test_the_answer_leaves_before_the_evidence_or_with_it():
    early, late = ServerSession(), ServerSession()
    for server in (early, late):
        server.receive(ClientSession().start())
    answer = early.data_to_send()
    assert early.data_to_send() == b""
    assert len(late.send_evidence(EVIDENCE)) == len(answer) + len(early.send_evidence(EVIDENCE))


def test_each_session_draws_keys_of_its_own():
    hellos = {ClientSession().start() for _ in range(4)}
    assert len({hello[:38] for hello in hellos}) == len({hello[38:] for hello in hellos}) == 4
    hello = hellos.pop()
    answers = set()
    for _ in range(4):
        server = ServerSession()
        server.receive(hello)
        answers.add(server.data_to_send()[6:38])
    assert len(answers) == 4


def test_a_hello_with_a_low_order_point_is_refused():
    hello = bytearray(ClientSession().start())
    hello[6:38] = bytes(32)
    assert refusal(ServerSession().receive, hello) is WireCode.HANDSHAKE_FAILED


def test_a_hello_with_a_payload_is_refused():
    hello = ClientSession().start()
    longer = (len(hello) - 3).to_bytes(4, "big") + hello[4:] + b"x"
    assert refusal(ServerSession().receive, longer) is WireCode.HANDSHAKE_FAILED


def test_an_answer_with_a_payload_is_refused():
    client, server = ClientSession(), ServerSession()
    hello = client.start()
    handshake = server._begin(None, initiator=False)
    handshake.read_message(hello[6:])
    message = b"\1\0" + handshake.write_message(b"early data")
    assert refusal(client.receive, len(message).to_bytes(4, "big") + message) is WireCode.HANDSHAKE_FAILED


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (b"\0\0\0\2\2\0", WireCode.HANDSHAKE_VERSION),
        (b"\0\0\0\2\1\0", WireCode.HANDSHAKE_FAILED),
        (b"\0\0\0\2\1\2", WireCode.HANDSHAKE_FAILED),
        (b"\0\0\0\3\1\1x", WireCode.HANDSHAKE_FAILED),
        (b"\0\0\0\1\1", WireCode.HANDSHAKE_FAILED),
        (b"\0\0\0\0", WireCode.HANDSHAKE_FAILED),
        (b"\0\0\x10\1", WireCode.HANDSHAKE_FAILED),
        (b"\xff\xff\xff\xff", WireCode.HANDSHAKE_FAILED),
        (b"GET / HTTP/1.1\r\n", WireCode.HANDSHAKE_FAILED),
    ],
)
def test_a_hello_of_another_form_is_refused_by_its_first_bytes(hello, code):
    assert refusal(ServerSession().receive, hello) is code


def test_an_answer_of_another_version_or_mode_is_refused():
    for position, code in ((4, WireCode.HANDSHAKE_VERSION), (5, WireCode.HANDSHAKE_FAILED)):
        client, server = ClientSession(), ServerSession()
        server.receive(client.start())
        answer = bytearray(server.data_to_send())
        answer[position] ^= 2
        assert refusal(client.receive, answer) is code


def test_a_low_order_answer_is_refused():
    client = ClientSession()
    client.start()
    answer = b"\1\0" + bytes(32) + bytes(MlKem768.ciphertext_size + 32)
    assert refusal(client.receive, len(answer).to_bytes(4, "big") + answer) is WireCode.HANDSHAKE_FAILED


def test_an_oversized_record_length_is_refused_before_anything_is_held():
    client, server = established()
    for side in (client, server):
        assert refusal(side.receive, b"\0\x10\0\x11") is WireCode.RECORD_REFUSED
        assert side._stream.held == 0


def test_evidence_above_its_bound_is_refused():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    client.receive(server.data_to_send())
    record = b"".join(server._writer.seal(MessageType.EVIDENCE, bytes(MAX_EVIDENCE + 1)))
    assert refusal(client.receive, record) is WireCode.MESSAGE_TOO_LARGE


def test_evidence_that_is_none_is_refused():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    client.receive(server.data_to_send())
    record = b"".join(server._writer.seal(MessageType.EVIDENCE, b"\x80"))
    assert refusal(client.receive, record) is WireCode.MESSAGE_MALFORMED


def test_a_message_above_the_servers_bound_is_refused():
    client, server = ClientSession(), ServerSession(max_message=1000)
    server.receive(client.start())
    client.receive(server.send_evidence(EVIDENCE))
    client.accept()
    assert refusal(server.receive, client.send(REQUEST, bytes(1001))) is WireCode.MESSAGE_TOO_LARGE


def test_closing_in_order_ends_both_directions():
    client, server = established()
    assert server.receive(client.close()) == [Closed()]
    assert bytes(client.receive(server.send(RESPONSE, b"still on its way"))[0].content) == b"still on its way"
    assert client.receive(server.close()) == [Closed()]
    client.end_of_stream()
    server.end_of_stream()
    assert client.state is server.state is State.CLOSED


def test_a_client_may_close_while_it_appraises():
    client, server, evidence = greeted()
    client.receive(evidence)
    assert server.receive(client.close()) == [Closed()]


@pytest.mark.parametrize("close_first", [True, False])
def test_the_end_of_the_stream_without_a_close_record_is_truncation(close_first):
    client, server = established()
    if close_first:
        client.close()  # our own close says nothing about the peer's direction
    else:
        client.send(REQUEST, b"unanswered")
    assert refusal(client.end_of_stream) is WireCode.SESSION_TRUNCATED
    assert client.state is State.DEAD
    assert refusal(server.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_bytes_after_the_close_record_are_truncation_or_refused():
    client, server = established()
    client.receive(server.close())
    client.receive(b"\0\0")
    assert refusal(client.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_a_stream_that_ends_in_the_handshake_is_truncated():
    assert refusal(ServerSession().end_of_stream) is WireCode.SESSION_TRUNCATED
    client = ClientSession()
    client.start()
    assert refusal(client.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_a_client_hears_that_the_peer_has_closed():
    client, server = established()
    client.receive(server.close())
    assert refusal(client.send, REQUEST, b"too late") is WireCode.SESSION_CLOSED


def test_a_close_record_with_content_is_refused():
    client, server = established()
    record = b"".join(server._writer.seal(MessageType.CLOSE, b"goodbye"))
    assert refusal(client.receive, record) is WireCode.RECORD_MALFORMED


def test_the_handshake_hash_is_refused_before_it_is_known_and_outlives_the_session():
    client, _ = established()
    value = client.handshake_hash
    client.drop()
    assert client.handshake_hash == value
    with pytest.raises(Exception, match="has not finished"):
        _ = ClientSession().handshake_hash


def test_a_dead_session_has_no_keys_and_does_nothing():
    _, server = established()
    reader, writer = server._reader, server._writer
    assert refusal(server.receive, bytes(26)) is WireCode.RECORD_REFUSED
    assert reader._aead is writer._aead is server._reader is server._writer is None
    for call in (lambda: server.receive(b""), lambda: server.send(RESPONSE, b""), server.close):
        assert refusal(call) is WireCode.SESSION_STATE


def test_evidence_and_close_have_calls_of_their_own():
    for kind in (MessageType.CLOSE, MessageType.EVIDENCE):
        _, server = established()
        assert refusal(server.send, kind, b"") is WireCode.SESSION_STATE


def test_an_answer_after_the_answer_is_no_second_handshake():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    answer = server.data_to_send()
    client.receive(answer)
    assert refusal(client.receive, answer) is WireCode.RECORD_REFUSED


# ------------------------------------------------------------------------------------- illegal moves, from the table


def _local_moves(side):
    moves = {
        Move.SEND_REQUEST: lambda: side.send(REQUEST, b""),
        Move.SEND_RESPONSE: lambda: side.send(RESPONSE, b""),
        Move.SEND_ERROR: lambda: side.send(ERROR, b""),
        Move.SEND_AUTHENTICATE: lambda: side.send(AUTHENTICATE, b""),
        Move.SEND_CLOSE: side.close,
    }
    if isinstance(side, ClientSession):
        return {**moves, Move.START: side.start, Move.ACCEPT: side.accept}
    return {**moves, Move.SEND_EVIDENCE: lambda: side.send_evidence(EVIDENCE)}


def _keyed(kind, state):
    """Return a side that holds keys and was put into a state, and its peer."""
    client, server = established()
    side, peer = (client, server) if kind is ClientSession else (server, client)
    side.state = state
    return side, peer


@pytest.mark.parametrize(("kind", "table"), [(ClientSession, CLIENT), (ServerSession, SERVER)])
def test_every_move_of_the_caller_is_as_the_table_says(kind, table):
    for state in table:
        for move in _local_moves(_keyed(kind, state)[0]):
            side, _ = _keyed(kind, state)
            result = outcome(_local_moves(side)[move])
            if move in table[state]:
                assert side.state is table[state][move], (state, move)
            else:
                assert result in {WireCode.SESSION_STATE, WireCode.SESSION_CLOSED}, (state, move)
                assert side.state is State.DEAD


@pytest.mark.parametrize(("kind", "table"), [(ClientSession, CLIENT), (ServerSession, SERVER)])
def test_every_message_of_the_peer_is_as_the_table_says(kind, table):
    for state, message in itertools.product(set(table) - {State.START, State.HELLO, State.ANSWER}, MessageType):
        side, peer = _keyed(kind, state)
        content = EVIDENCE.encode() if message is MessageType.EVIDENCE else b""
        result = outcome(side.receive, b"".join(peer._writer.seal(message, content)))
        if RECEIVE + message in table[state]:
            assert len(result) == 1, (state, message)
            assert side.state is table[state][RECEIVE + message], (state, message)
        else:
            assert result is (WireCode.SESSION_STATE if state is State.DEAD else WireCode.RECORD_MALFORMED)
            assert side.state is State.DEAD


def test_the_tables_know_every_move_and_reach_every_state():
    used = {move for table in (CLIENT, SERVER) for moves in table.values() for move in moves}
    assert used == set(Move)
    for table in (CLIENT, SERVER):
        reached = {after for moves in table.values() for after in moves.values()}
        assert set(table) - reached == {next(iter(table)), State.DEAD}
    assert all(Move(SEND + kind).name == f"SEND_{kind.name}" for kind in MessageType)
    assert all(Move(RECEIVE + kind).name == f"RECEIVE_{kind.name}" for kind in MessageType)


def test_bytes_before_the_hello_was_sent_are_a_defect_of_the_caller():
    answer = ServerSession()
    answer.receive(ClientSession().start())
    assert refusal(ClientSession().receive, answer.data_to_send()) is WireCode.SESSION_STATE


def test_a_session_whose_nonces_are_used_up_is_dead():
    client, _ = established()
    client._writer.counter = MAX_NONCE
    assert refusal(client.send, REQUEST, b"") is WireCode.RECORD_REFUSED
    assert client.state is State.DEAD


def test_nothing_is_ever_sent_without_a_key():
    client = ClientSession()
    client.state = State.OPEN
    assert refusal(client.send, REQUEST, b"plain") is WireCode.SESSION_STATE


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_events_or_a_wire_error(data, early):
    side = ServerSession() if early else established()[1]
    assert outcome(side.receive, data) in (
        [],
        WireCode.HANDSHAKE_FAILED,
        WireCode.HANDSHAKE_VERSION,
        WireCode.RECORD_REFUSED,
    )


@given(st.binary(max_size=1300), st.integers(0, 3))
def test_any_hello_is_taken_or_refused(data, mode):
    body = bytes((1, mode)) + data
    result = outcome(ServerSession().receive, len(body).to_bytes(4, "big") + body)
    if isinstance(result, WireCode):
        assert result in {WireCode.HANDSHAKE_FAILED, WireCode.TICKET_REFUSED}
    else:
        assert isinstance(result[0], HandshakeDone)
