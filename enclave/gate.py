"""How many requests of one model run at once, and who is next: turns are shared fairly between clients.

A request that finds no turn free waits, and its session is parked: no thread waits with it.  Where too many wait
already it is refused, with a time after which fewer will.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from enclave.errors import EnclaveCode, EnclaveError
from enclave.fair import FairQueue

MAX_WAITING = 256
"""Requests that wait for one model: as many as there are sessions, where nothing else is set."""
LEAST_RETRY, MOST_RETRY = 0.25, 64.0
"""Seconds; a hint is one of nine powers of two, so it tells little of what others do."""


def crowded(seconds: float) -> EnclaveError:
    """Return the refusal of a request that would wait so long."""
    coarse = 2.0 ** math.ceil(math.log2(min(max(seconds, LEAST_RETRY), MOST_RETRY)))
    return EnclaveError(EnclaveCode.BUSY, "too many requests wait to be served", retry_after=coarse)


class Turn:
    """One request's turn at a model: asked for, taken, and ended, in this order or ended before.  Ends only once."""

    def __init__(self, gate: Gate, key: bytes) -> None:
        """Belongs to `Gate.turn`."""
        self._gate = gate
        self.key = key
        self.began = 0.0
        self.granted: Callable[[], None] | None = None
        self.over = False

    def take(self) -> bool:
        """Take the turn at once, if there is one and nobody is before it."""
        return self._gate.take(self)

    def wait(self, granted: Callable[[], None]) -> None:
        """Have `granted` called, from any thread, when the turn has come; raises EnclaveError `enclave-busy`."""
        self._gate.wait(self, granted)

    def end(self) -> None:
        """Give the turn to the next, or stop waiting for it."""
        self._gate.end(self)


class Gate:
    """The turns of one model; thread-safe."""

    def __init__(self, limit: int, client_limit: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Admit `limit` requests at once, `client_limit` of one client; 0 for any number.  `clock` gives seconds."""
        self._clock = clock
        self._limit = limit
        self._queue: FairQueue[Turn] = FairQueue(client_limit)
        self._running = 0
        self._lock = threading.Lock()

    def turn(self, key: bytes) -> Turn:
        """Return a turn that a client may ask for."""
        return Turn(self, key)

    def take(self, turn: Turn) -> bool:
        """Belongs to `Turn.take`."""
        with self._lock:
            if len(self._queue):
                return False
            self._queue.push(turn.key, turn)
            if self._next() is turn:
                return True
            self._queue.remove(turn.key, turn)
            return False

    def wait(self, turn: Turn, granted: Callable[[], None]) -> None:
        """Belongs to `Turn.wait`."""
        with self._lock:
            if len(self._queue) >= MAX_WAITING:
                turn.over = True
                raise crowded(self._queue.wait_seconds(turn.key, self._limit or 1))
            turn.granted = granted
            self._queue.push(turn.key, turn)
            come = self._next()
        _call(come)

    def end(self, turn: Turn) -> None:
        """Belongs to `Turn.end`."""
        with self._lock:
            if turn.over:
                return
            turn.over = True
            if self._queue.remove(turn.key, turn) or not turn.began:
                return
            self._running -= 1
            self._queue.charge(turn.key, self._clock() - turn.began)
            self._queue.done(turn.key)
            come = self._next()
        _call(come)

    def _next(self) -> Turn | None:
        """Give a free turn to whoever is next."""
        if self._limit and self._running >= self._limit:
            return None
        taken = self._queue.pop()
        if taken is None:
            return None
        self._running += 1
        taken[1].began = self._clock()
        return taken[1]


def _call(turn: Turn | None) -> None:
    if turn is not None and turn.granted is not None:
        turn.granted()
