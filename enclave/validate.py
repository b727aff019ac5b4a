"""Requests against the model manifest: compiled once per model, then a few comparisons per request.

The order is names, dtypes, shapes, sizes, and only then values, so that nothing is allocated or touched for tensors
that the model does not take.  A refusal names the field and the bound, and never a value of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from attestation.wire.messages import Body, TensorSpec
from enclave.errors import EnclaveCode, EnclaveError
from enclave.values import Array, ValueCheck, compile_values, refuse
from manifests.model import ModelManifest
from manifests.tensors import Axis, Dimension, TensorField

Tensors: TypeAlias = dict[str, Array]


@dataclass(frozen=True)
class InputCheck:
    """One input, compiled: what its announcement and its values must be."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...]
    values: tuple[ValueCheck, ...]
    below_axis: str | None = None

    @classmethod
    def compile(cls, field: TensorField) -> InputCheck:
        """Compile a manifest's input."""
        return cls(field.name, field.dtype, field.shape, compile_values(field), field.below_axis)

    def check_spec(self, spec: TensorSpec, axes: dict[str, int]) -> None:
        """Hold dtype and shape against the manifest; `axes` has the lengths of named axes seen so far."""
        if spec.dtype != self.dtype:
            raise refuse(EnclaveCode.TENSOR_DTYPE, self.name, f"must have dtype {self.dtype}")
        if len(spec.shape) != len(self.shape):
            raise refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"must have {len(self.shape)} axes")
        for position, (length, axis) in enumerate(zip(spec.shape, self.shape, strict=True)):
            self._check_axis(position, length, axis, axes)

    def _check_axis(self, position: int, length: int, axis: Dimension, axes: dict[str, int]) -> None:
        if not isinstance(axis, Axis):
            if length != axis:
                raise refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have length {axis}")
            return
        if not axis.minimum <= length <= axis.maximum:
            bounds = f"a length between {axis.minimum} and {axis.maximum}"
            raise refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have {bounds}")
        if axes.setdefault(axis.name, length) != length:
            same = f"the same length as every other axis {axis.name!r}"
            raise refuse(EnclaveCode.TENSOR_SHAPE, self.name, f"axis {position} must have {same}")

    def check_values(self, array: Array, axes: Mapping[str, int]) -> None:
        """Hold values against the manifest, and positions against the lengths of their axis."""
        for check in self.values:
            check(array)
        if self.below_axis is not None and array.size:
            length = axes[self.below_axis]
            if not (array.min() >= 0 and array.max() < length):
                raise refuse(EnclaveCode.TENSOR_VALUE, self.name, f"must hold positions along {self.below_axis!r}")


@dataclass(frozen=True)
class RequestPlan:
    """What a request for one model must look like."""

    inputs: Mapping[str, InputCheck]
    max_bytes: int

    @classmethod
    def compile(cls, manifest: ModelManifest) -> RequestPlan:
        """Compile a manifest's inputs and limits."""
        checks = {field.name: InputCheck.compile(field) for field in manifest.client_inputs()}
        return cls(checks, manifest.limits.max_request_bytes)

    def check(self, body: Body) -> Tensors:
        """Return the request's tensors as read-only arrays; raises EnclaveError `tensor-...`, `request-too-large`.

        Raises WireError `message-malformed` for a text tensor that is not one.
        """
        axes = self._check_specs(body.specs)
        return self._check_values({name: _aligned(array) for name, array in body.arrays().items()}, axes)

    def check_arrays(self, arrays: Tensors) -> Tensors:
        """Return arrays of numbers that the enclave itself has made, if a client could have sent them; raises so."""
        specs = [TensorSpec(name, str(array.dtype), array.shape, array.nbytes) for name, array in arrays.items()]
        return self._check_values(arrays, self._check_specs(tuple(specs)))

    def _check_values(self, arrays: Tensors, axes: Mapping[str, int]) -> Tensors:
        for name, array in arrays.items():
            self.inputs[name].check_values(array, axes)
        return arrays

    def _check_specs(self, specs: tuple[TensorSpec, ...]) -> dict[str, int]:
        """Hold the announcements against the manifest, and return the lengths of the named axes."""
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
            raise refuse(EnclaveCode.TENSOR_NAME, missing, "is missing")
        if total > self.max_bytes:
            raise EnclaveError(EnclaveCode.REQUEST_TOO_LARGE, f"the inputs must have at most {self.max_bytes} bytes")
        return axes


def _aligned(array: Array) -> Array:
    """Return the array, or a copy where the message put its bytes at an address that its type does not admit."""
    return array if array.flags.aligned else array.copy()


def _names(inputs: Mapping[str, InputCheck]) -> str:
    return ", ".join(repr(name) for name in list(inputs)[:32])
