"""How many requests of one model run at once, and who is next: turns are shared fairly between clients.

A request that finds no turn free waits, and its session is parked: no thread waits with it.  Where too many wait
already it is refused, with a time after which fewer will.

A request that runs several models waits for a turn at each before it runs, and holds those that it has meanwhile.  All
requests ask the models in one order, so of those that wait for each other one holds the last turn it needs, and runs.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

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


class Turns:
    """One request's turns at several models, in the order that all requests ask them; ends only once."""

    def __init__(self, gates: Sequence[Gate], key: bytes) -> None:
        """Ask for a client's turn at each of these."""
        self._gates = gates
        self._turns = [gate.turn(key) for gate in gates]
        self._held = 0
        self._refusal: EnclaveError | None = None
        self.over = False

    @property
    def none(self) -> bool:
        """Whether no model bounds how many requests run at once."""
        return not self._gates

    def take(self) -> bool:
        """Take turns at once as far as they are free; tell whether all are held."""
        while self._held < len(self._turns):
            if not self._turns[self._held].take():
                return False
            self._held += 1
        return True

    def wait(self, granted: Callable[[], None]) -> None:
        """Have `granted` called, from any thread, when all are held or one is refused, which `check` raises then.

        Raises EnclaveError `enclave-busy`.
        """
        try:
            self._ask(granted)
        except EnclaveError:
            self.end()
            raise

    def check(self, gates: Iterable[Gate | None]) -> None:
        """Refuse a request that was refused a turn, or runs a model that it has no turn at.

        Raises EnclaveError `enclave-busy`: the model was replaced while the request waited.
        """
        if self._refusal is not None:
            raise self._refusal
        if any(gate is not None and gate not in self._gates for gate in gates):
            raise crowded(LEAST_RETRY)

    def end(self) -> None:
        """Give all turns to the next, or stop waiting for them; one that comes later is given on, too."""
        self.over = True
        for turn in self._turns:
            turn.end()

    def _ask(self, granted: Callable[[], None]) -> None:
        self._turns[self._held].wait(partial(self._came, granted))

    def _came(self, granted: Callable[[], None]) -> None:
        """Go on to the next turn; in a thread of whoever has ended its own, to whom nothing is raised."""
        self._held += 1
        try:
            if not self.take():
                self._ask(granted)
                return
        except EnclaveError as error:
            self._refusal = error
        granted()


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
            if turn.over or len(self._queue):
                return False
            self._queue.push(turn.key, turn)
            if self._next() is turn:
                return True
            self._queue.remove(turn.key, turn)
            return False

    def wait(self, turn: Turn, granted: Callable[[], None]) -> None:
        """Belongs to `Turn.wait`."""
        with self._lock:
            if turn.over:  # its session has gone meanwhile
                return
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
