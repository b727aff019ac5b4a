"""Pre- and post-processing that an owner may ask of the enclave: what each step takes, and what it makes of it.

Steps are data.  The enclave executes them; here they are defined, checked and folded over the tensors that a
manifest describes, so that a manifest whose steps cannot work is refused before anything is sealed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.tensors import MAX_TENSOR_NAME, NUMERIC, TensorField, static
from manifests.values import FLOATS, INTEGERS

MAX_VECTOR = 65536
"""Elements of a mean or deviation: a per-feature vector, not a tensor."""
MAX_SELECTED = 256

Fields: TypeAlias = dict[str, TensorField]


@dataclass(frozen=True)
class Scale:
    """x = (x - mean) / std along the last axis, computed in x's own float type; vectors of one apply to all."""

    kind: ClassVar[str] = "scale"
    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check against the tensors as they are at this point."""
        tensor = _take(tensors, self.input, FLOATS)
        if not self.mean or len(self.mean) != len(self.std):
            raise invalid("scale needs as many means as deviations")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(value > 0 for value in self.std):
            raise invalid("scale needs finite means and positive finite deviations")
        if len(self.mean) > 1 and (not tensor.shape or not static(tensor.shape[-1], len(self.mean))):
            raise invalid(f"scale has {len(self.mean)} means, but the last axis of {self.input!r} has another length")


@dataclass(frozen=True)
class Cast:
    """x = x as `dtype`: what clients send is what the manifest's input says, what the graph gets is `dtype`."""

    kind: ClassVar[str] = "cast"
    input: str
    dtype: str

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Change the tensor's dtype."""
        tensor = _take(tensors, self.input, NUMERIC)
        if self.dtype not in NUMERIC:
            raise invalid(f"cast to {self.dtype!r} is not possible")
        tensors[self.input] = tensor.bare(dtype=self.dtype)


@dataclass(frozen=True)
class Select:
    """Keep these outputs alone, in this order."""

    kind: ClassVar[str] = "select"
    outputs: tuple[str, ...]

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Drop every other output."""
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise invalid("select needs different outputs")
        kept = {name: _take(tensors, name) for name in self.outputs}
        tensors.clear()
        tensors.update(kept)


@dataclass(frozen=True)
class Softmax:
    """x = softmax(x) along `axis`, which may count from the end."""

    kind: ClassVar[str] = "softmax"
    output: str
    axis: int

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check dtype and axis."""
        rank = len(_take(tensors, self.output, FLOATS).shape)
        if not -rank <= self.axis < rank:
            raise invalid(f"softmax: {self.output!r} has no axis {self.axis}")


@dataclass(frozen=True)
class Round:
    """x = x rounded to `decimals` places (0 to 15), which blunts the extraction of a model through its scores."""

    kind: ClassVar[str] = "round"
    output: str
    decimals: int

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check the dtype."""
        _take(tensors, self.output, FLOATS)
        if not 0 <= self.decimals <= 15:
            raise invalid("round takes 0 to 15 decimals")


@dataclass(frozen=True)
class TopK:
    """Replace x by the `k` greatest values of its last axis, `<x>_values`, and where they stood, `<x>_indices`.

    Descending, equal values by ascending index; `k` is at most the axis' length.
    """

    kind: ClassVar[str] = "top_k"
    output: str
    k: int

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Replace the output by two."""
        tensor = _take(tensors, self.output, NUMERIC)
        if not tensor.shape or not 1 <= self.k <= _least(tensor):
            raise invalid(f"top_k: k must be between 1 and the length of the last axis of {self.output!r}")
        shape = (*tensor.shape[:-1], self.k)
        del tensors[self.output]
        _add(tensors, tensor.bare(name=f"{self.output}_values", shape=shape))
        _add(tensors, tensor.bare(name=f"{self.output}_indices", shape=shape, dtype="int64"))


@dataclass(frozen=True)
class Label:
    """Replace the integers in x by the manifest's labels at these positions; x becomes a tensor of text."""

    kind: ClassVar[str] = "label"
    output: str

    def apply(self, tensors: Fields, labels: int) -> None:
        """Change the output to text."""
        tensor = _take(tensors, self.output, INTEGERS)
        if not labels:
            raise invalid("label needs labels in the manifest")
        tensors[self.output] = tensor.bare(dtype="string")


