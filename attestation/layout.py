"""Binary layouts as tables that are used both ways: bytes to fields, and fields to bytes.

A layout covers every byte of its structure.  Ranges that the vendor reserves are rows too, and must be zero, so that
whatever parses also serialises to the very same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ErrorCode


class Kind(Enum):
    """How the bytes of a row are read."""

    UINT = "little-endian unsigned integer"
    UINT_BE = "big-endian unsigned integer"
    BYTES = "byte string"
    ZERO = "reserved, must be zero"


_ORDERS: dict[Kind, Literal["little", "big"]] = {Kind.UINT: "little", Kind.UINT_BE: "big"}


_SIZES = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Of the numbers that `struct` reads by itself."""


@dataclass(frozen=True)
class Row:
    """One field: offset and size in bytes, as the vendor prints them."""

    offset: int
    size: int
    name: str
    kind: Kind = Kind.BYTES


def _code(row: Row) -> str:
    """Return the row in the language of `struct`: reserved bytes are skipped, and written as zeros."""
    if row.kind is Kind.UINT and row.size in _SIZES:
        return _SIZES[row.size]
    return f"{row.size}{'x' if row.kind is Kind.ZERO else 's'}"


class Layout:
    """The rows of one fixed-size structure, in order and without gaps.

    `truncated` and `reserved` are the codes of its refusals: a wrong size, and reserved bytes that are not zero.
    """

    def __init__(
        self,
        title: str,
        size: int,
        *rows: Row,
        truncated: ErrorCode = EvidenceCode.QUOTE_TRUNCATED,
        reserved: ErrorCode = EvidenceCode.QUOTE_RESERVED,
    ) -> None:
        """Check that the rows cover the structure exactly."""
        end = 0
        for row in rows:
            if row.offset != end:
                raise ValueError(f"{title}: {row.name} does not begin at {end}")
            end += row.size
        if end != size:
            raise ValueError(f"{title}: the rows cover {end} of {size} bytes")
        self.title, self.size, self.rows = title, size, rows
        self._truncated, self._reserved = truncated, reserved
        fields = [row for row in rows if row.kind is not Kind.ZERO]
        self._names = tuple(row.name for row in fields)
        self._strings = tuple((row.name, row.size) for row in fields if row.kind is Kind.BYTES)
        self._numbers = tuple(row for row in fields if _code(row)[-1] == "s" and row.kind is not Kind.BYTES)
        self._zeros = tuple((row, bytes(row.size)) for row in rows if row.kind is Kind.ZERO)
        self._packed = struct.Struct("<" + "".join(map(_code, rows)))

    def parse(self, data: bytes) -> dict[str, Any]:
        """Return the fields of exactly `size` bytes by name.

        Raises EvidenceError with the layout's code for a wrong size or for reserved bytes that are not zero.
        """
        if len(data) != self.size:
            raise EvidenceError(self._truncated, f"the {self.title} is cut short", expected=self.size, found=len(data))
        for row, zeros in self._zeros:
            if data[row.offset : row.offset + row.size] != zeros:
                raise self._not_zero(row, data)
        values = dict(zip(self._names, self._packed.unpack(data), strict=True))
        for row in self._numbers:
            values[row.name] = int.from_bytes(values[row.name], _ORDERS[row.kind])
        return values

    def _not_zero(self, row: Row, data: bytes) -> EvidenceError:
        return EvidenceError(
            self._reserved,
            f"reserved bytes of the {self.title} at offset {row.offset} are not zero",
            expected=f"{row.size} zero bytes",
            found=data[row.offset : row.offset + row.size].hex(),
        )

    def serialize(self, values: Mapping[str, Any]) -> bytes:
        """Return the bytes of these fields; the inverse of `parse`.  Wrong sizes raise ValueError."""
        for name, size in self._strings:
            if len(values[name]) != size:
                raise ValueError(f"{name} has {size} bytes")
        if self._numbers:
            values = {**values, **{row.name: self.encode(row, values[row.name]) for row in self._numbers}}
        try:
            return self._packed.pack(*[values[name] for name in self._names])
        except struct.error as error:
            raise ValueError(f"a number of the {self.title} has another size: {error}") from None

    def to_hex(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return each field by name as the hex of its bytes in the structure."""
        named = (row for row in self.rows if row.kind is not Kind.ZERO)
        return {row.name: self.encode(row, values[row.name]).hex() for row in named}

    @staticmethod
    def encode(row: Row, value: Any) -> bytes:
        """Return the bytes of one field."""
        if row.kind is Kind.ZERO:
            return bytes(row.size)
        order = _ORDERS.get(row.kind)
        raw = int(value).to_bytes(row.size, order) if order else bytes(value)
        if len(raw) != row.size:
            raise ValueError(f"{row.name} has {row.size} bytes")
        return raw
