"""The stream to the host when it ends, breaks, or carries something else."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from attestation.wire.frames import Frame
from enclave.channel import Channel
from enclave.errors import EnclaveCode, EnclaveError


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Channel(ours), theirs
    ours.close()
    theirs.close()


def test_a_stream_that_the_host_closes_is_broken_for_reading(pair: tuple[Channel, socket.socket]) -> None:
    channel, host = pair
    host.close()
    with pytest.raises(EnclaveError) as refusal:
        channel.read()
    assert refusal.value.code is EnclaveCode.HOST_STREAM


def test_bytes_that_are_no_frames_break_the_stream(pair: tuple[Channel, socket.socket]) -> None:
    channel, host = pair
    host.sendall(b"\xff" * 64)
    with pytest.raises(EnclaveError) as refusal:
        channel.read()
    assert refusal.value.code is EnclaveCode.HOST_STREAM


def test_nobody_can_be_sent_to_who_has_gone(pair: tuple[Channel, socket.socket]) -> None:
    channel, host = pair
    host.close()
    with pytest.raises(EnclaveError) as refusal:
        channel.send([Frame("!ready", 0, b"")])
    assert refusal.value.code is EnclaveCode.HOST_STREAM
