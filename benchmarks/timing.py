"""Repeat, and keep medians and 99th percentiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

BLOCK = 20
"""Calls of one turn."""


@dataclass(frozen=True)
class Times:
    """Seconds of one call over many."""

    median: float
    p99: float
    runs: int


def repeat(call: Callable[[], object], *, seconds: float = 2.0, least: int = 5, warm_up: int = 3) -> Times:
    """Call until `seconds` have passed, at least `least` times, after a warm-up that does not count."""
    for _ in range(warm_up):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return _summary(times)


def repeat_in_turn(
    *calls: Callable[[], object], seconds: float = 6.0, warm_up: int = 20, most: int = 10**9
) -> list[Times]:
    """Measure several calls against each other: in turn, so that what disturbs the machine disturbs all alike.

    A turn is a block of calls, each timed by itself: who verifies one piece verifies the next, with the processor's
    caches as its own work has left them.  Each is called at most `most` times, those of the warm-up among them.
    """
    for call in calls:
        for _ in range(warm_up):
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and len(times[0]) + warm_up + BLOCK <= most:
        for call, kept in zip(calls, times, strict=True):
            for _ in range(BLOCK):
                start = time.perf_counter()
                call()
                kept.append(time.perf_counter() - start)
    return [_summary(kept) for kept in times]


def _summary(times: list[float]) -> Times:
    times.sort()
    return Times(statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))], len(times))
