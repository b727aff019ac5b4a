"""What a host can do to the bytes that it carries: each attack by name, and the code in which it ends."""

from __future__ import annotations

import pytest

from attestation.errors import WireCode
from attestation.wire.messages import MessageType
from attestation.wire.noise_primitives import CIPHERS
from attestation.wire.records import REKEY_INTERVAL, ROOM
from attestation.wire.session import ClientSession, ServerSession
from attestation.wire.session_states import State
from tests.wire.kit import refusal
from tests.wire.pairs import EVIDENCE, REQUEST, RESPONSE, established, exchange, greeted, records_of, ticket_from
from tests.wire.store import TicketStore


@pytest.fixture
def pair():
    client, server = established()
    exchange(client, server)
    return client, server


def test_a_replayed_request_ends_the_session(pair):
    client, server = pair
    request = client.send(REQUEST, b"once")
    server.receive(request)
    assert refusal(server.receive, request) is WireCode.RECORD_REFUSED
    assert server.state is State.DEAD


def test_a_replayed_response_ends_the_session(pair):
    client, server = pair
    response = server.send(RESPONSE, b"once")
    client.receive(response)
    assert refusal(client.receive, response) is WireCode.RECORD_REFUSED


def test_reordered_requests_are_refused(pair):
    client, server = pair
    first, second = client.send(REQUEST, b"1"), client.send(REQUEST, b"2")
    assert refusal(server.receive, second + first) is WireCode.RECORD_REFUSED


def test_a_dropped_request_is_noticed_at_the_next(pair):
    client, server = pair
    client.send(REQUEST, b"dropped")
    assert refusal(server.receive, client.send(REQUEST, b"next")) is WireCode.RECORD_REFUSED


def test_a_dropped_evidence_record_is_noticed_at_the_next():
    client, server, _ = greeted()
    assert refusal(client.receive, server.close()) is WireCode.RECORD_REFUSED


def test_a_record_dropped_from_a_long_message_is_noticed(pair):
    client, server = pair
    first, _, third = records_of(client.send(REQUEST, bytes(2 * ROOM + 1)))
    assert refusal(server.receive, first + third) is WireCode.RECORD_REFUSED


