"""The step that hides what single training records did to a model's scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from manifests.steps.base import Fields, invalid, one_of, take, within
from manifests.tensors import Axis
from manifests.values import FLOATS

MECHANISMS = ("laplace", "gaussian")
MAX_EPSILON = 100.0
"""Of one answer: e^100 is no protection, and more is a slip of the pen."""
MAX_TOTAL = 1e6
MAX_VALUES = 4096
"""Numbers of one answer, each of which takes a draw of some ten microseconds."""

_ROUNDING = 1e-9
"""So that 1.0 is ten times 0.1, which as binary fractions it is not quite."""


@dataclass(frozen=True)
class Noise:
    """Add noise to the one output that is left, so that an answer is (epsilon, delta)-differentially private.

    What is protected is the owner's to define by `sensitivity`: the greatest distance between the outputs of one
    request for two training sets that differ in one record, in the L1 norm for "laplace" and in the L2 norm for
    "gaussian".  Values are held between `minimum` and `maximum`, before and after; NaN counts as the minimum.
    max_epsilon, max_delta: what all answers to one client may come to together, by adding up.  delta: 0 for laplace.
    """

    kind: ClassVar[str] = "noise"
    component: ClassVar[str] = "noise"
    output: str
    epsilon: float
    sensitivity: float
    minimum: float
    maximum: float
    max_epsilon: float
    mechanism: str = "laplace"
    delta: float = 0.0
    max_delta: float = 0.0

    def apply(self, tensors: Fields, labels: int) -> None:  # noqa: ARG002 - one signature for all steps
        """Check that the output is the only one, and of one shape."""
        tensor = take(tensors, self.output, FLOATS)
        if len(tensors) != 1:
            raise invalid("noise: outputs beside it would tell what it hides; put a select before it")
        if any(isinstance(axis, Axis) and axis.minimum != axis.maximum for axis in tensor.shape):
            raise invalid(f"noise: {self.output!r} must have one shape, because its sensitivity is that of a request")
        count = math.prod(axis.maximum if isinstance(axis, Axis) else axis for axis in tensor.shape)
        within(count, "noise: the number of values", 1, MAX_VALUES)
        self._check()

    def _check(self) -> None:
        one_of(self.mechanism, "noise: mechanism", MECHANISMS)
        numbers = (self.epsilon, self.sensitivity, self.minimum, self.maximum, self.max_epsilon)
        if not all(map(math.isfinite, (*numbers, self.delta, self.max_delta))):
            raise invalid("noise needs finite numbers")
        within(self.epsilon, "noise: epsilon", 1e-6, MAX_EPSILON)
        within(self.max_epsilon, "noise: max_epsilon", self.epsilon, MAX_TOTAL)
        within(self.sensitivity, "noise: sensitivity", 1e-9, 1e9)
        if not -1e9 <= self.minimum < self.maximum <= 1e9:
            raise invalid("noise: minimum must be below maximum, and both within 10^9 of zero")
        if self.mechanism == "laplace":
            if self.delta or self.max_delta:
                raise invalid("noise: laplace has no delta")
            return
        within(self.delta, "noise: delta", 1e-15, 0.1)
        within(self.max_delta, "noise: max_delta", self.delta, 1.0)

    @property
    def answers(self) -> int:
        """How many answers one client may get, by adding up epsilon and delta (basic composition)."""
        most = math.floor(self.max_epsilon / self.epsilon + _ROUNDING)
        return min(most, math.floor(self.max_delta / self.delta + _ROUNDING)) if self.delta else most
