"""An end to waiting: sockets that are shut down when their time is up, however slowly a peer drips.

A socket's own timeout begins anew with every byte, so that a peer which sends one byte a second holds on for ever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Deadline:
    """Shuts down every socket that it has connected, `seconds` after it was entered.

    Looking names up is not covered: the system's resolver has limits of its own.
    """

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
        """Connect as `socket.create_connection` does, and remember the socket; raises OSError."""
        wait = self.left if not isinstance(timeout, int | float) else min(timeout, self.left)
        connected = socket.create_connection(address, wait, source_address)
        with self._lock:
            self._handles.append(connected.dup())  # a handle of our own: TLS wraps and replaces the other
        return connected

    def _shut(self) -> None:
        with self._lock:
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
