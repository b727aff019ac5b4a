"""Small shared objects, built byte by byte, in the place of Gramine's libpal.so."""

from __future__ import annotations

import struct
from collections.abc import Sequence

CODE, DATA = 0x5, 0x6
"""Flags of a segment that is read and executed, and of one that is read and written."""

Load = tuple[int, int, int, int, int]
"""A PT_LOAD header: offset, address, bytes in the file, bytes in memory, flags."""

LOADS: tuple[Load, ...] = (
    (0x0, 0x0, 0x1800, 0x1800, CODE),
    (0x1880, 0x3880, 0x700, 0x2000, DATA),
)
"""A text of two pages; a gap of a page; data that begin and end inside pages, with zeros behind (.bss)."""


def build(
    loads: Sequence[Load] = LOADS,
    *,
    entry: int = 0x1234,
    size: int = 0x2000,
    kind: int = 3,
    machine: int = 62,
    identity: bytes = b"\x7fELF\x02\x01\x01",
    header_size: int = 56,
    count: int | None = None,
) -> bytes:
    """Return an object with these segments, its other bytes a pattern that differs from place to place."""
    number = len(loads) + 1 if count is None else count
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", identity, kind, machine, 1, entry, 64, 0, 0, 64, header_size, number, 0, 0, 0
    )
    note = struct.pack("<IIQQQQQQ", 4, 4, 0x400, 0x400, 0x400, 16, 16, 4)  # PT_NOTE: not loaded
    table = note + b"".join(
        struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, in_file, in_memory, 0x1000)
        for offset, address, in_file, in_memory, flags in loads
    )
    begin = head + table
    return begin + bytes((7 * at + at // 256) % 251 for at in range(len(begin), size))
