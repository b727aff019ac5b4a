"""Telemetry of the enclave: counts under the allow-list of `manifests.telemetry`, told in coarse windows of time.

What is counted within a window is told when the window is over, and stays the same until the next: whoever watches
cannot put a count to a request.  Codes are members of our own tables; anything else could not be counted.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from manifests.errors import ErrorCode
from manifests.telemetry import BY_NAME, MAX_LABELS, SECONDS, Kind, Label


class Metrics:
    """The counts of one process; thread-safe.  A name that is not on the allow-list is a defect: KeyError."""

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at zero; `window` in seconds, 0 to tell everything at once."""
        self._window = window
        self._clock = clock
        self._due = clock()
        self._told: dict[str, Any] = {}
        self._counts: dict[str, dict[str, int]] = {m.name: {} for m in BY_NAME.values() if m.label is not None}
        self._buckets = {m.name: [0] * (len(SECONDS) + 1) for m in BY_NAME.values() if m.kind is Kind.HISTOGRAM}
        self._lock = threading.Lock()

    def count_code(self, name: str, code: ErrorCode) -> None:
        """Count one event under its code."""
        self._add(name, Label.CODE, str(code))

    def count_model(self, name: str, digest: bytes) -> None:
        """Count one event under a model's digest."""
        self._add(name, Label.MODEL, digest.hex()[:16])

    def observe(self, name: str, seconds: float) -> None:
        """Count a time in its bucket; the time itself is not kept."""
        with self._lock:
            self._buckets[name][bisect.bisect_left(SECONDS, seconds)] += 1

    def _add(self, name: str, kind: Label, label: str) -> None:
        if BY_NAME[name].label is not kind:
            raise KeyError(name)
        with self._lock:
            counts = self._counts[name]
            if label in counts or len(counts) < MAX_LABELS:
                counts[label] = counts.get(label, 0) + 1

    def export(self, present: Callable[[], Mapping[str, int]]) -> dict[str, Any]:
        """Return what may leave: the values at the end of the last window.

        present: gives the single values by name, and is asked where a window is over.
        """
        with self._lock:
            now = self._clock()
            if now >= self._due:
                self._due = now + self._window
                self._told = self._snapshot(present())
            return self._told

    def _snapshot(self, present: Mapping[str, int]) -> dict[str, Any]:
        plain = [m.name for m in BY_NAME.values() if m.label is None and m.kind is not Kind.HISTOGRAM]
        single = {name: int(present[name]) for name in plain}
        labelled = {name: dict(sorted(counts.items())) for name, counts in self._counts.items()}
        return {**single, **labelled, **{name: list(buckets) for name, buckets in self._buckets.items()}}
