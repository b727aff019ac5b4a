"""Mutations that keep what a parser looks for first: structure-aware, and driven by a random source that is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

_INTERESTING: Final = (0, 1, 2, 127, 128, 255, 256, 1023, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
_LEAVES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    1.5,
    "",
    "0",
    "\x00",
    "é",
    [],
    {},
    [[]],
    "A" * 999,
)


def mutated(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed after one to four mutations."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_OPERATIONS)(random, data, seeds)
    return data


def _place(random: Random, data: bytes) -> int:
    return random.randrange(len(data) + 1)


def _flip(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Write a number that lengths and versions go wrong with, of either byte order."""
    size = random.choice((1, 2, 4, 8))
    value = random.choice(_INTERESTING) % (1 << 8 * size)
    at = _place(random, data)
    return data[:at] + value.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


def _step(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Make a byte one greater or smaller, as of a length."""
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([(data[at] + random.choice((-1, 1))) % 256]) + data[at + 1 :]


def _cut(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + data[at + random.choice((1, 1, 2, 8, 64)) :]


def _truncate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(random, data)]


def _insert(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + random.randbytes(random.choice((1, 1, 2, 8))) + data[at:]


def _repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, size = _place(random, data), random.choice((1, 4, 32, 200))
    return data[:at] + data[at : at + size] * random.choice((2, 2, 50)) + data[at + size :]


def _splice(random: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Go over to another seed at the same relative place."""
    other, share = random.choice(seeds), random.random()
    return data[: int(share * len(data))] + other[int(share * len(other)) :]


def _node(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Change one node of a JSON text; other bytes get a number instead."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _number(random, data, ())
    return json.dumps(_changed(random, value)).encode("utf-8", "surrogatepass")


def _changed(random: Random, value: Any) -> Any:
    if value and isinstance(value, dict) and random.random() < 0.9:
        name = random.choice(list(value))
        kind = random.random()
        rest = {key: item for key, item in value.items() if key != name}
        if kind < 0.15:
            return rest
        if kind < 0.25:
            return rest | {name + "x": value[name]}
        return value | {name: _changed(random, value[name])}
    if value and isinstance(value, list) and random.random() < 0.9:
        at = random.randrange(len(value))
        return [*value[:at], _changed(random, value[at]), *value[at + random.choice((0, 1)) :]]
    if value and isinstance(value, str) and random.random() < 0.6:
        raw = value.encode("utf-8", "surrogatepass")
        return _flip(random, raw, ()).decode("utf-8", "replace")
    return random.choice(_LEAVES)


_OPERATIONS: Final[tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...]] = (
    _flip,
    _number,
    _step,
    _cut,
    _truncate,
    _insert,
    _repeat,
    _splice,
    _node,
    _node,
)