@dataclass(frozen=True)
class LabelOnly:
    """Give nothing but one output `label`: the name of each row's best class.

    Scores (float) are reduced by arg max over their last axis, the first of equals; integers are taken as class
    numbers.  With labels in the manifest the result is text, without them int64.
    """

    kind: ClassVar[str] = "label_only"
    output: str

    def apply(self, tensors: Fields, labels: int) -> None:
        """Drop every output but the label."""
        tensor = _take(tensors, self.output, FLOATS | INTEGERS)
        shape = tensor.shape
        if tensor.dtype in FLOATS:
            if not shape or (labels and not static(shape[-1], labels)):
                raise invalid(f"label_only: the last axis of {self.output!r} is not as long as the labels")
            if not _least(tensor):
                raise invalid(f"label_only: the last axis of {self.output!r} may be empty, which has no largest entry")
            shape = shape[:-1]
        tensors.clear()
        _add(tensors, tensor.bare(name="label", shape=shape, dtype="string" if labels else "int64"))


PreStep: TypeAlias = Scale | Cast
PostStep: TypeAlias = Select | Softmax | Round | TopK | Label | LabelOnly

_PRE: dict[str, type[PreStep]] = {step.kind: step for step in (Scale, Cast)}
_POST: dict[str, type[PostStep]] = {step.kind: step for step in (Select, Softmax, Round, TopK, Label, LabelOnly)}


def step_to_map(step: PreStep | PostStep) -> dict[str, Any]:
    """Return a step as a map with its kind."""
    items = ((item.name, getattr(step, item.name)) for item in dataclasses.fields(step))
    return {"kind": step.kind} | {name: list(v) if isinstance(v, tuple) else v for name, v in items}


def pre_step(value: object) -> PreStep:
    """Read a pre-processing step from a map; raises ManifestError `field-invalid`."""
    step: PreStep = _step(value, _PRE)
    return step


def post_step(value: object) -> PostStep:
    """Read a post-processing step from a map; raises ManifestError `field-invalid`."""
    step: PostStep = _step(value, _POST)
    return step


def invalid(message: str) -> ManifestError:
    """Make the error for a manifest that contradicts itself."""
    return ManifestError(ManifestCode.MANIFEST_INVALID, message)


def _step(value: object, kinds: Mapping[str, type[Any]]) -> Any:
    table = fields.of_type(value, "step", dict)
    kind = fields.text(table.get("kind"), "kind", 32)
    if kind not in kinds:
        raise ManifestError(
            ManifestCode.FIELD_INVALID, f"there is no step {kind!r} here", expected=", ".join(kinds), found=kind
        )
    names = [item.name for item in dataclasses.fields(kinds[kind])]
    fields.closed_map(table, f"step {kind!r}", ("kind", *names))
    return kinds[kind](**{name: _READERS[name](table[name], name) for name in names})


def _name(value: object, what: str) -> str:
    return fields.text(value, what, MAX_TENSOR_NAME)


def _names(value: object, what: str) -> tuple[str, ...]:
    return tuple(_name(item, what) for item in fields.list_of(value, what, MAX_SELECTED))


def _numbers(value: object, what: str) -> tuple[float, ...]:
    if type(value) in (int, float):
        value = [value]
    return tuple(_float(item, what) for item in fields.list_of(value, what, MAX_VECTOR))


def _float(value: object, what: str) -> float:
    if type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    return fields.of_type(value, what, float)


def _integer(value: object, what: str) -> int:
    return fields.number(value, what, -64, fields.U63)


_READERS = {
    "input": _name,
    "output": _name,
    "dtype": _name,
    "outputs": _names,
    "mean": _numbers,
    "std": _numbers,
    "axis": _integer,
    "decimals": _integer,
    "k": _integer,
}


def _take(tensors: Fields, name: str, dtypes: frozenset[str] | None = None) -> TensorField:
    if name not in tensors:
        raise invalid(f"a step names {name!r}, but at that point there are only {', '.join(map(repr, tensors))}")
    if dtypes is not None and tensors[name].dtype not in dtypes:
        raise invalid(f"a step cannot work on {name!r}, which has dtype {tensors[name].dtype}")
    return tensors[name]


def _add(tensors: Fields, tensor: TensorField) -> None:
    if tensor.name in tensors:
        raise invalid(f"a step would make a second tensor {tensor.name!r}")
    tensors[tensor.name] = tensor


def _least(tensor: TensorField) -> int:
    axis = tensor.shape[-1]
    return axis if isinstance(axis, int) else axis.minimum
