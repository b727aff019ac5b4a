"""Frames on the host's side of the wire: one encoding for one meaning, bounded, incremental, total."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import WireCode, WireError
from attestation.wire import frames
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from tests.wire.kit import outcome, refusal

ROUTES = st.from_regex(r"!?[A-Za-z0-9._-]{1,63}", fullmatch=True)
FRAMES = st.builds(Frame, ROUTES, st.integers(0, frames.MAX_SID), st.binary(max_size=700))


def prefixed(item: bytes) -> bytes:
    return struct.pack(">I", len(item)) + item


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(1, 200), min_size=1))
def test_frames_survive_being_cut_anywhere(sent, cuts):
    stream = b"".join(encode_frame(frame) for frame in sent)
    decoder, received, position, turn = FrameDecoder(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        received += decoder.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert [Frame(f.route, f.sid, bytes(f.body)) for f in received] == sent
    assert decoder.held == 0


@given(FRAMES)
def test_a_frame_is_canonical_msgpack_behind_a_length(frame):
    encoded = encode_frame(frame)
    value = msgpack.unpackb(encoded[4:])
    assert value == {"v": 1, "route": frame.route, "sid": frame.sid, "body": frame.body}
    assert list(value) == sorted(value)
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4


@given(st.binary(max_size=300))
def test_any_bytes_give_frames_or_a_wire_error(data):
    for stream in (data, prefixed(data), prefixed(b"\x84\xa4body" + data)):
        decoded = outcome(FrameDecoder().feed, stream)
        if isinstance(decoded, WireCode):
            assert decoded in {WireCode.FRAME_MALFORMED, WireCode.FRAME_TOO_LARGE, WireCode.FRAME_VERSION}
        else:
            assert b"".join(encode_frame(frame) for frame in decoded) == stream[: sum(map(_size, decoded))]


def _size(frame: Frame) -> int:
    return len(encode_frame(frame))


def test_a_body_of_any_header_width_is_found():
    for size in (0, 255, 256, 65535, 65536, frames.MAX_BODY):
        (frame,) = FrameDecoder().feed(encode_frame(Frame("default", 7, bytes(size))))
        assert len(frame.body) == size


def test_a_whole_frame_in_bytes_is_not_copied():
    data = encode_frame(Frame("default", 1, b"x" * 1000))
    (frame,) = FrameDecoder().feed(data)
    assert isinstance(frame.body, memoryview)
    assert frame.body.obj is data


def test_a_caller_may_reuse_the_buffer_it_fed():
    data = bytearray(encode_frame(Frame("default", 1, b"kept")))
    (frame,) = FrameDecoder().feed(data)
    data[:] = bytes(len(data))
    assert bytes(frame.body) == b"kept"


def test_a_claimed_length_above_the_bound_is_refused_before_anything_is_held():
    decoder = FrameDecoder()
    with pytest.raises(WireError) as caught:
        decoder.feed(b"\xff\xff\xff\xff")
    assert caught.value.code is WireCode.FRAME_TOO_LARGE
    assert decoder.held == 0


def test_an_oversized_length_is_refused_also_when_its_four_bytes_arrive_one_by_one():
    decoder = FrameDecoder()
    assert decoder.feed(b"\x7f") == decoder.feed(b"\xff") == decoder.feed(b"\xff") == []
    with pytest.raises(WireError, match="out of bounds"):
        decoder.feed(b"\xff")


def test_a_decoder_that_failed_once_refuses_everything_that_follows():
    decoder = FrameDecoder()
    with pytest.raises(WireError):
        decoder.feed(prefixed(b"nonsense"))
    with pytest.raises(WireError) as caught:
        decoder.feed(encode_frame(Frame("default", 1, b"")))
    assert caught.value.code is WireCode.FRAME_MALFORMED


def test_a_body_above_its_bound_is_refused_by_both_sides():
    body = bytes(frames.MAX_BODY + 1)
    with pytest.raises(WireError) as caught:
        encode_frame(Frame("default", 1, body))
    assert caught.value.code is WireCode.FRAME_TOO_LARGE
    item = msgpack.packb({"body": body, "route": "d", "sid": 1, "v": 1})
    assert refusal(FrameDecoder().feed, prefixed(item)) is WireCode.FRAME_TOO_LARGE


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (msgpack.packb({"body": b"", "route": "d", "sid": 1, "v": 2}), WireCode.FRAME_VERSION),
        (msgpack.packb({"v": 1, "route": "d", "sid": 1, "body": b""}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "d", "sid": -1, "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "d", "sid": 1 << 63, "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "", "sid": 1, "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "a/b", "sid": 1, "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "r" * 65, "sid": 1, "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "d", "v": 1}), WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": "text", "route": "d", "sid": 1, "v": 1}), WireCode.FRAME_MALFORMED),
        (b"\x84\xa4body\xc5\x00\x01x\xa5route\xa1d\xa3sid\x01\xa1v\x01", WireCode.FRAME_MALFORMED),
        (b"\x84\xa4body\xc4\x09x", WireCode.FRAME_MALFORMED),
        (b"\x84\xa4body\xc4\x00" + bytes(200), WireCode.FRAME_MALFORMED),
        (b"\x84\xa4body", WireCode.FRAME_MALFORMED),
        (msgpack.packb({"body": b"", "route": "d", "sid": 1, "v": 1}) + b"\x00", WireCode.FRAME_MALFORMED),
    ],
)
def test_a_departure_from_the_format_is_refused(item, code):
    assert refusal(FrameDecoder().feed, prefixed(item)) is code


@pytest.mark.parametrize("frame", [Frame("a b", 1, b""), Frame("", 1, b""), Frame("d", -1, b""), Frame("!", 0, b"")])
def test_a_frame_out_of_bounds_is_never_sent(frame):
    with pytest.raises(WireError) as caught:
        encode_frame(frame)
    assert caught.value.code is WireCode.FRAME_MALFORMED


def test_an_error_of_the_host_is_read_back():
    frame = frames.error_frame(9, "host-full", "no room")
    assert (frame.route, frame.sid) == ("!error", 9)
    assert frames.parse_error(frame.body) == ("host-full", "no room")


@given(st.binary(max_size=80))
def test_any_error_body_is_read_or_refused(body):
    with pytest.raises(WireError) as caught:
        frames.parse_error(body)
    assert caught.value.code is WireCode.FRAME_MALFORMED
