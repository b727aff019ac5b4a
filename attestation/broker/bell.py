"""Waiting for time to pass, for a peer to end a session, or to be rung: whatever comes first."""

from __future__ import annotations

import contextlib
import os
import select
from enum import Enum
from typing import Protocol


class HasDescriptor(Protocol):
    """Anything with a descriptor to wait on."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Woken(Enum):
    """Why a wait ended; being rung comes before the peer."""

    TIME = "time"
    RUNG = "rung"
    PEER = "peer"


class Bell:
    """One thread waits, any thread and any signal handler rings.  A ring before the wait is not lost."""

    def __init__(self) -> None:
        """Make the bell's descriptor."""
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def ring(self) -> None:
        """Wake the thread that waits, or that waits next."""
        with contextlib.suppress(BlockingIOError):  # rung 2**64 times already
            os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float, peer: HasDescriptor | None = None) -> Woken:
        """Wait at most so long; with a peer, also until it can be read from or has hung up."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if peer is not None:
            poll.register(peer.fileno(), select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self._descriptor in ready:
            os.eventfd_read(self._descriptor)
            return Woken.RUNG
        return Woken.PEER if ready else Woken.TIME
