"""Tensors as a model manifest describes them: name, element type, shape with bounded axes, range of values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from manifests import fields
from manifests.errors import ManifestCode, ManifestError

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
NUMERIC = INTEGERS | FLOATS | {"bool"}
DTYPES = NUMERIC | {"string"}

MAX_TENSOR_NAME = 256
MAX_RANK = 16
MAX_AXIS = 1 << 31
MAX_AXIS_NAME = 64
MAX_TEXT = 1 << 20
DEFAULT_TEXT = 4096

_OPTIONAL = ("minimum", "maximum", "allow_nan", "allow_infinity", "max_text")


@dataclass(frozen=True)
class Axis:
    """A dynamic axis with bounds.  Axes of one name have one length within a request, across all its tensors."""

    name: str
    minimum: int
    maximum: int


Dimension: TypeAlias = int | Axis


@dataclass(frozen=True)
class TensorField:
    """One input or output.  Ranges, NaN and text limits concern inputs alone."""

    name: str
    dtype: str
    """bool, int8 to int64, uint8 to uint64, float16, float32, float64, or string."""
    shape: tuple[Dimension, ...]
    minimum: int | float | None = None
    """Least value that a request may hold (int for integer types, float for float types); None: any."""
    maximum: int | float | None = None
    allow_nan: bool = False
    allow_infinity: bool = False
    max_text: int | None = None
    """Most UTF-8 bytes of one element; set for string inputs, None elsewhere."""

    def bare(self, **changes: Any) -> TensorField:
        """Return the tensor after a step: without the promises about its values, and with these changes."""
        plain = TensorField(self.name, self.dtype, self.shape)
        return dataclasses.replace(plain, **changes)

    def to_map(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults; a dynamic axis is written as its name."""
        shape = [axis.name if isinstance(axis, Axis) else axis for axis in self.shape]
        table: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": shape}
        for name in _OPTIONAL:
            value = getattr(self, name)
            if value is not None and value is not False:
                table[name] = value
        return table


def static(axis: Dimension, length: int) -> bool:
    """Tell whether an axis has this length in every request."""
    return axis == length or (isinstance(axis, Axis) and axis.minimum == axis.maximum == length)


def read_axes(value: object) -> dict[str, Axis]:
    """Read the table of dynamic axes; raises ManifestError `field-invalid`."""
    axes: dict[str, Axis] = {}
    for name, bounds in fields.of_type(value, "axes", dict).items():
        fields.text(name, "axis name", MAX_AXIS_NAME)
        fields.closed_map(bounds, f"axis {name!r}", ("minimum", "maximum"))
        low = fields.number(bounds["minimum"], "minimum", 0, MAX_AXIS)
        axes[name] = Axis(name, low, fields.number(bounds["maximum"], "maximum", max(1, low), MAX_AXIS))
    return axes


def axes_map(tensors: tuple[TensorField, ...]) -> dict[str, dict[str, int]]:
    """Return the table of the dynamic axes that the tensors use; raises ManifestError `manifest-invalid`."""
    axes: dict[str, Axis] = {}
    for axis in (axis for tensor in tensors for axis in tensor.shape if isinstance(axis, Axis)):
        if axes.setdefault(axis.name, axis) != axis:
            raise ManifestError(ManifestCode.MANIFEST_INVALID, f"axis {axis.name!r} has two different bounds")
    return {name: {"minimum": axis.minimum, "maximum": axis.maximum} for name, axis in axes.items()}


def read_tensor(value: object, axes: dict[str, Axis], *, is_input: bool) -> TensorField:
    """Read an input or output; raises ManifestError `field-invalid`."""
    table = fields.closed_map(value, "tensor", ("name", "dtype", "shape"), _OPTIONAL if is_input else ())
    name = fields.text(table["name"], "name", MAX_TENSOR_NAME)
    dtype = fields.text(table["dtype"], "dtype", 16)
    if dtype not in DTYPES:
        raise _invalid(f"{name!r} has an unknown dtype", ", ".join(sorted(DTYPES)), dtype)
    shape = tuple(_dimension(item, axes) for item in fields.list_of(table["shape"], "shape", MAX_RANK))
    limits = {end: _limit(table.get(end), dtype, end) for end in ("minimum", "maximum")}
    flags = {flag: _flag(table.get(flag, False), dtype, flag) for flag in ("allow_nan", "allow_infinity")}
    tensor = TensorField(name, dtype, shape, **limits, **flags, max_text=_max_text(table, dtype, is_input=is_input))
    if tensor.minimum is not None and tensor.maximum is not None and tensor.minimum > tensor.maximum:
        raise _invalid(f"{name!r} has an empty range", "minimum <= maximum", "minimum > maximum")
    return tensor


def _dimension(item: object, axes: dict[str, Axis]) -> Dimension:
    if isinstance(item, str):
        if item not in axes:
            raise _invalid(f"the shape names an axis {item[:64]!r} without bounds", "one of [axes]", item[:64])
        return axes[item]
    return fields.number(item, "shape", 0, MAX_AXIS)


def _limit(value: object, dtype: str, name: str) -> Any:
    """Return a range's end in the tensor's own kind of number: TOML may write 0 for 0.0."""
    if value is None:
        return None
    if dtype in INTEGERS:
        return fields.number(value, name, *INTEGER_BITS[dtype])
    if dtype not in FLOATS:
        raise _invalid(f"a {name} makes no sense for {dtype}", "a number type", dtype)
    if type(value) is int and abs(value) <= 1 << 53:
        value = float(value)
    number = fields.of_type(value, name, float)
    if not math.isfinite(number):
        raise _invalid(f"the {name} is not finite", "a finite number", number)
    return number


def _flag(value: object, dtype: str, name: str) -> bool:
    flag = fields.of_type(value, name, bool)
    if flag and dtype not in FLOATS:
        raise _invalid(f"{name} makes no sense for {dtype}", "a float type", dtype)
    return flag


def _max_text(table: dict[str, Any], dtype: str, *, is_input: bool) -> int | None:
    if dtype == "string" and is_input:
        return fields.number(table.get("max_text", DEFAULT_TEXT), "max_text", 1, MAX_TEXT)
    if "max_text" in table:
        raise _invalid("max_text makes no sense here", "a string input", dtype)
    return None


def _invalid(message: str, expected: object, found: object) -> ManifestError:
    return ManifestError(ManifestCode.FIELD_INVALID, message, expected=expected, found=found)
