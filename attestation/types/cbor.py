"""CBOR in one encoding: a strict reader and writer of the subset that COSE and attestation tokens use.

Source: RFC 8949, section 3 (encoding), and of section 4.2.1 (core deterministic encoding) all but the order of keys.

The subset is integers of 64 bits, byte strings, UTF-8 text, arrays, maps with integer or text keys, tags, booleans
and null.  Heads take their shortest form, lengths are definite, and no key comes twice, so that whatever decodes
encodes to the very same bytes; the order of a map's keys is kept.  One relaxation has to be asked for:
`indefinite` admits arrays and maps that end with a break, as AWS writes them, and then the bytes cannot be made again
from the value: keep them.  And one restriction: `ordered` demands the keys' order of section 4.2.1, too, so that a
value has one encoding altogether; `encode_ordered` writes that.

Libraries in use (cbor2 among them) accept long heads, indefinite strings, repeated keys and trailing bytes, and have
no switch that refuses them; that is why this reader is our own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from attestation.errors import EvidenceCode, EvidenceError

Value: TypeAlias = Any
"""None, bool, int, bytes, str, list[Value], dict[int | str, Value] or Tag."""

MAX_DEPTH = 16
"""COSE and attestation tokens nest 6 levels at most."""
MAX_ITEMS = 4096
"""Items and keys of one value altogether: a document of the largest kind has some 80."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_BREAK = 0xFF
_INDEFINITE = 31
_OPEN = -1
"""Stands for the length of an array or map that ends with a break."""
_SIMPLE_VALUES = {20: False, 21: True, 22: None}
_SIMPLE_HEADS = {value: bytes([_SIMPLE << 5 | number]) for number, value in _SIMPLE_VALUES.items()}
_LEAST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""By additional information: the least argument that does not fit a shorter head."""


@dataclass(frozen=True)
class Tag:
    """A value with a tag number (RFC 8949, section 3.4)."""

    number: int
    value: Value


def decode(data: bytes, *, max_size: int, indefinite: bool = False, ordered: bool = False) -> Value:
    """Decode one value that uses up `data`; raises EvidenceError `cbor-malformed`, and nothing else."""
    if len(data) > max_size:
        raise EvidenceError(
            EvidenceCode.CBOR_MALFORMED, "the CBOR value is too large", expected=max_size, found=len(data)
        )
    reader = _Reader(bytes(data), indefinite=indefinite, ordered=ordered)
    value = reader.value(MAX_DEPTH)
    if reader.at != len(data):
        reader.refuse("bytes follow the value")
    return value


def encode(value: Value) -> bytes:
    """Encode a value of the subset, keys in the order that they have; raises ValueError for anything else."""
    return _encode(value, ordered=False)


def encode_ordered(value: Value) -> bytes:
    """Encode a value of the subset with the keys of every map in ascending order of their encodings.

    That is the core deterministic encoding of RFC 8949, section 4.2.1.  Raises ValueError as `encode` does.
    """
    return _encode(value, ordered=True)


def _encode(value: Value, *, ordered: bool) -> bytes:
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        raw = value.encode("utf-8")
        return _head(_TEXT, len(raw)) + raw
    if value is None or isinstance(value, bool):
        return _SIMPLE_HEADS[value]
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, list | tuple):
        return _head(_ARRAY, len(value)) + b"".join([_encode(item, ordered=ordered) for item in value])
    if isinstance(value, dict):
        pairs = [(_encode(key, ordered=ordered), _encode(item, ordered=ordered)) for key, item in value.items()]
        return _head(_MAP, len(value)) + b"".join(map(b"".join, sorted(pairs) if ordered else pairs))
    if isinstance(value, Tag):
        return _head(_TAG, value.number) + _encode(value.value, ordered=ordered)
    raise ValueError(f"{type(value).__name__} is outside the subset of CBOR")


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for information, form in ((24, "B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if argument < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | information]) + struct.pack(form, argument)
    raise ValueError("an integer has at most 64 bits")


class _Reader:
    """Reads values from front to back."""

    def __init__(self, data: bytes, *, indefinite: bool, ordered: bool) -> None:
        self.at = 0
        self._data = data
        self._indefinite = indefinite
        self._ordered = ordered
        self._left = MAX_ITEMS

    def refuse(self, why: str) -> NoReturn:
        raise EvidenceError(EvidenceCode.CBOR_MALFORMED, f"the CBOR is not in its one form: {why}, at byte {self.at}")

    def value(self, depth: int) -> Value:
        """Read one value that may nest `depth` levels."""
        self._left -= 1
        if depth < 0 or self._left < 0:
            self.refuse("it is nested too deeply, or has too many items")
        major, argument = self._read_head()
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major in {_BYTES, _TEXT}:
            return self._string(major, argument)
        if major == _ARRAY:
            return [self.value(depth - 1) for _ in self._counted(argument)]
        if major == _MAP:
            return self._map(argument, depth)
        if major == _TAG:
            return Tag(argument, self.value(depth - 1))
        return self._simple(argument)

    def _read_head(self) -> tuple[int, int]:
        """Return (major type, argument); the argument of an indefinite length is `_OPEN`."""
        first = self._take(1)[0]
        major, information = first >> 5, first & 0x1F
        if information < 24:
            return major, information
        if information == _INDEFINITE and self._indefinite and major in {_ARRAY, _MAP}:
            return major, _OPEN
        if information not in _LEAST or major == _SIMPLE:
            self.refuse("a head of this kind is not used")
        argument = int.from_bytes(self._take(1 << information - 24), "big")
        if argument < _LEAST[information]:
            self.refuse("a head is longer than it needs to be")
        return major, argument

    def _take(self, size: int) -> bytes:
        raw = self._data[self.at : self.at + size]
        if len(raw) != size:
            self.refuse("it ends within an item")
        self.at += size
        return raw

    def _string(self, major: int, size: int) -> bytes | str:
        raw = self._take(size)
        if major == _BYTES:
            return raw
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.refuse("text is not UTF-8")

    def _counted(self, count: int) -> Iterable[object]:
        """Return what to iterate over for `count` items; where that is open, until the break, which is read, too."""
        if count == _OPEN:
            return iter(self._more, False)
        if count > len(self._data) - self.at:
            self.refuse("a length exceeds the data")
        return range(count)

    def _more(self) -> bool:
        """Tell whether an item follows rather than the break."""
        if self._data[self.at : self.at + 1] != bytes([_BREAK]):
            return True
        self.at += 1
        return False

    def _map(self, count: int, depth: int) -> dict[int | str, Value]:
        result: dict[int | str, Value] = {}
        last = b""
        for _ in self._counted(count):
            start = self.at
            key = self.value(0)
            if type(key) not in {int, str} or key in result:
                self.refuse("a key is repeated, or neither an integer nor text")
            raw = self._data[start : self.at]
            if self._ordered and raw <= last:
                self.refuse("the keys of a map are not in order")
            last = raw
            result[key] = self.value(depth - 1)
        return result

    def _simple(self, number: int) -> bool | None:
        if number not in _SIMPLE_VALUES:
            self.refuse("a simple value is neither true, false nor null")
        return _SIMPLE_VALUES[number]
