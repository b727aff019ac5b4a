"""JSON with one meaning: no repeated keys, no NaN, no number that is not an integer, bounded size and depth."""

from __future__ import annotations

import json
from typing import Any

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


_PLAIN = b"{}[]:,-0123456789"
"""What stands outside the strings of compact text without fractions, exponents and words."""
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_ONE_DIGIT = bytes.maketrans(b"123456789", b"000000000")
_LARGE = b"0" * 21


def _read_plain(text: str) -> Any:
    """Return the value of text as vendors write it: compact, of ASCII, without escapes and fractions; else None.

    Its structure can be checked without looking at each item, which takes a third of the time: outside of strings, a
    colon stands for a key, so a repeated one, which its map has lost, shows in their number.  Whatever is in doubt
    goes the long way, which says what is wrong.
    """
    if "\\" in text or not text.isascii():
        return None
    structure = b"".join(text.encode("ascii").split(b'"')[::2])
    if structure.translate(None, _PLAIN) or _LARGE in structure.translate(_ONE_DIGIT):
        return None
    brackets = structure.translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each pass takes off the innermost level
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if _count_keys(value) == structure.count(b":") else None


def _count_keys(value: Any) -> int:
    count, items = 0, [value]
    for item in items:  # grows meanwhile
        if type(item) is dict:
            count += len(item)
            items += item.values()
        elif type(item) is list:
            items += item
    return count


class _RefusedError(ValueError):
    """Carries a reason through the JSON decoder."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _RefusedError("a key is repeated")
    return result


def _no_float(_text: str) -> Any:
    raise _RefusedError("a number is not an integer")


def _bounded_integer(text: str) -> int:
    if len(text) > 20:
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
