"""Single-bit flips: one bit, all bits, and draws by a seed for as long as a budget of time lasts."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from attestation.errors import EvidenceError
from attestation.layout import Layout

SECONDS = 20.0
"""For what `make test` draws of one TEE's collateral (or JSON text), over all its shares."""
SHARES = 2
"""Parts of a draw, so that processes can share it; each has bits and a budget of its own."""
FLOOR = 500
"""Bits that a share draws however slow or busy the machine is."""

Where = tuple[str, int]
"""Name of a part, and bit of it; bit 0 is the lowest of the first byte."""


@dataclass(frozen=True)
class Case:
    """What is flipped.

    parts: byte strings by name.  verify: takes a name and the bytes to put in that part's place, and raises
    EvidenceError where evidence no longer verifies.
    """

    parts: Mapping[str, bytes]
    verify: Callable[[str, bytes], object]

    @property
    def size(self) -> int:
        """Bits of all parts."""
        return sum(8 * len(data) for data in self.parts.values())

    def accepts(self, name: str, data: bytes) -> bool:
        """Whether it verifies with these bytes in the place of a part."""
        try:
            self.verify(name, data)
        except EvidenceError:
            return False
        return True

    def unnoticed(self, bits: Iterable[Where]) -> list[Where]:
        """Return those bits that can be flipped unnoticed."""
        return [(name, bit) for name, bit in bits if self.accepts(name, flip(self.parts[name], bit))]

    def everywhere(self) -> Iterator[Where]:
        """Every bit."""
        return ((name, bit) for name, data in self.parts.items() for bit in range(8 * len(data)))


def flip(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def unnoticed_draws(case: Case, seed: str, share: int, seconds: float = SECONDS / SHARES) -> list[Where]:
    """Return those of the bits drawn in one share that can be flipped unnoticed; asserts that the draw means something.

    Each part's bits come in an order that the seed shuffles, and the parts in turns, so that a signature of 64 bytes is
    flipped through beside a document of kilobytes.  The time decides how far it goes, never below FLOOR.
    """
    assert all(case.accepts(name, data) for name, data in case.parts.items())
    end = time.monotonic() + seconds
    orders = [_shuffled(name, len(data), seed)[share::SHARES] for name, data in case.parts.items()]
    turns = (where for turn in itertools.zip_longest(*orders) for where in turn if where is not None)
    found, count = [], 0
    for count, where in enumerate(turns, 1):
        found += case.unnoticed([where])
        if count >= FLOOR and time.monotonic() >= end:
            break
    assert count >= FLOOR, "there is too little to draw from: flip it all"
    return found


def _shuffled(name: str, size: int, seed: str) -> list[Where]:
    bits = [(name, bit) for bit in range(8 * size)]
    random.Random(f"{seed} {name}").shuffle(bits)
    return bits


def fields_at(layout: Layout, bits: Iterable[int]) -> set[str]:
    """Return the fields of a structure that these bits belong to."""
    names = [row.name for row in layout.rows for _ in range(row.size)]
    return {names[bit // 8] for bit in bits}
