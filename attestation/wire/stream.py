"""Cut a byte stream at its u32 length prefixes, whatever pieces it arrives in.

Frames, hellos and records all start with a big-endian u32 that counts the bytes after it.  The bound is checked
when the four bytes are known, before anything is kept for the item; memory then grows only with bytes that came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from attestation.errors import WireCode, WireError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes."""

PREFIX_SIZE = 4


class Bounds(NamedTuple):
    """The lengths that the next item may have, and the code under which any other is refused."""

    low: int
    high: int
    code: WireCode


class PrefixedStream:
    """Turns pieces of a stream into the items between its length prefixes.

    `bounds` may change between two items.  An item that arrives in one piece is not copied if that piece is
    `bytes`.  Raises WireError under the code of the bounds, and nothing else.
    """

    def __init__(self, bounds: Bounds) -> None:
        """Start at the beginning of a stream."""
        self.bounds = bounds
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of an item that has not arrived completely."""
        return len(self._held)

    def clear(self) -> None:
        """Forget what is held."""
        self._held = bytearray()

    def items(self, data: Buffer) -> Iterator[memoryview]:
        """Yield each item that `data` completes, without its prefix; keep the rest for the next call."""
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        position = 0
        if self._held:
            position = self._fill(view)
            if position < 0:
                return
            held, self._held = self._held, bytearray()
            yield memoryview(held)[PREFIX_SIZE:]
        while len(view) - position >= PREFIX_SIZE:
            end = position + PREFIX_SIZE + self._length(view[position : position + PREFIX_SIZE])
            if end > len(view):
                break
            yield view[position + PREFIX_SIZE : end]
            position = end
        self._held += view[position:]

    def _fill(self, view: memoryview) -> int:
        """Complete the held item; return how many bytes of `view` it took, or -1 if it needs more than all."""
        position = max(0, min(len(view), PREFIX_SIZE - len(self._held)))
        self._held += view[:position]
        if len(self._held) < PREFIX_SIZE:
            return -1
        missing = PREFIX_SIZE + self._length(self._held[:PREFIX_SIZE]) - len(self._held)
        self._held += view[position : position + missing]
        return position + missing if position + missing <= len(view) else -1

    def _length(self, prefix: Buffer) -> int:
        length = int.from_bytes(prefix, "big")
        low, high, code = self.bounds
        if not low <= length <= high:
            self.clear()
            raise WireError(code, "a length on the wire is out of bounds", expected=f"{low} to {high}", found=length)
        return length
