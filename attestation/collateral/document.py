"""Collateral as a file: one JSON object whose fields are text or hex, the same ones always."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Self

from attestation import strict_json
from attestation.errors import EvidenceCode, EvidenceError

MAX_COLLATERAL = 32 * 1024 * 1024
"""Revocation lists may grow to megabytes, and hex doubles them."""


def text() -> Any:
    """Declare a field whose bytes are UTF-8 and stand in the file as they are."""
    return field(repr=False, metadata={"form": "text"})


def hexadecimal() -> Any:
    """Declare a field whose bytes stand in the file as hex."""
    return field(repr=False, metadata={"form": "hex"})


@dataclass(frozen=True)
class Collateral:
    """Collateral of one platform or family; nothing in it is verified.  A subclass declares the fields of its TEE.

    passed_over: fields that other tools write, as text or null, and that nothing here uses.
    """

    passed_over: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Decode a collateral file; raises EvidenceError `json-malformed` or `collateral-malformed`."""
        value = strict_json.loads(_text(data), max_size=MAX_COLLATERAL)
        if not isinstance(value, dict):
            raise malformed("it is no JSON object")
        names = {item.name for item in fields(cls)}
        if missing := names - value.keys():
            raise malformed(f"it lacks {', '.join(sorted(missing))}", sorted(names))
        if unknown := value.keys() - names - cls.passed_over:
            raise malformed(f"it has a field that is not known, {min(unknown)[:64]!r}", sorted(names))
        if any(not isinstance(value[name], str | None) for name in cls.passed_over & value.keys()):
            raise malformed(f"{min(cls.passed_over & value.keys())} is neither text nor null")
        return cls(**{item.name: _decode(item, value[item.name]) for item in fields(cls)})

    def to_json(self) -> str:
        """Encode to the text of a collateral file."""
        return json.dumps({item.name: _encode(item, getattr(self, item.name)) for item in fields(self)}, indent=1)


def malformed(why: str, expected: object = None) -> EvidenceError:
    """Return the error for collateral that is not usable."""
    return EvidenceError(EvidenceCode.COLLATERAL_MALFORMED, f"the collateral is not usable: {why}", expected=expected)


def without_mark(data: bytes) -> bytes:
    """Return text without the mark of UTF-8 (U+FEFF) that some editors and shells put before it."""
    return data.removeprefix(codecs.BOM_UTF8)


def _text(data: bytes | str) -> str:
    try:
        return data if isinstance(data, str) else without_mark(data).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("it is not UTF-8") from None


def _decode(item: Field[Any], value: Any) -> bytes:
    if not isinstance(value, str):
        raise malformed(f"{item.name} is not a string")
    try:
        if item.metadata["form"] == "text":
            return value.encode("utf-8")
        if len(value) % 2 or re.fullmatch(r"[0-9a-fA-F]*", value) is None:
            raise malformed(f"{item.name} is not hex")
        return bytes.fromhex(value)
    except UnicodeEncodeError:
        raise malformed(f"{item.name} is not text") from None


def _encode(item: Field[Any], value: bytes) -> str:
    return value.decode("utf-8") if item.metadata["form"] == "text" else value.hex()
