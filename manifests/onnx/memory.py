"""How many bytes are needed at once, in whichever order a runtime takes the nodes of a graph.

A value is in memory from its node on, until the last of those that take it has run.  It is certainly not there while a
node runs that comes before its own node in every order, nor while one runs that comes after all of its takers.  The
rest is counted: for every node the bytes of all values that may be there, in some order.  The greatest is the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_STEPS = 8192
"""Nodes beyond which the sum of all values is the bound: the comparison of all pairs would take too long."""
MOST_PAIRS = 1 << 28
"""Pairs of a node and an input of another beyond which it is so too: a quarter of a second, for 8,192 nodes of four
inputs each."""
_BLOCK = 256
_FEW = 12
"""Nodes up to which counting one by one is quicker than NumPy's start."""
_MOST_BYTES = 1 << 49
"""Where sizes are cut off, so that sums of them fit 63 bits: far beyond every limit."""


@dataclass
class Step:
    """One node: bytes of its outputs, bytes that it needs while it runs, whose outputs it takes (by position)."""

    size: int
    scratch: int
    takes: set[int] = field(default_factory=set)
    kept: bool = False
    """Whether an output of it is one of the graph's."""


def peak(steps: Sequence[Step]) -> int:
    """Return the most bytes that values and scratch take at once; steps come in an order in which they can run."""
    if not steps:
        return 0
    if len(steps) > MOST_STEPS or len(steps) * sum(len(step.takes) for step in steps) > MOST_PAIRS:
        return sum(step.size for step in steps) + max(step.scratch for step in steps)
    before = _closure(steps)
    takers: list[list[int]] = [[] for _ in steps]
    for at, step in enumerate(steps):
        for earlier in step.takes:
            takers[earlier].append(at)
    after = _reverse(takers)
    if len(steps) <= _FEW:
        return max(_at(at, steps, before, takers) for at in range(len(steps)))
    sizes = np.array([min(step.size, _MOST_BYTES) for step in steps], np.int64)
    scratch = np.array([min(step.scratch, _MOST_BYTES) for step in steps], np.int64)
    order = _Order(before, after, takers, [at for at, step in enumerate(steps) if step.kept])
    blocks = [range(start, min(start + _BLOCK, len(steps))) for start in range(0, len(steps), _BLOCK)]
    found = [_block(rows, order, sizes) for rows in blocks]
    return int((np.concatenate(found) + scratch).max())


def _at(now: int, steps: Sequence[Step], before: list[int], takers: list[list[int]]) -> int:
    """Return the bytes of all that may be in memory while one step runs."""
    total = steps[now].scratch
    for at, step in enumerate(steps):
        later = before[at] >> now & 1
        over = not step.kept and all(before[now] >> taker & 1 for taker in takers[at])
        total += step.size if at == now or not (later or over) else 0
    return total


def _closure(steps: Sequence[Step]) -> list[int]:
    """Return for each step the set, as bits, of all that come before it in every order."""
    found: list[int] = []
    for step in steps:
        bits = 0
        for earlier in step.takes:
            bits |= found[earlier] | 1 << earlier
        found.append(bits)
    return found


def _reverse(takers: list[list[int]]) -> list[int]:
    """Return for each step the set, as bits, of all that come after it in every order."""
    found = [0] * len(takers)
    for at in range(len(takers) - 1, -1, -1):
        for later in takers[at]:
            found[at] |= found[later] | 1 << later
    return found


def _rows(bits: list[int], rows: range, width: int) -> np.ndarray:
    size = (width + 7) // 8
    packed = b"".join(bits[row].to_bytes(size, "little") for row in rows)
    flat = np.frombuffer(packed, np.uint8).reshape(len(rows), size)
    return np.unpackbits(flat, axis=1, count=width, bitorder="little").astype(bool)


@dataclass(frozen=True)
class _Order:
    """What comes before and after each step in every order, who takes its outputs, and whose are kept."""

    before: list[int]
    after: list[int]
    takers: list[list[int]]
    kept: list[int]


def _block(rows: range, order: _Order, sizes: np.ndarray) -> np.ndarray:
    """Return for each of these steps the bytes of all values that may be in memory while it runs."""
    width, takers = len(sizes), order.takers
    done = _rows(order.before, rows, width)
    alive = np.zeros((len(rows), width), bool)
    taken = [at for at in range(width) if takers[at]]
    if taken:
        flat = [taker for at in taken for taker in takers[at]]
        starts = np.cumsum([0, *(len(takers[at]) for at in taken)])[:-1]
        alive[:, taken] = np.logical_or.reduceat(~done[:, flat], starts, axis=1)
    alive[:, order.kept] = True
    alive &= ~_rows(order.after, rows, width)
    alive[range(len(rows)), list(rows)] = True
    return np.asarray(alive @ sizes)
