"""What the values of an input may be, beyond one range for all of them: sets, features, whole numbers, characters.

Each promise is the owner's, signed with the model.  docs/model-manifest.md explains them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from manifests import fields
from manifests.errors import ManifestCode, ManifestError

Number: TypeAlias = int | float
Scalar: TypeAlias = int | float | str

INTEGER_BITS = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
"""Least and greatest value of each integer type."""
INTEGERS = frozenset(INTEGER_BITS)
FLOATS = frozenset({"float16", "float32", "float64"})
_GREATEST = {"float16": 65504.0, "float32": 3.4028234663852886e38}
"""Greatest finite value of the types that have less of them than the manifest's own numbers."""

MAX_FEATURES = 4096
"""Features of one input that have promises of their own: a manifest of 1 MiB holds no more of any use."""
MAX_VALUES = 4096
"""Values of one set."""
MAX_VALUE = 256
"""Characters of one text in a set."""
MAX_FEATURE_NAME = 128


class Characters(StrEnum):
    """Which characters a text may hold; every one of them is well-formed UTF-8 in any case."""

    ANY = "any"
    """Every Unicode scalar value."""
    TEXT = "text"
    """No control characters but tab, line feed and carriage return, and none that turn the direction of writing."""
    ASCII = "ascii"
    """Printable ASCII, tab, line feed and carriage return."""


@dataclass(frozen=True)
class Feature:
    """What one position of an input's last axis may hold; None or an empty set promises nothing."""

    index: int
    name: str | None = None
    """The owner's word for it, which a refusal repeats to the client."""
    minimum: Number | None = None
    maximum: Number | None = None
    values: tuple[Scalar, ...] = ()
    """All values that it may hold, in ascending order."""

    def to_map(self) -> dict[str, Any]:
        """Return the fields that are set."""
        table: dict[str, Any] = {"index": self.index}
        for name in ("name", "minimum", "maximum"):
            if getattr(self, name) is not None:
                table[name] = getattr(self, name)
        return table | ({"values": list(self.values)} if self.values else {})


def read_features(value: object, dtype: str, length: int | None) -> tuple[Feature, ...]:
    """Read the features of a tensor whose last axis has `length` elements, None where that is not fixed.

    Raises ManifestError `field-invalid`.
    """
    items = [_feature(item, dtype) for item in fields.list_of(value, "features", MAX_FEATURES)]
    if items and length is None:
        raise invalid("features need a last axis of fixed length", "a number at the end of shape", "a named axis")
    if any(feature.index >= (length or 0) for feature in items):
        raise invalid("a feature lies beyond the last axis", f"an index below {length}", max(f.index for f in items))
    fields.ascending([feature.index for feature in items], "features")
    return tuple(items)


def _feature(value: object, dtype: str) -> Feature:
    table = fields.closed_map(value, "feature", ("index",), ("name", "minimum", "maximum", "values"))
    index = fields.number(table["index"], "index", 0)
    name = fields.text(table["name"], "name", MAX_FEATURE_NAME) if "name" in table else None
    low, high = read_range(table, dtype, f"feature {index}")
    values = read_values(table.get("values", []), dtype)
    if values and (low is not None or high is not None):
        raise invalid(f"feature {index} has a range and a set of values", "one of them", "both")
    return Feature(index, name, low, high, values)


def read_range(table: dict[str, Any], dtype: str, what: str) -> tuple[Any, Any]:
    """Return `minimum` and `maximum` of a table; raises ManifestError `field-invalid`."""
    low, high = (read_number(table.get(end), dtype, end) for end in ("minimum", "maximum"))
    if low is not None and high is not None and low > high:
        raise invalid(f"{what} has an empty range", "minimum <= maximum", "minimum > maximum")
    return low, high


def read_number(value: object, dtype: str, name: str) -> Any:
    """Return a number in the tensor's own kind: TOML may write 0 for 0.0; None stays None."""
    if value is None:
        return None
    if dtype in INTEGERS:
        return fields.number(value, name, *INTEGER_BITS[dtype])
    if dtype not in FLOATS:
        raise invalid(f"a {name} makes no sense for {dtype}", "a number type", dtype)
    if type(value) is int and abs(value) <= 1 << 53:
        value = float(value)
    number = fields.of_type(value, name, float)
    if not math.isfinite(number):
        raise invalid(f"the {name} is not finite", "a finite number", number)
    return number


def read_values(value: object, dtype: str) -> tuple[Any, ...]:
    """Read a set of values, which has one encoding: strictly ascending; raises ManifestError `field-invalid`."""
    items = fields.list_of(value, "values", MAX_VALUES)
    read = [fields.text(v, "values", MAX_VALUE) if dtype == "string" else read_number(v, dtype, "value") for v in items]
    if dtype in _GREATEST and any(abs(float(item)) > _GREATEST[dtype] for item in read):
        raise invalid(f"a set of values holds one that {dtype} does not have", f"at most {_GREATEST[dtype]}", "more")
    fields.ascending(read, "values")
    return tuple(read)


def invalid(message: str, expected: object, found: object) -> ManifestError:
    """Make the error for a tensor whose fields make no sense together."""
    return ManifestError(ManifestCode.FIELD_INVALID, message, expected=expected, found=found)
