"""TPM structures as tables that are used both ways: bytes to fields, and fields to bytes.

Source: TCG TPM 2.0 Library, Part 2 "Structures", sections 5 (base types) and 10.4 (sized buffers, TPM2B).  All
integers are big-endian, and nothing is aligned.  Every refusal is an EvidenceError with a `tpm-...` code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from attestation.errors import EvidenceError
from attestation.tpm.errors import TpmCode


class Reader:
    """Reads a byte string from front to back; `title` names it in refusals."""

    def __init__(self, data: bytes, title: str) -> None:
        """Read `data` from its beginning."""
        self._data = bytes(data)
        self._at = 0
        self.title = title

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; raises `tpm-truncated`."""
        raw = self._data[self._at : self._at + size]
        if len(raw) != size:
            raise EvidenceError(
                TpmCode.TRUNCATED, f"the {self.title} is cut short", expected=f"{size} bytes", found=f"{len(raw)} bytes"
            )
        self._at += size
        return raw

    def number(self, size: int) -> int:
        """Return the next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def finish(self) -> None:
        """Refuse anything that follows; raises `tpm-trailing-bytes`."""
        left = len(self._data) - self._at
        if left:
            raise EvidenceError(
                TpmCode.TRAILING_BYTES,
                f"bytes follow the end of the {self.title}",
                expected="the end",
                found=f"{left} more bytes",
            )


class Codec(Protocol):
    """One type of TPM: how it is read, and how it is written."""

    def read(self, reader: Reader) -> Any:
        """Return the value that comes next; raises EvidenceError."""

    def write(self, value: Any) -> bytes:
        """Return the bytes of a value; the inverse of `read`."""


@dataclass(frozen=True)
class Number:
    """An unsigned integer of `size` bytes."""

    size: int

    def read(self, reader: Reader) -> int:
        """Return the integer that comes next."""
        return reader.number(self.size)

    def write(self, value: int) -> bytes:
        """Return its bytes."""
        return value.to_bytes(self.size, "big")


@dataclass(frozen=True)
class Sized:
    """A TPM2B: a length of two bytes, and that many bytes, between `least` and `most`."""

    name: str
    least: int
    most: int

    def read(self, reader: Reader) -> bytes:
        """Return the bytes without their length; raises `tpm-size` for a length that the type does not allow."""
        size = reader.number(2)
        if not self.least <= size <= self.most:
            raise EvidenceError(
                TpmCode.SIZE,
                f"{self.name} in the {reader.title} has a size that its type does not allow",
                expected=f"{self.least} to {self.most} bytes",
                found=f"{size} bytes",
            )
        return reader.take(size)

    def write(self, value: bytes) -> bytes:
        """Return the bytes behind their length."""
        return len(value).to_bytes(2, "big") + value


U8, U16, U32, U64 = (Number(size) for size in (1, 2, 4, 8))


class Structure:
    """Consecutive named fields."""

    def __init__(self, **fields: Codec) -> None:
        """Keep the fields, in the order in which they are given."""
        self.fields = fields

    def read(self, reader: Reader) -> dict[str, Any]:
        """Return the fields that come next, by name; raises EvidenceError."""
        return {name: codec.read(reader) for name, codec in self.fields.items()}

    def write(self, values: Mapping[str, Any]) -> bytes:
        """Return the bytes of these fields."""
        return b"".join(codec.write(values[name]) for name, codec in self.fields.items())

    def to_hex(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return each field by name as the hex of its value, without the length of a sized one."""
        return {name: _hex(codec, values[name]) for name, codec in self.fields.items()}


def _hex(codec: Codec, value: Any) -> str:
    return value.hex() if isinstance(codec, Sized) else codec.write(value).hex()
