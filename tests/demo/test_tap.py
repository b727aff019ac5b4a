from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from evaluation.demo.tap import Direction, Seen, Tap, hexdump


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[str]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "echo"))
    listener.listen()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            while data := sock.recv(4096):
                sock.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"unix:{tmp_path / 'echo'}"
    thread.join(5)
    listener.close()


def talk(address: str, frame: Frame, expected: int) -> list[Frame]:
    decoder, frames = FrameDecoder(), []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(address.removeprefix("unix:"))
        sock.sendall(encode_frame(frame))
        while len(frames) < expected:
            frames += decoder.feed(sock.recv(4096))
    return [Frame(frame.route, frame.sid, bytes(frame.body)) for frame in frames]


def test_a_tap_passes_frames_on_and_keeps_them(tmp_path: Path, echo: str):
    frame = Frame("default", 1, b"sealed bytes")
    with Tap(tmp_path / "tap", echo) as tap:
        assert talk(tap.address, frame, 1) == [frame]
        assert tap.bytes_seen() == b"sealed bytessealed bytes"
        assert tap.sizes() == {Direction.TO_ENCLAVE: 12, Direction.TO_CLIENT: 12}


def test_a_tap_can_repeat_what_the_enclave_said(tmp_path: Path, echo: str):
    def twice(seen: Seen) -> list[Frame]:
        return [seen.frame] * (2 if seen.direction is Direction.TO_CLIENT else 1)

    frame = Frame("default", 1, b"once")
    with Tap(tmp_path / "tap", echo, alter=twice) as tap:
        assert talk(tap.address, frame, 2) == [frame, frame]


def test_a_hexdump_shows_offset_bytes_and_text():
    assert hexdump(b"AB\x00", rows=4) == "000000  41 42 00                                         AB."
    assert len(hexdump(bytes(100), rows=2).splitlines()) == 2
