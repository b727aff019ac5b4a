"""An enclave within the test's process that real clients reach over a Unix socket, with nothing but a pipe between.

Attesters are the test's to choose, which those of a process are not: it gets them from measured settings.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from attestation.wire.frames import FrameDecoder, encode_frame
from enclave.arena import Arena
from enclave.attesters.base import Attester, DeviceAttester
from enclave.channel import Channel
from enclave.server import Server
from enclave.service import Service
from manifests.gramine.settings import EnclaveSettings


@contextlib.contextmanager
def serving(path: Path, attester: Attester, devices: DeviceAttester | None = None) -> Iterator[str]:
    """Serve one client after the other at a socket, each by an enclave of its own start; gives the address."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=_accept, args=(listener, attester, devices))
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def _accept(listener: socket.socket, attester: Attester, devices: DeviceAttester | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                _serve(client, attester, devices)


def _serve(client: socket.socket, attester: Attester, devices: DeviceAttester | None) -> None:
    """Run an enclave until its one client has hung up."""
    inner, outer = socket.socketpair()
    channel = Channel(inner)
    server = Server(channel, Service(EnclaveSettings("first"), attester, channel, Arena(1 << 18), devices))
    threads = [
        threading.Thread(target=server.serve),
        threading.Thread(target=_pipe, args=(outer, client)),
    ]
    for thread in threads:
        thread.start()
    _pipe(client, outer)
    for thread in threads:
        thread.join(20)
    channel.close()
    outer.close()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    """Pass on frames of sessions, and none of those between enclave and host."""
    decoder = FrameDecoder()
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            for frame in decoder.feed(data):
                if not frame.route.startswith("!"):
                    target.sendall(encode_frame(frame))
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
