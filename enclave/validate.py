"""Requests against the model manifest: compiled once per model, then a few comparisons per request.

The order is names, dtypes, shapes, sizes, and only then values, so that nothing is allocated or touched for tensors
that the model does not take.  A refusal names the field and the bound, and never a value of the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attestation.wire.messages import Body, TensorSpec
from enclave.errors import EnclaveCode, EnclaveError
from manifests.model import ModelManifest
from manifests.tensors import FLOATS, Axis, Dimension, TensorField

Array: TypeAlias = npt.NDArray[Any]
Tensors: TypeAlias = dict[str, Array]
ValueCheck: TypeAlias = Callable[[Array], None]


@dataclass(frozen=True)
class InputCheck:
    """One input, compiled: what its announcement and its values must be."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    values: tuple[ValueCheck, ...]

    def check_spec(self, spec: TensorSpec, axes: dict[str, int]) -> None:
        """Hold dtype and shape against the manifest; `axes` has the lengths of named axes seen so far."""
        if spec.dtype != self.dtype:
            raise _refuse(EnclaveCode.TENSOR_DTYPE, self.name, f"must have dtype {self.dtype}")
        if len(spec.shape) != len(self.shape):
            raise _refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"must have {len(self.shape)} axes")
        for position, (length, axis) in enumerate(zip(spec.shape, self.shape, strict=True)):
            self._check_axis(position, length, axis, axes)

    def _check_axis(self, position: int, length: int, axis: Dimension, axes: dict[str, int]) -> None:
        if not isinstance(axis, Axis):
            if length != axis:
                raise _refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have length {axis}")
            return
        if not axis.minimum <= length <= axis.maximum:
            bounds = f"a length between {axis.minimum} and {axis.maximum}"
            raise _refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have {bounds}")
        if axes.setdefault(axis.name, length) != length:
            same = f"the same length as every other axis {axis.name!r}"
            raise _refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have {same}")


@dataclass(frozen=True)
class RequestPlan:
    """What a request for one model must look like."""

    inputs: Mapping[str, InputCheck]
    max_bytes: int

    @classmethod
    def compile(cls, manifest: ModelManifest) -> RequestPlan:
        """Compile a manifest's inputs and limits."""
        checks = {field.name: _compile(field) for field in manifest.inputs}
        return cls(checks, manifest.limits.max_request_bytes)

    def check(self, body: Body) -> Tensors:
        """Return the request's tensors as read-only arrays; raises EnclaveError `tensor-...`, `request-too-large`.

        Raises WireError `message-malformed` for a text tensor that is not one.
        """
        self._check_specs(body.specs)
        arrays = {name: _aligned(array) for name, array in body.arrays().items()}
        for name, array in arrays.items():
            for check in self.inputs[name].values:
                check(array)
        return arrays

    def _check_specs(self, specs: tuple[TensorSpec, ...]) -> None:
        axes: dict[str, int] = {}
        total = 0
        for spec in specs:
            check = self.inputs.get(spec.name)
            if check is None:
                raise EnclaveError(EnclaveCode.TENSOR_NAME, f"the model takes only {_names(self.inputs)}")
            check.check_spec(spec, axes)
            total += spec.size
        if len(specs) != len(self.inputs):
            missing = next(name for name in self.inputs if name not in {spec.name for spec in specs})
            raise _refuse(EnclaveCode.TENSOR_NAME, missing, "is missing")
        if total > self.max_bytes:
            raise EnclaveError(EnclaveCode.REQUEST_TOO_LARGE, f"the inputs must have at most {self.max_bytes} bytes")


def _aligned(array: Array) -> Array:
    """Return the array, or a copy where the message put its bytes at an address that its type does not admit."""
    return array if array.flags.aligned else array.copy()


def _compile(field: TensorField) -> InputCheck:
    """Choose the value checks that a field needs; each is a closure over its own bounds."""
    checks: list[ValueCheck] = []
    if field.minimum is not None or field.maximum is not None:
        checks.append(_range(field))
    if field.dtype in FLOATS and not _implies_finite(field):
        checks.insert(0, _finite(field))
    if field.max_text is not None:
        checks.append(_texts(field.name, field.max_text))
    return InputCheck(field.name, field.dtype, field.shape, tuple(checks))


def _implies_finite(field: TensorField) -> bool:
    """Tell whether values between the bounds are all that a field may hold: NaN is on neither side of a bound."""
    bounded = field.minimum is not None and field.maximum is not None
    return (bounded and not field.allow_nan) or (field.allow_nan and field.allow_infinity)


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
            raise _refuse(EnclaveCode.TENSOR_NAN, name, f"must hold {what}")

    return check


def _no_nan(array: Array) -> Any:
    return ~np.isnan(array)


def _no_infinity(array: Array) -> Any:
    return ~np.isinf(array)


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
        raise _refuse(EnclaveCode.TENSOR_VALUE, name, f"must hold {bound}")

    return check


def _texts(name: str, limit: int) -> ValueCheck:
    def check(array: Array) -> None:
        for text in array.flat:
            if len(text) > limit or len(text.encode("utf-8")) > limit:
                raise _refuse(EnclaveCode.TENSOR_VALUE, name, f"must hold texts of at most {limit} bytes")

    return check


def _refuse(code: EnclaveCode, name: str, bound: str) -> EnclaveError:
    return EnclaveError(code, f"input {name!r} {bound}", field=name)


def _names(inputs: Mapping[str, InputCheck]) -> str:
    return ", ".join(repr(name) for name in list(inputs)[:32])
