"""A strict reader of the little DER that is read before, or besides, a real X.509 parser.

Single-byte tags and definite, minimal lengths of at most three bytes; anything else is refused.
"""

from __future__ import annotations

from attestation.errors import EvidenceError
from manifests.errors import ErrorCode

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
SEQUENCE = 0x30


class DerReader:
    """Reads consecutive elements of a byte string; every refusal is EvidenceError with the reader's code."""

    def __init__(self, data: bytes, code: ErrorCode) -> None:
        """Read `data` from its beginning; `code` is that of what the bytes are."""
        self._data = data
        self._code = code
        self._at = 0

    def refuse(self, message: str) -> EvidenceError:
        """Return the error for a caller to raise."""
        return EvidenceError(self._code, message)

    @property
    def more(self) -> bool:
        """Whether elements follow."""
        return self._at < len(self._data)

    def next_tag(self) -> int:
        """Return the tag of the element that follows, without reading it."""
        if not self.more:
            raise self.refuse("an element is missing")
        return self._data[self._at]

    def element(self, tag: int) -> bytes:
        """Read one element of this tag and return its whole encoding."""
        start = self._at
        self.content(tag)
        return self._data[start : self._at]

    def content(self, tag: int) -> bytes:
        """Read one element of this tag and return its content."""
        at = self._at
        head = self._data[at : at + 2]
        if len(head) == 2 and head[0] == tag and head[1] < 0x80 and at + 2 + head[1] <= len(self._data):
            self._at = at + 2 + head[1]  # a short length, which most have
            return self._data[at + 2 : self._at]
        return self._long_content(tag)

    def _long_content(self, tag: int) -> bytes:
        """Read an element with a length of several bytes, or say what is wrong with it."""
        if self.next_tag() != tag:
            raise self.refuse(f"expected an element of type {tag:#04x}")
        size, start = self._length(self._at + 1)
        if start + size > len(self._data):
            raise self.refuse("an element is longer than its container")
        self._at = start + size
        return self._data[start : self._at]

    def inside(self, tag: int) -> DerReader:
        """Read one constructed element and return a reader of its content."""
        return DerReader(self.content(tag), self._code)

    def finish(self) -> None:
        """Refuse anything that follows."""
        if self.more:
            raise self.refuse("bytes follow the last element")

    def integer(self, limit: int, tag: int = INTEGER) -> int:
        """Read a minimal integer between 0 and `limit`."""
        raw = self.content(tag)
        if not raw or raw[0] & 0x80 or (len(raw) > 1 and raw[0] == 0 and not raw[1] & 0x80):
            raise self.refuse("an integer is negative or not minimal")
        value = int.from_bytes(raw, "big")
        if value > limit:
            raise self.refuse("an integer is out of range")
        return value

    def octets(self, size: int) -> bytes:
        """Read an octet string of exactly `size` bytes."""
        raw = self.content(OCTET_STRING)
        if len(raw) != size:
            raise self.refuse(f"an octet string does not have {size} bytes")
        return raw

    def boolean(self) -> bool:
        """Read a boolean, which DER writes as 00 or FF."""
        raw = self.content(BOOLEAN)
        if raw not in {b"\x00", b"\xff"}:
            raise self.refuse("a boolean is neither 00 nor ff")
        return raw == b"\xff"

    def _length(self, at: int) -> tuple[int, int]:
        """Return (length, offset of the content)."""
        if at >= len(self._data):
            raise self.refuse("an element has no length")
        first = self._data[at]
        if first < 0x80:
            return first, at + 1
        count = first & 0x7F
        raw = self._data[at + 1 : at + 1 + count]
        if not 1 <= count <= 3 or len(raw) != count:
            raise self.refuse("a length is indefinite or too large")
        value = int.from_bytes(raw, "big")
        if value < 0x80 or raw[0] == 0:
            raise self.refuse("a length is not minimal")
        return value, at + 1 + count
