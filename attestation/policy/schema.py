"""How a policy's tables are declared: frozen dataclasses whose fields say what TOML may put there.

A table is closed, a list that is present is never empty, and what is absent takes the field's default, which refuses.
A field whose values can accept what protects nothing, or less than the TEE can, says so where it is declared: presets
exclude such values, and a what-if marks them (`dangers`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from attestation.errors import PolicyCode, PolicyError
from attestation.policy.platforms import PLATFORM_IDS
from attestation.validity import parse_rfc3339
from manifests import fields, signing
from manifests.errors import ManifestError

T = TypeVar("T", bound="Table")

MAX_ITEMS = 4096
"""Room for one entry per machine of a large fleet."""
MAX_TEXT = 128
MAX_ID = 256
"""The id of an AMD chip takes 128 hex digits."""

U8, U16, U32, U64 = ((1 << bits) - 1 for bits in (8, 16, 32, 64))

_Reader = Callable[[Any, str], Any]
_Teller = Callable[[Any], Iterator[str]]
"""From a field's value, read or as TOML has it, to what of it is dangerous: text that follows the field's name."""


def refuse(code: PolicyCode, message: str, *, remedy: str | None = None) -> NoReturn:
    """Raise the PolicyError of an unusable policy."""
    raise PolicyError(code, f"the policy: {message}", remedy=remedy)


# ------------------------------------------------------------------------------------------------ kinds of fields


def hexes(size: int, default: tuple[bytes, ...] = ()) -> Any:
    """Declare a list of byte strings of `size` bytes, in TOML lower-case hex; without duplicates, sorted."""
    return _declared(functools.partial(_hexes, size=size), default)


def keys() -> Any:
    """Declare a list of Ed25519 public keys, which has to be there."""
    return _declared(_keys, _REQUIRED)


def hex_value(size: int, default: bytes | None) -> Any:
    """Declare one byte string of `size` bytes."""
    return _declared(functools.partial(_hex, size=size), default)


def public_key() -> Any:
    """Declare one Ed25519 public key; None leaves it out."""
    return _declared(_key, None)


def number(default: int | None, low: int = 0, high: int = fields.U63, *, safe: int | None = None) -> Any:
    """Declare an integer within bounds; None as a default leaves it open.  safe: what is above it is dangerous."""
    tell = None if safe is None else functools.partial(_above, safe=safe)
    return _declared(functools.partial(fields.number, low=low, high=high), default, tell)


def required_number(low: int, high: int = fields.U63) -> Any:
    """Declare an integer that has to be there."""
    return _declared(functools.partial(fields.number, low=low, high=high), _REQUIRED)


def flag(*, dangerous: bool = False) -> Any:
    """Declare a boolean that is false unless it is named; dangerous: where it is true."""
    return _declared(functools.partial(fields.of_type, kind=bool), default=False, tell=_set if dangerous else None)


def mask(default: int, bits: int, *, safe: int | None = None) -> Any:
    """Declare the set of bits that may be set; safe: those beyond it are dangerous."""
    tell = None if safe is None else functools.partial(_beyond, safe=safe)
    return _declared(functools.partial(fields.number, low=0, high=(1 << bits) - 1), default, tell)


def texts(*known: str, default: tuple[str, ...] = (), dangerous: tuple[str, ...] = ()) -> Any:
    """Declare a list of texts, each of `known` unless that is empty; dangerous: some of them."""
    tell = functools.partial(_named, dangerous=dangerous) if dangerous else None
    return _declared(functools.partial(_texts, known=known), default, tell)


def required_texts(*known: str) -> Any:
    """Declare a list of texts that has to be there and to name something."""
    return _declared(functools.partial(_required_texts, known=known), _REQUIRED)


def floors(*names: str, high: int = U8) -> Any:
    """Declare a table of least versions by component; one that is absent has none.  Kept as sorted pairs."""
    return _declared(functools.partial(_floors, names=names, high=high), ())


def grouped_floors(groups: Mapping[str, tuple[str, ...]], *, required: bool = False, high: int = U8) -> Any:
    """Declare a table of `floors` tables, by group: each group has components of its own.  Kept as sorted pairs."""
    return _declared(functools.partial(_grouped, groups=groups, high=high), _REQUIRED if required else ())


def dotted(parts: int, default: str | None = None) -> Any:
    """Declare a version of exactly `parts` numbers from 0 to 255 with dots between them; None leaves it open."""
    return _declared(functools.partial(_dotted, parts=parts), default)


def named_hexes(sizes: Mapping[str, int]) -> Any:
    """Declare a table of `hexes` lists by name, each of byte strings of the size of its name.  Kept as sorted pairs."""
    return _declared(functools.partial(_named_hexes, sizes=sizes), ())


def platform_ids() -> Any:
    """Declare a table of lists of platforms' ids, by the name of their kind.  Kept as sorted pairs of texts."""
    return _declared(_platform_ids, ())


