"""A relay between client and host that keeps what passes: the host's own view of a session.

It can also misbehave: `alter` is given every frame and returns the frames to pass on instead.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from attestation.wire.address import UnixAddress, parse_address
from attestation.wire.frames import Frame, FrameDecoder, encode_frame

_CHUNK = 64 * 1024


class Direction(StrEnum):
    """Which way a frame went."""

    TO_ENCLAVE = "client → enclave"
    TO_CLIENT = "enclave → client"


@dataclass(frozen=True)
class Seen:
    """One frame that passed."""

    direction: Direction
    frame: Frame


Alter = Callable[[Seen], list[Frame]]


def pass_on(seen: Seen) -> list[Frame]:
    """Alter nothing."""
    return [seen.frame]


class Tap:
    """Listens on a Unix socket and relays each connection to `upstream`; a context manager."""

    def __init__(self, path: Path, upstream: str, *, alter: Alter = pass_on) -> None:
        """Listen at `path`; nothing is relayed before the context is entered."""
        self.address = f"unix:{path}"
        self.seen: list[Seen] = []
        self._upstream = upstream
        self._alter = alter
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def bytes_seen(self) -> bytes:
        """Return every body that passed, in order."""
        with self._lock:
            return b"".join(bytes(seen.frame.body) for seen in self.seen)

    def sizes(self) -> dict[Direction, int]:
        """Return how many bytes of sessions went each way."""
        with self._lock:
            return {way: sum(len(s.frame.body) for s in self.seen if s.direction is way) for way in Direction}

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                host = _connect(self._upstream)
                self._open += [client, host]
                for way, source, sink in ((Direction.TO_ENCLAVE, client, host), (Direction.TO_CLIENT, host, client)):
                    threading.Thread(target=self._relay, args=(way, source, sink), daemon=True).start()

    def _relay(self, way: Direction, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for frame in _frames(source):
                seen = Seen(way, frame)
                with self._lock:
                    self.seen.append(seen)
                for altered in self._alter(seen):
                    sink.sendall(encode_frame(altered))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _frames(source: socket.socket) -> Iterator[Frame]:
    decoder = FrameDecoder()
    while data := source.recv(_CHUNK):
        yield from decoder.feed(data)


def _connect(address: str) -> socket.socket:
    target = parse_address(address)
    if not isinstance(target, UnixAddress):
        return socket.create_connection((target.host, target.port))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(target.path)
    return sock


def hexdump(data: bytes, rows: int, width: int = 16) -> str:
    """Return the first rows of a classic dump: offset, bytes in hex, printable characters."""
    lines = []
    for start in range(0, min(len(data), rows * width), width):
        row = data[start : start + width]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<{width * 3}} {printable}")
    return "\n".join(lines)
