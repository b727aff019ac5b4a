"""Typed access to the fields of a decoded map, with every departure refused under one code."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from manifests.errors import ManifestCode, ManifestError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

U63 = (1 << 63) - 1
"""Counters and times fit a signed 64-bit column of any database."""

_LONGEST_NAME = 64
"""What is compared and repeated of a name that a stranger chose."""

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    bytes: "bytes",
    list: "a list",
    dict: "a map",
    type(None): "nothing",
}

VERSION = 1
"""The one version of every document and file so far."""


def _refuse(name: str, expected: object, found: object) -> ManifestError:
    return ManifestError(
        ManifestCode.FIELD_INVALID, f"field {name!r} is not {expected}", expected=expected, found=found
    )


def _word(kind: type[Any]) -> str:
    return _WORDS.get(kind, kind.__name__)


def closed_map(value: object, what: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return `value` as a map that has exactly the required keys and at most the optional ones."""
    if not isinstance(value, dict):
        raise ManifestError(
            ManifestCode.FIELD_INVALID, f"{what} is not a map", expected="a map", found=_word(type(value))
        )
    required = frozenset(required)
    known = required | frozenset(optional)
    if unknown := value.keys() - known:
        raise _unknown(what, min(map(str, unknown)), known)
    if missing := required - value.keys():
        names = ", ".join(map(repr, sorted(missing)))
        raise ManifestError(ManifestCode.FIELD_INVALID, f"{what} lacks {names}", expected=names, found="nothing")
    return value


def _unknown(what: str, name: str, known: frozenset[str]) -> ManifestError:
    """Name one unknown field, and the known one that was probably meant."""
    name = name[:_LONGEST_NAME]
    meant = difflib.get_close_matches(name, sorted(known), 1)
    return ManifestError(
        ManifestCode.FIELD_INVALID,
        f"unknown field {name!r} in {what}" + (f"; did you mean {meant[0]!r}?" if meant else ""),
        expected=", ".join(sorted(known)),
        found=name,
    )


def check_version(value: object, what: str, key: str = "version") -> None:
    """Raise ManifestError `version-unsupported` if `value` is a map whose entry `key` is above 1.

    To be called before anything else is looked at: of a later version nothing is known, not even its fields.
    """
    version = value.get(key) if isinstance(value, dict) else None
    if type(version) is int and version > VERSION:
        raise ManifestError(
            ManifestCode.VERSION_UNSUPPORTED,
            f"{what} is of a later version than this program knows",
            expected=f"version {VERSION}",
            found=f"version {version}" if version <= U63 else "a version beyond 63 bits",
            remedy="use a newer release",
        )


def versioned_map(value: object, what: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return `value` as `closed_map` does, where `version` is one more key that is required, and is 1.

    Raises ManifestError `version-unsupported` for a later version, `field-invalid` for all else.
    """
    check_version(value, what)
    checked = closed_map(value, what, ("version", *required), optional)
    number(checked["version"], "version", VERSION, VERSION)
    return checked


def of_type(value: object, name: str, kind: type[T]) -> T:
    """Return `value` if it is exactly of that type (a bool is no int)."""
    if type(value) is not kind:
        raise _refuse(name, _word(kind), _word(type(value)))
    return value  # type: ignore[return-value, unused-ignore]


def fixed_bytes(value: object, name: str, size: int) -> bytes:
    """Return a byte string of exactly `size` bytes."""
    data = of_type(value, name, bytes)
    if len(data) != size:
        raise _refuse(name, f"{size} bytes long", len(data))
    return data


def bounded_bytes(value: object, name: str, limit: int) -> bytes:
    """Return a byte string of at most `limit` bytes."""
    data = of_type(value, name, bytes)
    if len(data) > limit:
        raise _refuse(name, f"at most {limit} bytes long", len(data))
    return data


def text(value: object, name: str, limit: int) -> str:
    """Return a non-empty printable string of at most `limit` characters."""
    string = of_type(value, name, str)
    if not 0 < len(string) <= limit or not string.isprintable():
        raise _refuse(name, f"printable text of 1 to {limit} characters", f"{len(string)} characters")
    return string


def number(value: object, name: str, low: int, high: int = U63) -> int:
    """Return an integer within the closed range."""
    integer = of_type(value, name, int)
    if not low <= integer <= high:
        raise _refuse(name, f"between {low} and {high}", integer)
    return integer


def list_of(value: object, name: str, limit: int) -> list[Any]:
    """Return a list of at most `limit` items."""
    items = of_type(value, name, list)
    if len(items) > limit:
        raise _refuse(name, f"at most {limit} items long", len(items))
    return items


def member(kind: type[E], value: object, name: str) -> E:
    """Return the member of an enumeration whose value this string is."""
    string = of_type(value, name, str)
    if string not in {str(item) for item in kind}:
        raise _refuse(name, f"one of {', '.join(str(item) for item in kind)}", "another word")
    return kind(string)


def ascending(items: list[Any], name: str) -> None:
    """Refuse items that are not in strictly ascending order: a set has one encoding."""
    if any(not first < second for first, second in itertools.pairwise(items)):
        raise ManifestError(ManifestCode.FIELD_INVALID, f"{name!r} is not strictly ascending")
