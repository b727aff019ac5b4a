"""The loadable segments of an x86-64 shared object: as much of ELF as the measurement of an enclave needs.

Source: System V ABI, "Object Files" (ELF header) and "Program Loading" (program headers), with its AMD64 supplement.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

from manifests.gramine.errors import GramineCode, GramineError

PAGE = 4096

MAX_LIBPAL = 64 * 1024 * 1024
"""Bytes of the file.  Gramine's own has less than one MiB, or a few with symbols."""
MAX_SEGMENTS = 64
"""Gramine's own has about five."""
MAX_SPAN = 256 * 1024 * 1024
"""Of memory, from the first segment to the end of the last.  Gramine's own takes less than one MiB."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_IDENTITY = b"\x7fELF\x02\x01\x01"
"""64 bits, little-endian, version 1."""
_SHARED_OBJECT = 3
_X86_64 = 62
_PT_LOAD = 1


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD header: where it lies in the file and in memory, in bytes, and its flags (1 X, 2 W, 4 R)."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    flags: int

    @property
    def first_page(self) -> int:
        """The address of its first page."""
        return self.address // PAGE * PAGE

    @property
    def end_page(self) -> int:
        """The address behind its last page."""
        return -(-(self.address + self.memory_size) // PAGE) * PAGE


@dataclass(frozen=True)
class SharedObject:
    """A shared object that begins at address 0: its bytes, entry point and segments, in the file's order."""

    data: bytes
    entry: int
    segments: tuple[Segment, ...]

    @property
    def span(self) -> int:
        """Bytes of memory from address 0 to the end of the last segment, in whole pages."""
        return max(segment.end_page for segment in self.segments)

    def page(self, segment: Segment, address: int) -> bytes:
        """Return the 4,096 bytes of one page of a segment: zeros wherever the file has nothing of this segment."""
        skipped = max(segment.address - address, 0)
        start = segment.offset + address + skipped - segment.address
        end = min(start + PAGE - skipped, segment.offset + segment.file_size)
        return (bytes(skipped) + self.data[start : max(start, end)]).ljust(PAGE, b"\0")


def parse_shared_object(data: bytes) -> SharedObject:
    """Parse a position-independent x86-64 object; raises GramineError `libpal-malformed`, and nothing else."""
    if len(data) < _HEADER.size or not data.startswith(_IDENTITY):
        raise _malformed("a 64-bit little-endian ELF file", "another file")
    _, kind, machine, _, entry, table, _, _, _, size, count, *_ = _HEADER.unpack_from(data)
    if (kind, machine) != (_SHARED_OBJECT, _X86_64):
        raise _malformed("a shared object for x86-64", f"type {kind} for machine {machine}")
    if size != _PROGRAM_HEADER.size or count > MAX_SEGMENTS or table + size * count > len(data):
        raise _malformed(f"at most {MAX_SEGMENTS} program headers of 56 bytes, inside the file", f"{count} of {size}")
    headers = (_PROGRAM_HEADER.unpack_from(data, table + size * index) for index in range(count))
    segments = tuple(
        _checked(Segment(offset, address, file_size, memory_size, flags), len(data))
        for (kind, flags, offset, address, _, file_size, memory_size, _) in headers
        if kind == _PT_LOAD
    )
    _check_order(segments)
    if entry >= segments[-1].end_page:
        raise _malformed("an entry point inside the segments", f"{entry:#x}")
    return SharedObject(data, entry, segments)


def _checked(segment: Segment, length: int) -> Segment:
    if segment.address + segment.memory_size > MAX_SPAN or segment.memory_size == 0:
        raise _malformed(f"segments below address {MAX_SPAN:#x}, none empty", f"{segment.address:#x}")
    if segment.file_size > segment.memory_size or segment.offset + segment.file_size > length:
        raise _malformed("segments that lie inside the file and fit their memory", f"offset {segment.offset:#x}")
    if (segment.offset - segment.address) % PAGE:
        raise _malformed("offsets and addresses alike modulo the page size", f"offset {segment.offset:#x}")
    return segment


def _check_order(segments: tuple[Segment, ...]) -> None:
    """Refuse an object that would put two segments into one page, or does not begin at address 0."""
    if not segments or segments[0].first_page != 0:
        raise _malformed("a first segment at address 0", "none" if not segments else f"{segments[0].address:#x}")
    for before, after in itertools.pairwise(segments):
        if after.first_page < before.end_page:
            raise _malformed("segments in ascending order, each with its own pages", f"{after.address:#x}")


def _malformed(expected: str, found: str) -> GramineError:
    return GramineError(
        GramineCode.LIBPAL_MALFORMED,
        "the file is not an object that Gramine loads into an enclave",
        expected=expected,
        found=found,
    )