def moment() -> Any:
    """Declare a point in time as text of the form "2024-11-13T00:00:00Z"; None leaves it open."""
    return _declared(_moment, None)


def long_text(limit: int) -> Any:
    """Declare text of several lines and at most `limit` characters; None leaves it out."""
    return _declared(functools.partial(_long_text, limit=limit), None)


_REQUIRED = dataclasses.MISSING


def _declared(read: _Reader, default: Any, tell: _Teller | None = None) -> Any:
    if default is _REQUIRED:
        return dataclasses.field(metadata={"read": read, "tell": tell})
    return dataclasses.field(default=default, metadata={"read": read, "tell": tell})


def _set(value: Any) -> Iterator[str]:
    if value:
        yield ""


def _above(value: Any, *, safe: int) -> Iterator[str]:
    if isinstance(value, int) and value > safe:
        yield f" = {value}"


def _beyond(value: Any, *, safe: int) -> Iterator[str]:
    if isinstance(value, int) and value & ~safe:
        yield f" with {value & ~safe:#x}"


def _named(value: Any, *, dangerous: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, list | tuple):
        yield from (f' "{word}"' for word in dangerous if word in value)


def _items(value: Any, name: str, *, least: int = 1) -> list[Any]:
    items = fields.list_of(value, name, MAX_ITEMS)
    if len(items) < least:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty list", remedy="name what is accepted, or leave it out")
    return items


def _hexes(value: Any, name: str, *, size: int) -> tuple[bytes, ...]:
    return tuple(sorted({_hex(item, name, size=size) for item in _items(value, name)}))


def _keys(value: Any, name: str) -> tuple[bytes, ...]:
    return tuple(sorted({_key(item, name) for item in _items(value, name)}))


def _key(value: Any, name: str) -> bytes:
    key = _hex(value, name, size=signing.KEY_SIZE)
    try:
        return signing.check_public_key(key)
    except ManifestError:
        remedy = f"copy the key from the card (.pub) of who signs: {name} takes Ed25519 keys"
        refuse(PolicyCode.POLICY_MALFORMED, f"{name}: {key.hex()} is not an Ed25519 public key", remedy=remedy)


def _texts(value: Any, name: str, *, known: tuple[str, ...], least: int = 0, limit: int = MAX_TEXT) -> tuple[str, ...]:
    found = tuple(sorted({fields.text(item, name, limit) for item in _items(value, name, least=least)}))
    unknown = set(found) - set(known) if known else set()
    if unknown:
        refuse(PolicyCode.POLICY_MALFORMED, f"{name} knows no {min(unknown)!r}; it takes {', '.join(known)}")
    return found


def _required_texts(value: Any, name: str, *, known: tuple[str, ...]) -> tuple[str, ...]:
    found = _texts(value, name, known=known)
    if not found:
        refuse(
            PolicyCode.POLICY_VACUOUS,
            f"{name} is an empty list, and would accept nothing",
            remedy=f"name in {name} what is accepted, of {', '.join(known)}",
        )
    return found


def _floors(value: Any, name: str, *, names: tuple[str, ...], high: int) -> tuple[tuple[str, int], ...]:
    table = fields.closed_map(value, name, (), names)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy="name a component, or leave it out")
    return tuple(sorted((key, fields.number(item, f"{name}.{key}", 0, high)) for key, item in table.items()))


def _grouped(value: Any, name: str, *, groups: Mapping[str, tuple[str, ...]], high: int) -> tuple[tuple[str, Any], ...]:
    table = fields.closed_map(value, name, (), groups)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy=f"name one of {', '.join(groups)}")
    return tuple(
        sorted((key, _floors(item, f"{name}.{key}", names=groups[key], high=high)) for key, item in table.items())
    )


