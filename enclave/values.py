"""Checks of the values of an input, each a closure over its own bounds, chosen once when a model is loaded.

A check costs microseconds on a small tensor.  What is wrong is looked for only after something is: a refusal names
the input, its feature and the bound, and never a value of the request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from enclave.errors import EnclaveCode, EnclaveError
from manifests.tensors import TensorField
from manifests.values import FLOATS, INTEGER_BITS, Characters, Feature

Array: TypeAlias = npt.NDArray[Any]
ValueCheck: TypeAlias = Callable[[Array], None]

_BITS = {
    "float16": (np.uint16, 0x7FFF, 0x0400),
    "float32": (np.uint32, 0x7FFF_FFFF, 0x0080_0000),
    "float64": (np.uint64, 0x7FFF_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000),
}
"""IEEE 754 (2019), section 3.4: a type of the same width, the bits without the sign, and the least normal number."""

_TINY = {"float16": 2.0**-14, "float32": 2.0**-126, "float64": 2.0**-1022}
"""The same least normal numbers, as numbers."""

_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_FORBIDDEN = {
    Characters.TEXT: re.compile(f"[{_CONTROLS}\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"),
    Characters.ASCII: re.compile(f"[{_CONTROLS}]|[^\x00-\x7f]"),
}
"""What a text may not hold; the signs that turn the direction of writing are those of Unicode's UAX #9, section 2."""


def compile_values(field: TensorField) -> tuple[ValueCheck, ...]:
    """Choose the checks that a field needs, the cheap ones first."""
    if field.dtype == "string":
        return tuple(_text_checks(field))
    checks: list[ValueCheck] = []
    if field.dtype in FLOATS and not _implies_finite(field):
        checks.append(_finite(field))
    if field.minimum is not None or field.maximum is not None:
        checks.append(_range(field))
    if field.dtype in FLOATS and not field.allow_subnormal and not _implies_normal(field):
        checks.append(_normal(field))
    if field.whole:
        checks.append(_whole(field))
    if field.values:
        checks.append(_members(field, "", field.values))
    if any(_is_ranged(feature) for feature in field.features):
        checks.append(_feature_ranges(field))
    checks += [_feature_members(field, feature) for feature in field.features if feature.values]
    return tuple(checks)


def refuse(code: EnclaveCode, name: str, bound: str) -> EnclaveError:
    """Make the refusal of an input: what it must be."""
    return EnclaveError(code, f"input {name!r} {bound}", field=name)


# ------------------------------------------------------------------------------------------ floating-point numbers


def _implies_finite(field: TensorField) -> bool:
    """Tell whether values between the bounds are all that a field may hold: NaN is on neither side of a bound."""
    bounded = field.minimum is not None and field.maximum is not None
    return (bounded and not field.allow_nan) or (field.allow_nan and field.allow_infinity)


def _implies_normal(field: TensorField) -> bool:
    """Tell whether whole numbers, or a bound away from zero, leave no room for subnormal ones."""
    tiny = _TINY[field.dtype]
    return (
        field.whole
        or (field.minimum is not None and field.minimum >= tiny)
        or (field.maximum is not None and field.maximum <= -tiny)
    )


def _finite(field: TensorField) -> ValueCheck:
    name = field.name
    test: Callable[[Array], Any]
    if field.allow_infinity:
        test, what = _no_nan, "no NaN"
    elif field.allow_nan:
        test, what = _no_infinity, "no infinity"
    else:
        test, what = np.isfinite, "finite values"

    def check(array: Array) -> None:
        if not np.logical_and.reduce(test(array), axis=None):
            raise refuse(EnclaveCode.TENSOR_NAN, name, f"must hold {what}")

    return check


def _no_nan(array: Array) -> Any:
    return ~np.isnan(array)


def _no_infinity(array: Array) -> Any:
    return ~np.isinf(array)


def _normal(field: TensorField) -> ValueCheck:
    """Compare bits, which no mode of the processor that flushes small numbers to zero changes."""
    name = field.name
    unsigned, magnitude, least = _BITS[field.dtype]
    mask, one, bound = unsigned(magnitude), unsigned(1), unsigned(least - 1)

    def check(array: Array) -> None:
        bits: Array = array.view(unsigned) & mask
        if np.logical_or.reduce(bits - one < bound, axis=None):  # zero less one is the greatest of all
            raise refuse(EnclaveCode.TENSOR_SUBNORMAL, name, "must hold no subnormal numbers")

    return check


def _whole(field: TensorField) -> ValueCheck:
    """NaN and the infinities, where they are admitted, are no concern of this check."""
    name = field.name

    def check(array: Array) -> None:
        if np.logical_or.reduce((np.rint(array) != array) & np.isfinite(array), axis=None):
            raise refuse(EnclaveCode.TENSOR_VALUE, name, "must hold whole numbers")

    return check


# ------------------------------------------------------------------------------------------ ranges


def _range(field: TensorField) -> ValueCheck:
    """Compare the extremes as Python numbers, which are exact for every integer type.

    Where NaN is not admitted the extremes are NaN if one value is, and no comparison with them holds.
    """
    name = field.name
    low = -math.inf if field.minimum is None else field.minimum
    high = math.inf if field.maximum is None else field.maximum
    least, greatest = (np.fmin, np.fmax) if field.allow_nan else (np.minimum, np.maximum)
    finite = _finite(field)

    def check(array: Array) -> None:
        if not array.size:
            return
        first, last = least.reduce(array, axis=None).item(), greatest.reduce(array, axis=None).item()
        if low <= first and last <= high:
            return
        if array.dtype.kind == "f":
            if field.allow_nan and first != first:  # noqa: PLR0124 - all values are NaN
                return
            finite(array)
        bound = f"no value below {low}" if first < low else f"no value above {high}"
        raise refuse(EnclaveCode.TENSOR_VALUE, name, f"must hold {bound}")

    return check


