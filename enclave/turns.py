"""Whose turn it is: threads sleep in the kernel until the host's stream has bytes or a session is ready.

The stream is armed for one thread at a time (EPOLLONESHOT): whoever is woken reads and decodes, arms it again, and goes
on to serve what it read.  Nobody is woken to take its place unless more bytes are there.  A pipe stands for sessions
that became ready elsewhere; each byte in it wakes one thread.
"""

from __future__ import annotations

import contextlib
import os
import select

_ONE = select.EPOLLIN | select.EPOLLONESHOT
_MANY = 4096
"""More wakes than there are threads are never of use, and the pipe holds as many."""


class Turns:
    """Wakes one of the waiting threads for each reason to; thread-safe."""

    def __init__(self, stream: int) -> None:
        """Watch a stream's descriptor, which stays the caller's."""
        self._stream = stream
        self._epoll = select.epoll()
        self._pipe, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._stream, _ONE)
        self._epoll.register(self._pipe, select.EPOLLIN)

    def wait(self) -> bool:
        """Sleep until it is this thread's turn; True means that the stream is this thread's until `rearm`."""
        ((descriptor, _),) = self._epoll.poll(maxevents=1)
        if descriptor == self._stream:
            return True
        with contextlib.suppress(BlockingIOError):  # another thread was quicker
            os.read(self._pipe, 1)
        return False

    def glance(self) -> bool:
        """Take the stream as `wait` does if bytes are there, without waiting; wakes of others stay theirs."""
        return any(descriptor == self._stream for descriptor, _ in self._epoll.poll(timeout=0, maxevents=2))

    def rearm(self) -> None:
        """Let the next bytes of the stream wake a thread."""
        self._epoll.modify(self._stream, _ONE)

    def wake(self, count: int) -> None:
        """Wake as many threads for sessions that are ready."""
        if count > 0:
            with contextlib.suppress(BlockingIOError):  # full: enough wakes are under way
                os.write(self._bell, bytes(min(count, _MANY)))

    def close(self) -> None:
        """Release the descriptors; no thread may be waiting."""
        self._epoll.close()
        os.close(self._pipe)
        os.close(self._bell)
