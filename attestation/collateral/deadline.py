"""An end to waiting: sockets that are shut down when their time is up, however slowly a peer drips.

A socket's own timeout begins anew with every byte, so that a peer which sends one byte a second holds on for ever.  The
system's resolver has no timeout that a program could set at all: names are looked up in a thread, which is left behind
when the time is up.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class Deadline:
    """Shuts down all sockets that it has connected, `seconds` after it was entered; looks names up within that time."""

    def __init__(self, seconds: float) -> None:
        """Count from `__enter__`; `seconds` may be no more than zero."""
        self.seconds = max(seconds, 0.001)
        self._end = 0.0
        self._handles: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(self.seconds, self._shut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        """Begin to count."""
        self._end = time.monotonic() + self.seconds
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count no more."""
        self._timer.cancel()
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    @property
    def left(self) -> float:
        """Seconds that are left, a thousandth at least: none at all would mean to wait for ever."""
        return max(self._end - time.monotonic(), 0.001)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def check(self) -> None:
        """Raise TimeoutError if the time is up."""
        if self.passed:
            raise TimeoutError("the time is up")

    def connect(
        self, address: tuple[str, int], timeout: float | None = None, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        """Connect as `socket.create_connection` does, and remember the socket; raises OSError, or UnicodeError."""
        end = time.monotonic() + (timeout if isinstance(timeout, int | float) else self.left)
        failed: OSError = OSError(f"{address[0]} has no address")
        for place in look_up(*address, self.left):
            try:
                connected = _connected(place, min(max(end - time.monotonic(), 0.001), self.left), source_address)
            except OSError as error:
                failed = error
                continue
            with self._lock:
                self._handles.append(connected.dup())  # a handle of our own: TLS wraps and replaces the other
            return connected
        raise failed

    def _shut(self) -> None:
        with self._lock:
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)


Place = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""One answer of the resolver, as socket.getaddrinfo has it."""


def look_up(host: str, port: int, seconds: float) -> Sequence[Place]:
    """Return the addresses of a name within `seconds`; raises TimeoutError, or what socket.getaddrinfo does.

    The thread of a lookup that takes longer ends when the system's resolver gives up, and keeps no program alive: an
    attempt leaves one behind at most, since it ends with its lookup.
    """
    answers: queue.SimpleQueue[Sequence[Place] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            answers.put(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the address of {host} was not found in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _connected(place: Place, seconds: float, source_address: tuple[str, int] | None) -> socket.socket:
    family, kind, protocol, _, address = place
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.settimeout(seconds)
        if source_address is not None:
            connecting.bind(source_address)
        connecting.connect(address)
    except BaseException:
        connecting.close()
        raise
    return connecting
