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

    __slots__ = ("_at", "_code", "_data", "_end")

    def __init__(self, data: bytes, code: ErrorCode) -> None:
        """Read `data` from its beginning; `code` is that of what the bytes are."""
        self._data = data
        self._code = code
        self._at = 0
        self._end = len(data)

    def refuse(self, message: str) -> EvidenceError:
        """Return the error for a caller to raise."""
        return EvidenceError(self._code, message)

    @property
    def more(self) -> bool:
        """Whether elements follow."""
        return self._at < self._end

    def next_tag(self) -> int:
        """Return the tag of the element that follows, without reading it."""
        if self._at >= self._end:
            raise self.refuse("an element is missing")
        return self._data[self._at]

    def element(self, tag: int) -> bytes:
        """Read one element of this tag and return its whole encoding."""
        start = self._at
        self._skip(tag)
        return self._data[start : self._at]

    def content(self, tag: int) -> bytes:
        """Read one element of this tag and return its content."""
        start = self._skip(tag)
        return self._data[start : self._at]

    def inside(self, tag: int) -> DerReader:
        """Read one constructed element and return a reader of its content."""
        start = self._skip(tag)
        inner = DerReader(self._data, self._code)
        inner._at, inner._end = start, self._at
        return inner

    def members(self) -> dict[bytes, tuple[int, bytes]]:
        """Read SEQUENCE { OBJECT IDENTIFIER, value } to the end: tag and content of each value, by identifier.

        A repeated identifier is refused.
        """
        found: dict[bytes, tuple[int, bytes]] = {}
        while self.more:
            oid, tag, content = self._short_member() or self._member()
            if oid in found:
                raise self.refuse("a member is repeated")
            found[oid] = tag, content
        return found

    def _short_member(self) -> tuple[bytes, int, bytes] | None:
        """Return (identifier, tag, content) of a member whose three lengths are short, as most are; else None."""
        data, at = self._data, self._at
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != SEQUENCE or head[2] != OBJECT_IDENTIFIER or head[1] >= 0x80:
            return None
        value, end = at + 4 + head[3], at + 2 + head[1]
        if value + 2 > end or end > self._end or data[value + 1] != end - value - 2:
            return None
        self._at = end
        return data[at + 4 : value], data[value], data[value + 2 : end]

    def _member(self) -> tuple[bytes, int, bytes]:
        """Return (identifier, tag, content) of any member, or say what is wrong with it."""
        inner = self.inside(SEQUENCE)
        oid, tag = inner.content(OBJECT_IDENTIFIER), inner.next_tag()
        content = inner.content(tag)
        inner.finish()
        return oid, tag, content

    def finish(self) -> None:
        """Refuse anything that follows."""
        if self._at < self._end:
            raise self.refuse("bytes follow the last element")

    def integer(self, limit: int, tag: int = INTEGER) -> int:
        """Read a minimal integer between 0 and `limit`."""
        return self.number(self.content(tag), limit)

    def number(self, raw: bytes, limit: int) -> int:
        """Return the value of an integer's content: minimal, between 0 and `limit`."""
        if len(raw) == 1 and raw[0] < 0x80 and raw[0] <= limit:
            return raw[0]
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
        return self.truth(self.content(BOOLEAN))

    def truth(self, raw: bytes) -> bool:
        """Return the value of a boolean's content."""
        if raw not in {b"\x00", b"\xff"}:
            raise self.refuse("a boolean is neither 00 nor ff")
        return raw == b"\xff"

    def _skip(self, tag: int) -> int:
        """Move behind one element of this tag; return where its content starts."""
        at = self._at
        if self.next_tag() != tag:
            raise self.refuse(f"expected an element of type {tag:#04x}")
        start = at + 2
        size = self._data[at + 1] if start <= self._end else 0x80
        if size >= 0x80:
            size, start = self._long_length(at + 1)
        if start + size > self._end:
            raise self.refuse("an element is longer than its container")
        self._at = start + size
        return start

    def _long_length(self, at: int) -> tuple[int, int]:
        """Return (length, offset of the content)."""
        if at >= self._end:
            raise self.refuse("an element has no length")
        count = self._data[at] & 0x7F
        raw = self._data[at + 1 : min(at + 1 + count, self._end)]
        if not 1 <= count <= 3 or len(raw) != count:
            raise self.refuse("a length is indefinite or too large")
        value = int.from_bytes(raw, "big")
        if value < 0x80 or raw[0] == 0:
            raise self.refuse("a length is not minimal")
        return value, at + 1 + count
