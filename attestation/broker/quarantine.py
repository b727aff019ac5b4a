"""Models that got an enclave stuck: kept from all enclaves for a while, each time twice as long.

An enclave process in which a run cannot be stopped is lost with all that it holds.  A model that does this again and
again would cost its owner one process after the other, and the other models' clients their sessions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FIRST_SECONDS = 300.0
LAST_SECONDS = 6 * 3600.0


class Quarantine:
    """Which models are released to nobody, and until when; in memory alone, so a restart forgives.  Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `clock` gives seconds and only goes forward."""
        self._clock = clock
        self._until: dict[bytes, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def add(self, digest: bytes) -> float:
        """Keep a model back from now on; returns for how many seconds."""
        with self._lock:
            seconds = min(max(2 * self._until.get(digest, (0.0, 0.0))[1], FIRST_SECONDS), LAST_SECONDS)
            self._until[digest] = (self._clock() + seconds, seconds)
            return seconds

    def holds(self, digest: bytes) -> bool:
        """Tell whether a model is kept back at this moment."""
        with self._lock:
            return self._until.get(digest, (0.0, 0.0))[0] > self._clock()
