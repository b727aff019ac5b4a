"""Protobuf's wire format, read strictly: one encoding for one meaning, within bounds, without a copy of the weights.

https://protobuf.dev/programming-guides/encoding/.  Readers of protobuf differ in what they make of bytes that no
writer writes, and a check that reads another model than the runtime does is none.  Hence, decided here:
 - groups (wire types 3 and 4) and the unused types 6 and 7 are refused: ONNX has none;
 - a varint of more bytes than it needs is refused, as is one beyond 64 bits;
 - a field that a schema does not know is refused: other readers skip it, or read it in a later version;
 - a second value of a singular field is refused: readers keep the last one, or merge both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manifests.onnx.errors import OnnxCode, OnnxError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The wire types that ONNX uses."""
_MAX_FIELD = (1 << 29) - 1

RUN = 16
"""Equal tags in a row after which a run of numbers is read at once; until then it would cost more than it saves."""
_WINDOW = 1 << 16
"""Bytes of a run that are looked at in one go: bounds what a run that ends at once costs."""


def malformed(what: str) -> OnnxError:
    """Return the error for bytes that are no protobuf."""
    return OnnxError(OnnxCode.MALFORMED, what)


def _overlong() -> OnnxError:
    return OnnxError(
        OnnxCode.VARINT,
        "a number is written in more bytes than it needs",
        expected="the shortest form",
        found="a longer one",
    )


def varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned varint; return it and where the next field begins.

    Raises OnnxError `onnx-malformed` where the bytes end, `onnx-varint` for a form that is not the shortest.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and shift) or value >> 64:
                raise _overlong()
            return value, at
        shift += 7
        if shift > 63:
            raise _overlong()
    raise malformed("a number does not end")


def signed(value: int) -> int:
    """Return a varint's value as the two's complement number of 64 bits that int32 and int64 fields mean."""
    return value - (1 << 64) if value >> 63 else value


def tag(data: memoryview, at: int, end: int) -> tuple[int, int, int]:
    """Read a tag; return field number, wire type, and where the value begins."""
    key, at = varint(data, at, end)
    number, wire = key >> 3, key & 7
    if wire not in {VARINT, FIXED64, BYTES, FIXED32}:
        raise OnnxError(OnnxCode.GROUP, "a field has a wire type that ONNX does not use", found=wire)
    if not 0 < number <= _MAX_FIELD:
        raise malformed("a field has no number")
    return number, wire, at


def span(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Read a length; return where the bytes begin and end."""
    size, at = varint(data, at, end)
    if size > end - at:
        raise malformed("a field is longer than the message that holds it")
    return at, at + size


def unpack(data: memoryview, start: int, end: int) -> np.ndarray:
    """Return the varints of a packed field as int64; raises OnnxError `onnx-malformed` or `onnx-varint`."""
    raw = np.frombuffer(data[start:end], np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if not raw.size:
        return np.empty(0, np.int64)
    if not ends.size or ends[-1] != raw.size - 1:
        raise malformed("a number does not end")
    return _decode(raw, np.concatenate(([0], ends[:-1] + 1)), ends)


def _decode(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Put together varints that lie at starts..ends (inclusive)."""
    lengths = ends - starts + 1
    longest = int(lengths.max())
    last = raw[ends]
    if longest > 10 or bool(((lengths > 1) & (last == 0)).any()) or bool(((lengths == 10) & (last > 1)).any()):
        raise _overlong()
    values = np.zeros(starts.size, np.uint64)
    for place in range(longest):
        has = lengths > place
        part = (raw[starts[has] + place] & 0x7F).astype(np.uint64)
        values[has] |= part << np.uint64(7 * place)
    return values.view(np.int64)


def count_packed(data: memoryview) -> int:
    """Return how many varints a packed field holds; raises OnnxError `onnx-malformed` where the last does not end."""
    if not len(data):
        return 0
    if data[-1] >= 0x80:
        raise malformed("a number does not end")
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) < 0x80))


def run_fixed(data: memoryview, at: int, end: int, key: int, size: int) -> int:
    """Return how many values of `size` bytes, each with the one-byte tag `key`, follow within the window."""
    most = min(end - at, _WINDOW) // (size + 1)
    keys = np.frombuffer(data[at : at + most * (size + 1)], np.uint8)[:: size + 1]
    others = np.flatnonzero(keys != key)
    return int(others[0]) if others.size else most


@dataclass(frozen=True)
class Run:
    """Varints in a row, each with its tag; `end` is where the run ends."""

    values: np.ndarray
    end: int


def run_varints(data: memoryview, at: int, end: int, key: int) -> Run:
    """Read the varints with the one-byte tag `key` that follow within the window, without the last unfinished one."""
    raw = np.frombuffer(data[at : min(end, at + _WINDOW)], np.uint8)
    stops = np.flatnonzero(raw < 0x80)
    tags, values = stops[0::2], stops[1::2]
    tags = tags[: values.size]
    begins = np.concatenate(([0], values[:-1] + 1)) if values.size else values
    wrong = np.flatnonzero((begins != tags) | (raw[tags] != key))
    count = int(wrong[0]) if wrong.size else int(values.size)
    if not count:
        return Run(np.empty(0, np.int64), at)
    found = _decode(raw, tags[:count] + 1, values[:count])
    return Run(found, at + int(values[count - 1]) + 1)
