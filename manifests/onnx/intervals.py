"""Arithmetic on intervals of integers: what a shape that a graph computes can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from manifests.onnx.values import MAX_CONTENT, Content, Interval, Value, range_of, with_content, with_span

Pair = Callable[[Interval, Interval], Interval | None]


def _corners(function: Callable[[Any, Any], Any]) -> Pair:
    """Make a rule of a function that is monotone in each argument, where its sign stays the same."""

    def apply(a: Interval, b: Interval) -> Interval | None:
        found = [function(x, y) for x in a for y in b]
        return min(found), max(found)

    return apply


def _quotient(a: Any, b: Any) -> Any:
    """Divide as ONNX does: integers towards zero."""
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _divide(a: Interval, b: Interval) -> Interval | None:
    if b[0] <= 0 <= b[1]:
        if isinstance(b[0], float) or isinstance(a[0], float):
            return None
        most = max(abs(a[0]), abs(a[1]))  # integers: the divisor is -1 or 1 at the least, or the request fails
        return -most, most
    found = [_quotient(x, y) for x in a for y in b]
    return min(found), max(found)


def _remainder(a: Interval, b: Interval) -> Interval | None:
    if isinstance(a[0], float) or isinstance(b[0], float):
        return None
    most = max(abs(b[0]), abs(b[1])) - 1
    if b[0] > 0:
        return (0, most) if a[0] < 0 or a[1] > most else (min(a[0], most), a[1])
    return -most - 1, most + 1


def _power(a: Interval, b: Interval) -> Interval | None:
    if a[0] < 0 or b[0] < 0 or b[1] > 64 or max(map(abs, a)) > 1 << 64:
        return None
    return a[0] ** b[0], a[1] ** b[1]


_PAIRS: dict[str, Pair] = {
    "Add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sum": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "Mul": _corners(lambda x, y: x * y),
    "Div": _divide,
    "Mod": _remainder,
    "Pow": _power,
    "Min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "Max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "And": lambda a, b: (int(a[0] and b[0]), int(a[1] and b[1])),
    "Or": lambda a, b: (int(a[0] or b[0]), int(a[1] or b[1])),
    "Equal": lambda a, b: (int(a[0] == a[1] == b[0] == b[1]), int(a[0] <= b[1] and b[0] <= a[1])),
    "Less": lambda a, b: (int(a[1] < b[0]), int(a[0] < b[1])),
    "Greater": lambda a, b: (int(a[0] > b[1]), int(a[1] > b[0])),
    "LessOrEqual": lambda a, b: (int(a[1] <= b[0]), int(a[0] <= b[1])),
    "GreaterOrEqual": lambda a, b: (int(a[0] >= b[1]), int(a[1] >= b[0])),
}
_SINGLES: dict[str, Callable[[Interval], Interval | None]] = {
    "Neg": lambda a: (-a[1], -a[0]),
    "Abs": lambda a: (max(0, a[0], -a[1]), max(abs(a[0]), abs(a[1]))),
    "Relu": lambda a: (max(0, a[0]), max(0, a[1])),
    "Not": lambda a: (int(not a[1]), int(not a[0])),
    "Sign": lambda a: ((a[0] > 0) - (a[0] < 0), (a[1] > 0) - (a[1] < 0)),
    "Floor": lambda a: (_whole(math.floor, a[0]), _whole(math.floor, a[1])),
    "Ceil": lambda a: (_whole(math.ceil, a[0]), _whole(math.ceil, a[1])),
    "Round": lambda a: (_whole(round, a[0]), _whole(round, a[1])),
    "Sqrt": lambda a: (math.sqrt(a[0]), math.sqrt(a[1])) if a[0] >= 0 else None,
    "Identity": lambda a: a,
}


def _whole(function: Callable[[float], int], number: Any) -> Any:
    """Apply a rounding to a number of any kind, keeping its kind."""
    return float(function(number)) if isinstance(number, float) and math.isfinite(number) else number


def pair(name: str, out: Value, a: Value, b: Value) -> Value:
    """Return `out` with the numbers that a binary operator makes of those of `a` and `b`."""
    function = _PAIRS.get(name)
    if function is None:
        return out
    if a.content is not None and b.content is not None:
        return with_content(out, _each(function, a.content, b.content))
    first, second = range_of(a), range_of(b)
    return out if first is None or second is None else with_span(out, _guarded(function, first, second))


def single(name: str, out: Value, a: Value) -> Value:
    """Return `out` with the numbers that a unary operator makes of those of `a`."""
    function = _SINGLES.get(name)
    if function is None:
        return out
    if a.content is not None:
        return with_content(out, _each(lambda x, _: function(x), a.content, a.content))
    return out if a.span is None else with_span(out, _guarded(lambda x, _: function(x), a.span, a.span))


def _each(function: Pair, a: Content, b: Content) -> Content | None:
    """Apply a rule to each element, after broadcasting."""
    try:
        arrays = np.broadcast_arrays(a.low, a.high, b.low, b.high)
    except ValueError:
        return None
    shape = arrays[0].shape
    if arrays[0].size > MAX_CONTENT:
        return None
    rows = zip(*(array.ravel().tolist() for array in arrays), strict=True)
    pairs = [_guarded(function, (p, q), (r, s)) for p, q, r, s in rows]
    if any(item is None for item in pairs):
        return None
    low, high = (np.array([None, *(item[end] for item in pairs if item)], object)[1:] for end in (0, 1))
    return Content(low.reshape(shape), high.reshape(shape))


def _guarded(function: Pair, a: Interval, b: Interval) -> Interval | None:
    """Apply a rule; None where floats have no answer, and where numbers grow beyond any use."""
    try:
        found = function(a, b)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    if found is None or any(isinstance(end, float) and math.isnan(end) for end in found):
        return None
    return None if any(isinstance(end, int) and abs(end) >> 128 for end in found) else found