def test_a_truncated_record_is_truncation(pair):
    client, server = pair
    assert server.receive(client.send(REQUEST, b"cut")[:-1]) == []
    assert refusal(server.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_a_message_without_its_last_record_is_truncation(pair):
    client, server = pair
    assert server.receive(records_of(client.send(REQUEST, bytes(ROOM + 1)))[0]) == []
    assert refusal(server.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_a_record_whose_length_was_shortened_is_refused(pair):
    client, server = pair
    record = client.send(REQUEST, b"cut")
    assert refusal(server.receive, (len(record) - 5).to_bytes(4, "big") + record[4:-1]) is WireCode.RECORD_REFUSED


def test_a_dropped_close_record_is_truncation(pair):
    client, server = pair
    client.close()
    assert refusal(server.end_of_stream) is WireCode.SESSION_TRUNCATED


def test_a_forged_close_record_is_refused(pair):
    client, _ = pair
    assert refusal(client.receive, (272).to_bytes(4, "big") + bytes(272)) is WireCode.RECORD_REFUSED


def test_a_clients_own_record_reflected_to_it_is_refused(pair):
    client, _ = pair
    assert refusal(client.receive, client.send(REQUEST, b"mirror")) is WireCode.RECORD_REFUSED


def test_a_servers_own_record_reflected_to_it_is_refused(pair):
    _, server = pair
    assert refusal(server.receive, server.send(RESPONSE, b"mirror")) is WireCode.RECORD_REFUSED


def test_a_clients_own_hello_reflected_as_the_answer_is_refused():
    client = ClientSession()
    assert refusal(client.receive, client.start()) is WireCode.HANDSHAKE_FAILED


def test_a_record_spliced_in_from_another_session_is_refused(pair):
    _, server = pair
    other, other_server = established()
    exchange(other, other_server)
    assert refusal(server.receive, other.send(REQUEST, b"foreign")) is WireCode.RECORD_REFUSED


def test_evidence_spliced_in_from_another_session_is_refused():
    client, _, _ = greeted()
    _, _, foreign = greeted()
    assert refusal(client.receive, foreign) is WireCode.RECORD_REFUSED


def test_an_answer_spliced_in_from_another_session_is_refused():
    client, other, server = ClientSession(), ClientSession(), ServerSession()
    client.start()
    server.receive(other.start())
    assert refusal(client.receive, server.data_to_send()) is WireCode.HANDSHAKE_FAILED


def test_a_host_that_swaps_the_clients_keys_for_its_own_is_refused_by_the_client():
    client, host, server = ClientSession(), ClientSession(), ServerSession()
    hello, own = client.start(), host.start()
    server.receive(hello[:6] + own[6:38] + hello[38:])
    assert refusal(client.receive, server.data_to_send()) is WireCode.HANDSHAKE_FAILED


def test_a_host_in_the_middle_of_two_handshakes_shows_by_the_hash():
    client, to_client, to_server, server = ClientSession(), ServerSession(), ClientSession(), ServerSession()
    to_client.receive(client.start())
    server.receive(to_server.start())
    client.receive(to_client.data_to_send())
    to_server.receive(server.data_to_send())
    assert client.handshake_hash != server.handshake_hash  # so the enclave's quote does not bind the client's session


def test_a_whole_session_replayed_to_a_fresh_server_is_refused_at_its_first_record():
    client, server = ClientSession(), ServerSession()
    hello = client.start()
    server.receive(hello)
    client.receive(server.send_evidence(EVIDENCE))
    client.accept()
    request = client.send(REQUEST, b"charge me once")
    fresh = ServerSession()
    fresh.receive(hello)
    fresh.send_evidence(EVIDENCE)
    assert refusal(fresh.receive, request) is WireCode.RECORD_REFUSED


def test_a_whole_resumed_session_replayed_is_refused_at_its_hello():
    store = TicketStore()
    hello = ClientSession(ticket=ticket_from(store)).start()
    ServerSession(tickets=store).receive(hello)
    assert refusal(ServerSession(tickets=store).receive, hello) is WireCode.TICKET_REFUSED


def test_a_servers_side_replayed_to_a_fresh_client_is_refused():
    client, server = ClientSession(), ServerSession()
    server.receive(client.start())
    recorded = server.send_evidence(EVIDENCE)
    fresh = ClientSession()
    fresh.start()
    assert refusal(fresh.receive, recorded) is WireCode.HANDSHAKE_FAILED


def test_a_resumed_hello_downgraded_to_a_full_one_is_refused():
    client, server = ClientSession(ticket=ticket_from(TicketStore())), ServerSession()
    hello = client.start()
    stripped = b"\1\0" + hello[22:]
    assert refusal(server.receive, len(stripped).to_bytes(4, "big") + stripped) is WireCode.HANDSHAKE_FAILED


def test_a_client_that_speaks_before_the_evidence_is_refused():
    client, server, _ = greeted()
    eager = b"".join(client._writer.seal(REQUEST, b"before any appraisal"))
    server.state = State.EVIDENCE
    assert refusal(server.receive, eager) is WireCode.RECORD_MALFORMED


def test_an_oversized_length_costs_no_memory(pair):
    _, server = pair
    assert refusal(server.receive, b"\x7f\xff\xff\xff" + bytes(64)) is WireCode.RECORD_REFUSED
    assert server._stream.held == 0


# ------------------------------------------------------------------------------------------------------- keys change


def _at_the_change_of_keys():
    client, server = established()
    client._writer.counter = server._reader.counter = REKEY_INTERVAL
    return client, server


def test_a_record_under_the_key_before_the_change_is_refused_after_it():
    client, server = _at_the_change_of_keys()
    stale = client._writer._aead
    honest = client.send(REQUEST, b"new key")
    forged = stale.encrypt(CIPHERS["AESGCM"].nonce(REKEY_INTERVAL), bytes((3, 1)) + bytes(254), None)
    assert len(forged) == len(honest) - 4
    assert refusal(server.receive, honest[:4] + forged) is WireCode.RECORD_REFUSED


def test_a_forged_rekey_ahead_of_its_time_is_refused():
    client, server = established()
    client._writer.counter = REKEY_INTERVAL  # this side changes its key; its peer is not there yet
    assert refusal(server.receive, client.send(REQUEST, b"too early")) is WireCode.RECORD_REFUSED


def test_a_record_from_before_the_change_replayed_after_it_is_refused():
    client, server = established()
    client._writer.counter = server._reader.counter = REKEY_INTERVAL - 1
    old = client.send(REQUEST, b"old key")
    server.receive(old)
    server.receive(client.send(REQUEST, b"new key"))
    assert refusal(server.receive, old) is WireCode.RECORD_REFUSED


def test_no_message_can_ask_for_another_key():
    assert {kind.name for kind in MessageType} == {"EVIDENCE", "AUTHENTICATE", "REQUEST", "RESPONSE", "ERROR", "CLOSE"}
