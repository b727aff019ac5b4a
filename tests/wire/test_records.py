"""Records: one form for each message, in order, under the right key, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import WireCode
from attestation.wire import records
from attestation.wire.messages import MessageType
from attestation.wire.noise_primitives import MAX_NONCE
from attestation.wire.records import MAX_PLAINTEXT, REKEY_INTERVAL, ROOM, RecordReader, RecordWriter, padded_room, padme
from tests.wire.kit import outcome, refusal

KEY = bytes(range(32))
REQUEST = MessageType.REQUEST


def sealed(content: bytes, kind: MessageType = REQUEST) -> list[bytes]:
    """Return the ciphertexts of one message, without prefixes."""
    return [bytes(record[4:]) for record in RecordWriter(KEY).seal(kind, content)]


def forge(*plaintexts: bytes) -> list[bytes]:
    """Return authentic records over plaintexts of any shape: what a broken peer could send."""
    writer = RecordWriter(KEY)
    return [bytes(writer._record(plaintext)[4:]) for plaintext in plaintexts]


def plain(kind: int, flags: int, length: int, body: bytes) -> bytes:
    return bytes((kind, flags)) + length.to_bytes(4, "big") + body


def read(ciphertexts, max_message=records.DEFAULT_MAX_MESSAGE):
    """Return the last result of a fresh reader."""
    reader = RecordReader(KEY, max_message)
    result = None
    for ciphertext in ciphertexts:
        result = reader.open(ciphertext)
    return result


@pytest.mark.parametrize(
    ("size", "padded"),
    [(0, 0), (1, 1), (9, 10), (100, 104), (257, 272), (1025, 1088), (65537, 67584), (10**6, 1015808)],
)
def test_padme_rounds_as_its_paper_says(size, padded):
    assert padme(size) == padded


@given(st.integers(0, 2**40))
def test_padding_costs_at_most_an_eighth_and_is_stable(size):
    assert size <= padme(size) <= size * 1.12 + 1
    assert padme(padme(size)) == padme(size)


@pytest.mark.parametrize(
    "size",
    [0, 1, 249, 250, 251, ROOM - 20000, ROOM - 1, ROOM, ROOM + 1, 2 * ROOM - 1, 2 * ROOM, 2 * ROOM + 1, 3 * 10**6],
)
def test_a_message_of_any_length_arrives_whole_and_padded(size):
    content = bytes(range(251)) * (size // 251) + bytes(range(size % 251))
    ciphertexts = sealed(content)
    message = read(ciphertexts)
    assert message.type is REQUEST
    assert message.content == content
    assert message.content.readonly
    rooms = [len(ciphertext) - 16 - 6 for ciphertext in ciphertexts]
    assert sum(rooms) == padded_room(size)
    assert set(rooms[:-1]) <= {ROOM}


def test_short_messages_look_alike():
    assert {len(record) for size in range(251) for record in sealed(bytes(size))} == {256 + 16}


def test_a_view_of_wider_items_is_sent_as_its_bytes():
    view = memoryview(b"\1\2\3\4" * 3).cast("I")
    (record,) = RecordWriter(KEY).seal(REQUEST, view)
    assert bytes(read([record[4:]]).content) == b"\1\2\3\4" * 3


def test_the_reader_zeroes_what_a_failed_decryption_left():
    reader = RecordReader(KEY)
    target = bytearray(256)
    (ciphertext,) = sealed(b"secret")
    with pytest.raises(records.WireError):
        reader._decrypt_into(ciphertext[:-1] + bytes([ciphertext[-1] ^ 1]), target)
    assert target == bytes(256)


def test_a_failed_reader_has_dropped_key_and_message():
    first, second, third = sealed(bytes(2 * ROOM + 5))
    reader = RecordReader(KEY)
    reader.open(first)
    assert reader.unfinished
    assert refusal(reader.open, third) is WireCode.RECORD_REFUSED
    assert not reader.unfinished
    assert not reader._message
    assert refusal(reader.open, second) is WireCode.SESSION_STATE


@pytest.mark.parametrize(
    ("plaintexts", "code"),
    [
        ([plain(3, 1, 0, bytes(249) + b"\1")], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 0, b"\1" + bytes(249))], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 251, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(3, 2, 0, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(3, 3, 0, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(0, 1, 0, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(7, 1, 0, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 0, bytes(249))], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 0, bytes(251))], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 1, bytes(1))], WireCode.RECORD_MALFORMED),
        ([plain(3, 0, 250, bytes(250))], WireCode.RECORD_MALFORMED),
        ([plain(3, 0, ROOM, bytes(ROOM)), plain(4, 1, 0, bytes(22526))], WireCode.RECORD_MALFORMED),
        ([plain(3, 0, ROOM - 1, bytes(ROOM)), plain(3, 1, 2, bytes(32768))], WireCode.RECORD_MALFORMED),
        ([plain(3, 0, ROOM, bytes(ROOM)), plain(3, 1, 0, b"")], WireCode.RECORD_MALFORMED),
        ([plain(3, 1, 0, b"")], WireCode.RECORD_MALFORMED),
    ],
    ids=[
        "padding that is not zero at its end",
        "padding that is not zero at its start",
        "more content than the record holds",
        "an unknown flag",
        "an unknown flag beside the known one",
        "type zero",
        "an unknown type",
        "too little padding",
        "too much padding",
        "no padding",
        "a short record that does not end its message",
        "a type that changes within a message",
        "content after padding",
        "an empty record that only ends the message",
        "a header alone",
    ],
)
def test_an_authentic_record_of_another_form_is_refused(plaintexts, code):
    assert refusal(read, forge(*plaintexts)) is code


def test_a_message_above_the_receivers_bound_is_refused_before_it_is_decrypted():
    reader = RecordReader(KEY, 1000)
    assert refusal(reader.open, bytes(padded_room(1000) + 6 + 16 + 1)) is WireCode.MESSAGE_TOO_LARGE
    assert not reader._message
    assert refusal(read, sealed(bytes(1001)), 1000) is WireCode.MESSAGE_TOO_LARGE
    assert len(read(sealed(bytes(1000)), 1000).content) == 1000


def test_a_long_message_is_refused_at_the_record_that_passes_the_bound():
    reader = RecordReader(KEY, ROOM + 5)
    first, second, *_ = sealed(bytes(3 * ROOM))
    assert reader.open(first) is None
    assert refusal(reader.open, second) is WireCode.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("size", [0, 15, 21])
def test_a_record_without_room_for_header_and_tag_is_refused(size):
    assert refusal(RecordReader(KEY).open, bytes(size)) is WireCode.RECORD_REFUSED


@pytest.mark.parametrize("times", [1, 2, 3, 1 << 40])
def test_keys_change_every_65536_records_and_the_counter_goes_on(times):
    writer, reader = RecordWriter(KEY), RecordReader(KEY)
    writer.counter = reader.counter = times * REKEY_INTERVAL - 1
    before = writer._aead, reader._aead
    assert reader.open(writer.seal(REQUEST, b"last")[0][4:]).content == b"last"
    assert (writer._aead, reader._aead) == before
    assert reader.open(writer.seal(REQUEST, b"first")[0][4:]).content == b"first"
    assert writer._aead is not before[0]
    assert reader._aead is not before[1]
    assert writer.counter == reader.counter == times * REKEY_INTERVAL + 1


def test_a_message_across_the_change_of_keys_arrives_whole():
    writer, reader = RecordWriter(KEY), RecordReader(KEY)
    writer.counter = reader.counter = REKEY_INTERVAL - 1
    first, second = writer.seal(REQUEST, b"z" * (ROOM + 9))
    assert reader.open(first[4:]) is None
    assert reader.open(second[4:]).content == b"z" * (ROOM + 9)


def test_the_reserved_nonce_ends_a_direction():
    writer = RecordWriter(KEY)
    writer.counter = MAX_NONCE
    assert refusal(writer.seal, REQUEST, b"") is WireCode.RECORD_REFUSED


def test_a_dropped_direction_does_nothing_any_more():
    writer = RecordWriter(KEY)
    writer.drop()
    assert refusal(writer.seal, REQUEST, b"") is WireCode.SESSION_STATE


@given(st.binary(max_size=600))
def test_any_ciphertext_is_refused(data):
    code = refusal(RecordReader(KEY).open, data)
    assert code is WireCode.RECORD_REFUSED


@given(st.lists(st.binary(min_size=6, max_size=400), max_size=3), st.integers(0, 6), st.integers(0, 1))
def test_any_authentic_plaintext_is_a_message_or_refused(bodies, kind, flags):
    plaintexts = [bytes((kind, flags)) + body[2:] for body in bodies]
    result = outcome(read, forge(*plaintexts), 300)
    assert result is None or result in {WireCode.RECORD_MALFORMED, WireCode.MESSAGE_TOO_LARGE, WireCode.SESSION_STATE}


def test_every_bit_of_a_record_is_authenticated():
    (ciphertext,) = sealed(b"one request")
    for bit in range(len(ciphertext) * 8):
        changed = bytearray(ciphertext)
        changed[bit // 8] ^= 1 << bit % 8
        assert refusal(RecordReader(KEY).open, changed) is WireCode.RECORD_REFUSED


def test_a_full_record_fits_the_bound_of_the_stream():
    assert max(map(len, sealed(bytes(3 * ROOM)))) == records.RECORD_BOUNDS.high == MAX_PLAINTEXT + 16
