"""Canonical msgpack: one meaning, one encoding.

The subset is nil, booleans, 64-bit integers, 64-bit floats, UTF-8 strings, byte strings, arrays, and maps with
string keys in ascending order of their UTF-8 bytes.  `decode` refuses what does not re-encode to itself, so that a
signature over bytes is a signature over one meaning (msgpack alone admits duplicate keys and long integers).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgpack

from manifests.errors import ManifestCode, ManifestError

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, list[Value] or dict[str, Value]."""

MAX_DEPTH = 16
"""Deepest nesting of any format of ours is 6; the rest is room to grow."""

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def encode(value: Value, *, max_depth: int = MAX_DEPTH) -> bytes:
    """Encode a value of the subset; raises ManifestError `encoding-malformed` or `encoding-too-deep`."""
    try:
        return bytes(msgpack.packb(_ordered(value, max_depth), use_bin_type=True, strict_types=True))
    except (TypeError, ValueError, OverflowError):
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "value is outside the canonical subset") from None


def decode(data: bytes | bytearray | memoryview, *, max_size: int, max_depth: int = MAX_DEPTH) -> Value:
    """Decode canonical msgpack of at most `max_size` bytes and `max_depth` levels.

    Raises ManifestError `encoding-too-large`, `encoding-too-deep` or `encoding-malformed`, and nothing else.
    Memory is bounded by a small multiple of `max_size`, whatever lengths the bytes claim.
    """
    if len(data) > max_size:
        raise ManifestError(
            ManifestCode.ENCODING_TOO_LARGE, "encoded value is too large", expected=max_size, found=len(data)
        )
    raw = bytes(data)
    try:
        value = msgpack.unpackb(raw, raw=False, use_list=True, strict_map_key=True)
    except msgpack.StackError:
        raise ManifestError(ManifestCode.ENCODING_TOO_DEEP, "encoded value is nested too deeply") from None
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "bytes are not valid msgpack") from None
    if encode(value, max_depth=max_depth) != raw:
        raise ManifestError(ManifestCode.ENCODING_MALFORMED, "bytes are not the canonical encoding of their value")
    return value


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
