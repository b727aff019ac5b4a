"""Exact binomial intervals (Clopper and Pearson, 1934), and tails of maxima."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion; (0, 1) without trials."""
    alpha = (1 - confidence) / 2
    if trials == 0:
        return 0.0, 1.0
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _at_most(hits - 1, trials, p) - alpha)
    high = 1.0 if hits == trials else _solve(lambda p: alpha - _at_most(hits, trials, p))
    return low, high


def _at_most(hits: int, trials: int, p: float) -> float:
    """Return P(X <= hits) for X binomial, 0 < p < 1."""
    base = math.lgamma(trials + 1)
    logs = (
        base - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(p) + (trials - k) * math.log1p(-p)
        for k in range(hits + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


def _solve(rising: Callable[[float], float]) -> float:
    """Return the root of a rising function between 0 and 1, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def upper_quantile(maxima: npt.NDArray[np.float64], rate: float) -> float:
    """Return what a share `rate` of sessions passes, from an exponential tail over the highest tenth of `maxima`."""
    threshold = float(np.quantile(maxima, 0.9))
    excess = maxima[maxima > threshold] - threshold
    mean = float(excess.mean()) if len(excess) else 0.0
    return threshold + mean * math.log(max(0.1 / rate, 1.0))
