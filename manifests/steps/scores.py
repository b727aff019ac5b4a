"""Steps after the graph: what clients get of its outputs, and in which form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from manifests.steps.base import Fields, add, invalid, least, take
from manifests.tensors import NUMERIC, static
from manifests.values import FLOATS, INTEGERS


@dataclass(frozen=True)
class Select:
    """Keep these outputs alone, in this order."""

    kind: ClassVar[str] = "select"
    outputs: tuple[str, ...]

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Drop every other output."""
        if not self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise invalid("select needs different outputs")
        kept = {name: take(tensors, name) for name in self.outputs}
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
        rank = len(take(tensors, self.output, FLOATS).shape)
        if not -rank <= self.axis < rank:
            raise invalid(f"softmax: {self.output!r} has no axis {self.axis}")


@dataclass(frozen=True)
class Sigmoid:
    """x = 1 / (1 + exp(-x)), each element for itself, in x's own float type."""

    kind: ClassVar[str] = "sigmoid"
    output: str

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check the dtype."""
        take(tensors, self.output, FLOATS)


@dataclass(frozen=True)
class ArgMax:
    """x = where the greatest value of the last axis stands, the first of equals, as int64; the last axis goes."""

    kind: ClassVar[str] = "argmax"
    output: str

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Drop the last axis."""
        tensor = take(tensors, self.output, NUMERIC)
        if not tensor.shape or not least(tensor):
            raise invalid(f"argmax: {self.output!r} has no last axis, or one that may be empty")
        tensors[self.output] = tensor.bare(dtype="int64", shape=tensor.shape[:-1])


@dataclass(frozen=True)
class Threshold:
    """x = whether x is at least `at`, as bool; one number for all, or one for each element of the last axis.

    NaN reaches no threshold.
    """

    kind: ClassVar[str] = "threshold"
    output: str
    at: tuple[float, ...]

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Change the output to bool."""
        tensor = take(tensors, self.output, FLOATS)
        if not self.at or not all(map(math.isfinite, self.at)):
            raise invalid("threshold needs finite numbers")
        if len(self.at) > 1 and (not tensor.shape or not static(tensor.shape[-1], len(self.at))):
            raise invalid(
                f"threshold has {len(self.at)} numbers, but the last axis of {self.output!r} has another length"
            )
        tensors[self.output] = tensor.bare(dtype="bool")


@dataclass(frozen=True)
class Round:
    """x = x rounded to `decimals` places (0 to 15), which blunts the extraction of a model through its scores."""

    kind: ClassVar[str] = "round"
    output: str
    decimals: int

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check the dtype."""
        take(tensors, self.output, FLOATS)
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
        tensor = take(tensors, self.output, NUMERIC)
        if not tensor.shape or not 1 <= self.k <= least(tensor):
            raise invalid(f"top_k: k must be between 1 and the length of the last axis of {self.output!r}")
        shape = (*tensor.shape[:-1], self.k)
        del tensors[self.output]
        add(tensors, tensor.bare(name=f"{self.output}_values", shape=shape))
        add(tensors, tensor.bare(name=f"{self.output}_indices", shape=shape, dtype="int64"))


@dataclass(frozen=True)
class Label:
    """Replace the integers in x by the manifest's labels at these positions; x becomes a tensor of text.

    Of two labels, the first stands for false and the second for true.
    """

    kind: ClassVar[str] = "label"
    output: str

    def apply(self, tensors: Fields, labels: int) -> None:
        """Change the output to text."""
        tensor = take(tensors, self.output, INTEGERS | {"bool"})
        if not labels:
            raise invalid("label needs labels in the manifest")
        if tensor.dtype == "bool" and labels != 2:
            raise invalid("label needs two labels for what is true or false")
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
        tensor = take(tensors, self.output, FLOATS | INTEGERS)
        shape = tensor.shape
        if tensor.dtype in FLOATS:
            if not shape or (labels and not static(shape[-1], labels)):
                raise invalid(f"label_only: the last axis of {self.output!r} is not as long as the labels")
            if not least(tensor):
                raise invalid(f"label_only: the last axis of {self.output!r} may be empty, which has no largest entry")
            shape = shape[:-1]
        tensors.clear()
        add(tensors, tensor.bare(name="label", shape=shape, dtype="string" if labels else "int64"))
