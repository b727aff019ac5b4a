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


@dataclass(frozen=True)
class Row:
    """One field: offset and size in bytes, as the vendor prints them."""

    offset: int
    size: int
    name: str
    kind: Kind = Kind.BYTES


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
        self._split = struct.Struct("".join(f"{row.size}s" for row in rows))

    def parse(self, data: bytes) -> dict[str, Any]:
        """Return the fields of exactly `size` bytes by name.

        Raises EvidenceError with the layout's code for a wrong size or for reserved bytes that are not zero.
        """
        if len(data) != self.size:
            raise EvidenceError(self._truncated, f"the {self.title} is cut short", expected=self.size, found=len(data))
        values: dict[str, Any] = {}
        for row, raw in zip(self.rows, self._split.unpack(data), strict=True):
            if row.kind is Kind.BYTES:
                values[row.name] = raw
            elif row.kind is Kind.ZERO:
                self._check_zero(row, raw)
            else:
                values[row.name] = int.from_bytes(raw, _ORDERS[row.kind])
        return values

    def _check_zero(self, row: Row, raw: bytes) -> None:
        if any(raw):
            raise EvidenceError(
                self._reserved,
                f"reserved bytes of the {self.title} at offset {row.offset} are not zero",
                expected=f"{row.size} zero bytes",
                found=raw.hex(),
            )

    def serialize(self, values: Mapping[str, Any]) -> bytes:
        """Return the bytes of these fields; the inverse of `parse`.  Wrong sizes raise ValueError."""
        return b"".join(self.encode(row, values.get(row.name)) for row in self.rows)

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
