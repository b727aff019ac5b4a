"""Canonical msgpack: one meaning, one encoding.

The subset is nil, booleans, 64-bit integers, 64-bit floats, UTF-8 strings, byte strings, arrays, and maps with
string keys in ascending order of their UTF-8 bytes.  `decode` refuses what does not re-encode to itself, so that a
signature over bytes is a signature over one meaning (msgpack alone admits duplicate keys and long integers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgpack

from manifests.errors import ManifestCode, ManifestError

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, list[Value] or dict[str, Value]."""

MAX_DEPTH = 16
"""Deepest nesting of any format of ours is 6; the rest is room to grow."""

MAX_CONTAINERS = 16 * 1024
"""Maps and lists of one value: a listing of a thousand models has some ten thousand."""
MAX_ITEMS = 1 << 17
"""Items of one map or list: a manifest may have half as many labels."""

_SCALARS = frozenset({type(None), bool, int, float, str, bytes, bytearray})
"""A byte string to encode may be a bytearray, so that a key can be overwritten afterwards; it decodes as bytes."""


def encode(value: Value, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Encode a value of the subset; raises ManifestError `encoding-malformed` or `encoding-too-deep`."""
    try:
        return bytes(msgpack.packb(_ordered(value, max_depth), use_bin_type=True, strict_types=True))
    except (TypeError, ValueError, OverflowError):
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "value is outside the canonical subset") from None


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_size: int,
    max_depth: int = MAX_DEPTH,
    max_containers: int = MAX_CONTAINERS,
) -> Value:
    """Decode canonical msgpack of at most `max_size` bytes, `max_depth` levels and `max_containers` maps and lists.

    Raises ManifestError `encoding-too-large`, `encoding-too-deep` or `encoding-malformed`, and nothing else.
    Memory is bounded by a small multiple of `max_size`, whatever lengths the bytes claim: an empty map takes one byte
    on the wire and 64 in memory, so containers are counted while they are made.
    """
    if len(data) > max_size:
        raise ManifestError(
            ManifestCode.ENCODING_TOO_LARGE, "encoded value is too large", expected=max_size, found=len(data)
        )
    raw = bytes(data)
    try:
        value = _unpack(raw, max_containers)
    except msgpack.StackError:
        raise ManifestError(ManifestCode.ENCODING_TOO_DEEP, "encoded value is nested too deeply") from None
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "bytes are not valid msgpack") from None
    if encode(value, max_depth=max_depth) != raw:
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "bytes are not the canonical encoding of their value")
    return value


def _unpack(raw: bytes, max_containers: int) -> Value:
    """Unpack, and count containers where there are bytes enough for too many: the count costs a call for each."""
    if len(raw) <= max_containers:
        return msgpack.unpackb(raw, raw=False, use_list=True, strict_map_key=True)
    count = _counter(max_containers)
    most = min(len(raw), MAX_ITEMS)
    return msgpack.unpackb(
        raw,
        raw=False,
        use_list=True,
        strict_map_key=True,
        object_hook=count,
        list_hook=count,
        max_array_len=most,
        max_map_len=most,
    )


def _counter(limit: int) -> Callable[[Value], Value]:
    """Return a hook that gives each container back as it is, and raises when there are too many."""
    left = limit

    def count(container: Value) -> Value:
        nonlocal left
        left -= 1
        if left < 0:
            raise ManifestError(
                ManifestCode.ENCODING_TOO_LARGE, "encoded value has too many maps and lists", expected=limit
            )
        return container

    return count


def _ordered(value: Value, depth: int) -> Value:
    """Return the value with its maps in canonical order, refusing types outside the subset."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth == 0:
        raise ManifestError(ManifestCode.ENCODING_TOO_DEEP, "value is nested too deeply")
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise ManifestError(ManifestCode.ENCODING_MALFORMED, "map keys must be strings")
        return {key: _ordered(value[key], depth - 1) for key in sorted(value)}  # by code point, which is UTF-8's order
    if kind is list or kind is tuple:
        return [_ordered(item, depth - 1) for item in value]
    if isinstance(value, str | int):  # enumerations travel as their value
        return _ordered(str(value) if isinstance(value, str) else int(value), depth)
    raise ManifestError(ManifestCode.ENCODING_MALFORMED, f"type {kind.__name__} is outside the canonical subset")