def _dotted(value: Any, name: str, *, parts: int) -> str:
    text = fields.of_type(value, name, str)
    if re.fullmatch(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2}))*", text):
        numbers = [int(part) for part in text.split(".")]
        if len(numbers) == parts and max(numbers) <= U8:
            return str(text)
    refuse(PolicyCode.POLICY_MALFORMED, f"{name} takes {parts} numbers up to 255, such as {'.'.join('1' * parts)!r}")


def _named_hexes(value: Any, name: str, *, sizes: Mapping[str, int]) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    table = fields.closed_map(value, name, (), sizes)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy=f"name one of {', '.join(sizes)}")
    return tuple(sorted((key, _hexes(item, f"{name}.{key}", size=sizes[key])) for key, item in table.items()))


def _platform_ids(value: Any, name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    table = fields.closed_map(value, name, (), PLATFORM_IDS)
    if not table:
        refuse(PolicyCode.POLICY_VACUOUS, f"{name} is an empty table", remedy=f"name one of {', '.join(PLATFORM_IDS)}")
    lists = {kind: _texts(items, f"{name}.{kind}", known=(), least=1, limit=MAX_ID) for kind, items in table.items()}
    for kind, ids in lists.items():
        if not all(map(PLATFORM_IDS[kind].admits, ids)):
            refuse(PolicyCode.POLICY_MALFORMED, f"{name}.{kind} takes {PLATFORM_IDS[kind]}")
    return tuple(sorted(lists.items()))


def _moment(value: Any, name: str) -> str:
    text = fields.text(value, name, MAX_TEXT)
    try:
        parse_rfc3339(text)
    except ValueError:
        refuse(PolicyCode.POLICY_MALFORMED, f"{name} takes a time such as '2024-11-13T00:00:00Z'")
    return text


def _long_text(value: Any, name: str, *, limit: int) -> str:
    text = fields.of_type(value, name, str)
    if len(text) > limit:
        refuse(PolicyCode.POLICY_MALFORMED, f"{name} is longer than {limit} characters")
    return text


def _hex(value: object, name: str, *, size: int) -> bytes:
    text = fields.of_type(value, name, str)
    if re.fullmatch(r"[0-9a-f]*", text) is None or len(text) != 2 * size:
        refuse(PolicyCode.POLICY_MALFORMED, f"{name} takes {size} bytes as {2 * size} lower-case hex digits")
    return bytes.fromhex(text)


# ------------------------------------------------------------------------------------------------ tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Base of the tables.  `check` refuses what no field can tell alone: the vacuous, and what excludes itself."""

    def check(self, given: frozenset[str]) -> None:
        """Raise PolicyError if the table cannot stand; `given` are the fields that TOML names."""

    @property
    def measurements(self) -> tuple[bytes, ...]:
        """What identifies the accepted code, for people; empty for a table that is not of a TEE."""
        return ()

    @property
    def anchors(self) -> tuple[bytes, ...]:
        """SHA-256 of what trust may end in besides the vendors' pinned roots; empty for all TEEs that have some."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as TOML would have them, leaving out what is unset or empty."""
        return {name: _plain(value) for name, value in vars(self).items() if value is not None and value != ()}


def read_table(kind: type[T], value: object, name: str) -> T:
    """Return a table as its dataclass; raises PolicyError, or ManifestError for a wrong type."""
    declared = {item.name: item for item in dataclasses.fields(kind)}
    table = fields.closed_map(value, f"[{name}]", (), declared)
    missing = [key for key, item in declared.items() if item.default is _REQUIRED and key not in table]
    if missing:
        refuse(PolicyCode.POLICY_VACUOUS, f"[{name}] does not say {missing[0]}", remedy=f"add {missing[0]} to it")
    read = kind(**{key: declared[key].metadata["read"](given, key) for key, given in table.items()})
    read.check(frozenset(table))
    return read


def dangers(kind: type[Table], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of a table accepts what protects nothing, or less than the TEE can: its field, and which value.

    values: by field, as they were read or as TOML has them; what is of a wrong type is not judged here.
    """
    for item in dataclasses.fields(kind):
        tell = item.metadata.get("tell")
        if tell is not None and item.name in values:
            yield from (f"{item.name}{which}" for which in tell(values[item.name]))


def accepts_danger(table: Table, field: str, found: Any) -> bool:
    """Tell whether a value that evidence has is beyond what the field declares as safe.

    A check that passes such a value, as its policy names it, warns; and what-ifs mark the change that names it.
    """
    return any(True for _ in dangers(type(table), {field: found}))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return {key: _plain(item) for key, item in value}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
