"""Repeat, and keep medians and 99th percentiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


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
    times.sort()
    return Times(statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))], len(times))
