"""A relay that stands where the host stands and plays an attack on what passes through it.

The relay cuts each session's bytes at their length prefixes, so that an attack sees hellos and records one by one,
as a host could: sealed, but whole.  `Attack` passes everything on; each attack overrides what it does otherwise.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Self

from attestation.errors import WireCode, WireError
from attestation.wire.address import UnixAddress, parse_address
from attestation.wire.frames import Frame, FrameDecoder, encode_frame
from attestation.wire.stream import Bounds, PrefixedStream

_ANY = Bounds(0, 1 << 24, WireCode.RECORD_MALFORMED)


class Attack:
    """Passes everything on and keeps a record of it.  Item 0 of each direction is the hello."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.received: list[bytes] = []

    def to_enclave(self, item: bytes, index: int) -> list[bytes]:
        """Return what the enclave gets instead of this item from the client."""
        return [item]

    def to_client(self, item: bytes, index: int) -> list[bytes]:
        """Return what the client gets instead of this item from the enclave."""
        return [item]

    def reply(self, item: bytes, index: int) -> list[bytes]:
        """Return what the client gets at once, because it sent this item."""
        return []


class _Direction:
    """One direction of one connection: frames in, attacked frames out."""

    def __init__(
        self,
        change: Callable[[bytes, int], list[bytes]],
        kept: list[bytes],
        reply: Callable[[bytes, int], list[bytes]] | None = None,
    ) -> None:
        self._decoder = FrameDecoder()
        self._streams: dict[int, PrefixedStream] = defaultdict(lambda: PrefixedStream(_ANY))
        self._count: dict[int, int] = defaultdict(int)
        self._change, self._kept, self._reply = change, kept, reply
        self.replies: list[Frame] = []

    def feed(self, data: bytes) -> list[Frame]:
        out: list[Frame] = []
        for frame in self._decoder.feed(data):
            if frame.route.startswith("!") or not frame.body:
                out.append(Frame(frame.route, frame.sid, bytes(frame.body)))
                continue
            for item in self._streams[frame.sid].items(frame.body):
                whole = len(item).to_bytes(4, "big") + bytes(item)
                self._kept.append(whole)
                index = self._count[frame.sid]
                self._count[frame.sid] += 1
                out += [Frame(frame.route, frame.sid, piece) for piece in self._change(whole, index)]
                if self._reply is not None:
                    self.replies += [Frame(frame.route, frame.sid, piece) for piece in self._reply(whole, index)]
        return out


class HostileRelay:
    """Listens on a Unix socket of its own and dials the real host for every connection."""

    def __init__(self, upstream: str, attack: Attack) -> None:
        self.attack = attack
        self._upstream = parse_address(upstream)
        self._folder = tempfile.TemporaryDirectory(prefix="hostile-")
        self.address = f"unix:{Path(self._folder.name) / 'host.sock'}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address.removeprefix("unix:"))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)
        self._folder.cleanup()

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _dial(self) -> socket.socket:
        if isinstance(self._upstream, UnixAddress):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self._upstream.path))
            return sock
        return socket.create_connection((self._upstream.host, self._upstream.port))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                enclave = self._dial()
                self._sockets += [client, enclave]
                attack = self.attack
                outward = _Direction(attack.to_enclave, attack.sent, attack.reply)
                inward = _Direction(attack.to_client, attack.received)
                self._start(self._pump, client, enclave, outward, client)
                self._start(self._pump, enclave, client, inward, None)

    def _pump(
        self, source: socket.socket, target: socket.socket, direction: _Direction, back: socket.socket | None
    ) -> None:
        with contextlib.suppress(OSError, WireError):
            while data := source.recv(1 << 20):
                for frame in direction.feed(data):
                    target.sendall(encode_frame(frame))
                while back is not None and direction.replies:
                    back.sendall(encode_frame(direction.replies.pop(0)))
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
