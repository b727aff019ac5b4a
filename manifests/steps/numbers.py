"""Steps before the graph that work on numbers: scaling and casting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from manifests.steps.base import Fields, invalid, take
from manifests.tensors import NUMERIC, static
from manifests.values import FLOATS


@dataclass(frozen=True)
class Scale:
    """x = (x - mean) / std along the last axis, computed in x's own float type; vectors of one apply to all."""

    kind: ClassVar[str] = "scale"
    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check against the tensors as they are at this point."""
        tensor = take(tensors, self.input, FLOATS)
        check_moments("scale", self.mean, self.std)
        if not self.mean:
            raise invalid("scale needs as many means as deviations")
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
        tensor = take(tensors, self.input, NUMERIC)
        if self.dtype not in NUMERIC:
            raise invalid(f"cast to {self.dtype!r} is not possible")
        tensors[self.input] = tensor.bare(dtype=self.dtype)


def check_moments(kind: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuse means and deviations that do not pair, or that nothing can be divided by; raises `manifest-invalid`."""
    if len(mean) != len(std):
        raise invalid(f"{kind} needs as many means as deviations")
    if not all(map(math.isfinite, (*mean, *std))) or not all(value > 0 for value in std):
        raise invalid(f"{kind} needs finite means and positive finite deviations")
