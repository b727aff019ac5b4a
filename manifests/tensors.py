"""Tensors as a model manifest describes them: name, element type, shape with bounded axes, range of values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeAlias

from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.values import (
    FLOATS,
    INTEGERS,
    Characters,
    Feature,
    Scalar,
    invalid,
    read_features,
    read_range,
    read_values,
)

NUMERIC = INTEGERS | FLOATS | {"bool"}
DTYPES = NUMERIC | {"string"}

MAX_TENSOR_NAME = 256
MAX_RANK = 16
MAX_AXIS = 1 << 31
MAX_AXIS_NAME = 64
MAX_TEXT = 1 << 20
DEFAULT_TEXT = 4096

_FLAGS = ("allow_nan", "allow_infinity", "allow_subnormal", "whole")
_OPTIONAL = ("minimum", "maximum", "max_text", *_FLAGS, "values", "features", "below_axis", "min_text", "characters")


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
    allow_subnormal: bool = False
    """Admit numbers too small for their type's full precision, on which processors are slow and which betray time."""
    whole: bool = False
    """Float inputs whose values are whole numbers, such as counts and categories."""
    values: tuple[Scalar, ...] = ()
    """All values that an element may hold, in ascending order; empty: any."""
    features: tuple[Feature, ...] = ()
    """Promises about single positions of the last axis, by ascending index."""
    below_axis: str | None = None
    """Integer inputs that count positions along this axis: each value is at least 0 and below its length."""
    min_text: int = 0
    """Least UTF-8 bytes of one element of a string input."""
    characters: Characters = Characters.ANY

    def bare(self, **changes: Any) -> TensorField:
        """Return the tensor after a step: without the promises about its values, and with these changes."""
        plain = TensorField(self.name, self.dtype, self.shape)
        return dataclasses.replace(plain, **changes)

    def to_map(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults; a dynamic axis is written as its name."""
        shape = [axis.name if isinstance(axis, Axis) else axis for axis in self.shape]
        table: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": shape}
        for name in ("minimum", "maximum", "max_text", *_FLAGS, "values", "below_axis", "min_text"):
            value = getattr(self, name)
            if value is not None and value is not False and value != () and (name, value) != ("min_text", 0):
                table[name] = list(value) if isinstance(value, tuple) else value
        if self.features:
            table["features"] = [feature.to_map() for feature in self.features]
        if self.characters is not Characters.ANY:
            table["characters"] = str(self.characters)
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


def check_relations(inputs: tuple[TensorField, ...]) -> None:
    """Check that inputs relate to axes that requests have; raises ManifestError `manifest-invalid`."""
    known = {axis.name for tensor in inputs for axis in tensor.shape if isinstance(axis, Axis)}
    for tensor in inputs:
        if tensor.below_axis is not None and tensor.below_axis not in known:
            raise ManifestError(ManifestCode.MANIFEST_INVALID, f"{tensor.name!r} is bound to an axis that no input has")


def read_tensor(value: object, axes: dict[str, Axis], *, is_input: bool) -> TensorField:
    """Read an input or output; raises ManifestError `field-invalid`."""
    table = fields.closed_map(value, "tensor", ("name", "dtype", "shape"), _OPTIONAL if is_input else ())
    name = fields.text(table["name"], "name", MAX_TENSOR_NAME)
    dtype = fields.text(table["dtype"], "dtype", 16)
    if dtype not in DTYPES:
        raise invalid(f"{name!r} has an unknown dtype", ", ".join(sorted(DTYPES)), dtype)
    shape = tuple(_dimension(item, axes) for item in fields.list_of(table["shape"], "shape", MAX_RANK))
    low, high = read_range(table, dtype, repr(name))
    flags = {flag: _flag(table.get(flag, False), dtype, flag) for flag in _FLAGS}
    length = shape[-1] if shape and isinstance(shape[-1], int) else None
    return TensorField(
        name,
        dtype,
        shape,
        low,
        high,
        max_text=_max_text(table, dtype, is_input=is_input),
        values=read_values(table.get("values", []), dtype),
        features=read_features(table.get("features", []), dtype, length),
        below_axis=_below_axis(table.get("below_axis"), dtype, axes),
        min_text=_min_text(table, dtype),
        characters=_characters(table, dtype),
        **flags,
    )


def _dimension(item: object, axes: dict[str, Axis]) -> Dimension:
    if isinstance(item, str):
        if item not in axes:
            raise invalid(f"the shape names an axis {item[:64]!r} without bounds", "one of [axes]", item[:64])
        return axes[item]
    return fields.number(item, "shape", 0, MAX_AXIS)


def _flag(value: object, dtype: str, name: str) -> bool:
    flag = fields.of_type(value, name, bool)
    if flag and dtype not in FLOATS:
        raise invalid(f"{name} makes no sense for {dtype}", "a float type", dtype)
    return flag


def _max_text(table: dict[str, Any], dtype: str, *, is_input: bool) -> int | None:
    if dtype == "string" and is_input:
        return fields.number(table.get("max_text", DEFAULT_TEXT), "max_text", 1, MAX_TEXT)
    if "max_text" in table:
        raise invalid("max_text makes no sense here", "a string input", dtype)
    return None


def _min_text(table: dict[str, Any], dtype: str) -> int:
    if "min_text" not in table:
        return 0
    _only_text(dtype, "min_text")
    return fields.number(table["min_text"], "min_text", 1, table.get("max_text", DEFAULT_TEXT))


def _characters(table: dict[str, Any], dtype: str) -> Characters:
    if "characters" not in table:
        return Characters.ANY
    _only_text(dtype, "characters")
    return fields.member(Characters, table["characters"], "characters")


def _only_text(dtype: str, name: str) -> None:
    if dtype != "string":
        raise invalid(f"{name} makes no sense here", "a string input", dtype)


def _below_axis(value: object, dtype: str, axes: dict[str, Axis]) -> str | None:
    if value is None:
        return None
    name = fields.text(value, "below_axis", MAX_AXIS_NAME)
    if dtype not in INTEGERS:
        raise invalid("below_axis makes no sense here", "an integer type", dtype)
    if name not in axes:
        raise invalid(f"below_axis names an axis {name!r} without bounds", "one of [axes]", name)
    return name