def _is_ranged(feature: Feature) -> bool:
    return feature.minimum is not None or feature.maximum is not None


def _feature_ranges(field: TensorField) -> ValueCheck:
    """Compare the last axis with two vectors of its own type; NaN, where it is admitted, lies beyond no bound."""
    name = field.name
    low, high = _bounds(field)

    def check(array: Array) -> None:
        wrong = (array < low) | (array > high)
        if np.logical_or.reduce(wrong, axis=None):
            index = int(np.argmax(wrong.reshape(-1, len(low)).any(axis=0)))
            feature = next(feature for feature in field.features if feature.index == index)
            raise refuse(EnclaveCode.TENSOR_VALUE, name, f"{_at(feature)} must hold {_range_words(feature)}")

    return check


def _bounds(field: TensorField) -> tuple[Array, Array]:
    """Return the least and greatest value of each position, rounded inwards to the tensor's type: exact for it."""
    length = field.shape[-1]
    assert isinstance(length, int)  # noqa: S101 - the manifest admits features nowhere else
    ends = INTEGER_BITS.get(field.dtype, (-math.inf, math.inf))
    low, high = np.full(length, ends[0], field.dtype), np.full(length, ends[1], field.dtype)
    for feature in field.features:
        if feature.minimum is not None:
            low[feature.index] = _inwards(feature.minimum, field.dtype, math.inf)
        if feature.maximum is not None:
            high[feature.index] = _inwards(feature.maximum, field.dtype, -math.inf)
    return low, high


def _inwards(bound: float, dtype: str, inside: float) -> Any:
    """Return the first number of a type, from a bound on, towards `inside`."""
    with np.errstate(over="ignore"):
        number = np.dtype(dtype).type(bound)
    if dtype in FLOATS and (float(number) < bound if inside > 0 else float(number) > bound):
        return np.nextafter(number, np.dtype(dtype).type(inside))
    return number


def _range_words(feature: Feature) -> str:
    if feature.minimum is None:
        return f"no value above {feature.maximum}"
    if feature.maximum is None:
        return f"no value below {feature.minimum}"
    return f"values between {feature.minimum} and {feature.maximum}"


# ------------------------------------------------------------------------------------------ sets of values


def _feature_members(field: TensorField, feature: Feature) -> ValueCheck:
    check = _members(field, f"{_at(feature)} ", feature.values)
    return lambda array: check(array[..., feature.index : feature.index + 1])


def _members(field: TensorField, where: str, values: tuple[Any, ...]) -> ValueCheck:
    """Look each value up in the ascending set; NaN is in none, and passes where the input admits it."""
    known = np.sort(np.array(values, field.dtype))
    last = len(known) - 1

    def check(array: Array) -> None:
        found = known[np.minimum(np.searchsorted(known, array), last)] == array
        if field.allow_nan:
            found |= np.isnan(array)
        if not np.logical_and.reduce(found, axis=None):
            raise refuse(EnclaveCode.TENSOR_CATEGORY, field.name, f"{where}must hold one of {_listed(values)}")

    return check


def _at(feature: Feature) -> str:
    """Name a feature to the client: by the owner's word for it, or its position."""
    return f"at position {feature.index}" + (f" ({feature.name})" if feature.name else "")


def _listed(values: tuple[Any, ...]) -> str:
    shown = ", ".join(map(repr, values[:8]))
    return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"


# ------------------------------------------------------------------------------------------ texts


def _text_checks(field: TensorField) -> list[ValueCheck]:
    checks = [_texts(field.name, field.min_text, field.max_text or 0)]
    if field.characters in _FORBIDDEN:
        checks.append(_characters(field.name, field.characters))
    if field.values:
        checks.append(_words(field.name, "", field.values))
    checks += [_feature_words(field, feature) for feature in field.features if feature.values]
    return checks


def _texts(name: str, least: int, limit: int) -> ValueCheck:
    def check(array: Array) -> None:
        for text in array.flat:
            if len(text) > limit or not least <= len(text.encode("utf-8")) <= limit:
                bounds = f"{least} to {limit}" if least else f"at most {limit}"
                raise refuse(EnclaveCode.TENSOR_VALUE, name, f"must hold texts of {bounds} bytes")

    return check


def _characters(name: str, characters: Characters) -> ValueCheck:
    search = _FORBIDDEN[characters].search

    def check(array: Array) -> None:
        if any(search(text) for text in array.flat):
            raise refuse(EnclaveCode.TENSOR_TEXT, name, f"must hold texts of {_WHAT[characters]}")

    return check


_WHAT = {
    Characters.TEXT: "characters without controls or signs that turn the direction of writing",
    Characters.ASCII: "printable ASCII characters",
}


def _feature_words(field: TensorField, feature: Feature) -> ValueCheck:
    check = _words(field.name, f"{_at(feature)} ", feature.values)
    return lambda array: check(array[..., feature.index : feature.index + 1])


def _words(name: str, where: str, values: tuple[Any, ...]) -> ValueCheck:
    known = frozenset(values)

    def check(array: Array) -> None:
        if not all(text in known for text in array.flat):
            raise refuse(EnclaveCode.TENSOR_CATEGORY, name, f"{where}must hold one of {_listed(values)}")

    return check
