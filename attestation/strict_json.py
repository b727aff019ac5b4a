"""JSON with one meaning: no repeated keys, no NaN, no number that is not an integer, bounded size and depth."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from attestation.errors import EvidenceCode, EvidenceError

MAX_DEPTH = 16
"""TCB info nests six deep."""
MAX_ITEMS = 1 << 17
"""Lists, maps and what they hold, together.  An empty map takes 3 bytes of text and 70 of memory, another one 300; a
bundle with the collateral of 64 platforms has some 40,000 items."""


def loads(text: str, *, max_size: int) -> Any:
    """Decode a JSON text of at most `max_size` characters; raises EvidenceError `json-malformed`."""
    if len(text) > max_size:
        raise _malformed("it is too large")
    if len(text) > MAX_ITEMS and _count_items(text) > MAX_ITEMS:
        raise _malformed("it has too many items")
    value = _read_plain(text)
    if value is not None:
        return value
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float, parse_int=_bounded_integer
        )
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error) if isinstance(error, _RefusedError) else "it cannot be parsed") from None
    if _depth_exceeds(value, MAX_DEPTH):
        raise _malformed("it is nested too deeply")
    return value


def _count_items(text: str) -> int:
    """Return at least the number of items, without reading the text; what looks like one in a string counts, too.

    An item is the first of a list or map, or follows a comma; it takes four quotes at most, with its name.
    """
    return max(sum(map(text.count, "[{,")), text.count('"') // 4)


_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ONE_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_LARGE = b"0" * 21


def _read_plain(text: str) -> Any:
    """Return the value of text as vendors write it: compact, without escapes and fractions; else None.

    What a value is written back to has each key once, so text that comes back the same has, too.  Depth and large
    numbers show outside of strings.  Whatever is in doubt goes the long way, which says what is wrong.
    """
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data:
        return None
    structure = b"".join(data.split(b'"')[::2])
    if _LARGE in structure.translate(_ONE_DIGIT) or _is_deep(structure.translate(_ONE_KIND, _NO_BRACKETS)):
        return None
    try:
        value = _DECODER.decode(data)
    except (ValueError, RecursionError):
        return None
    return value if _ENCODER.encode(value) == data else None


def _is_deep(brackets: bytes) -> bool:
    """Tell whether brackets of one kind nest deeper than the limit, taking off the innermost level in each pass."""
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


class _RefusedError(ValueError):
    """Carries a reason through the JSON decoder."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _RefusedError("a key is repeated")
    return result


def _no_float(_text: str) -> Any:
    raise _RefusedError("a number is not an integer")


_DECODER = msgspec.json.Decoder(float_hook=_no_float)
_ENCODER = msgspec.json.Encoder()


def _bounded_integer(text: str) -> int:
    if len(text.removeprefix("-")) > 20:
        raise _RefusedError("a number is too large")
    return int(text)


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Tell whether containers nest deeper than `limit`, level by level."""
    level = _containers([value])
    for _ in range(limit):
        level = [child for item in level for child in _containers(item)]
    return bool(level)


def _containers(value: Any) -> list[Any]:
    """Return the lists and maps directly inside a list or map."""
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)]


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.JSON_MALFORMED, f"the text is not strict JSON: {why}")
