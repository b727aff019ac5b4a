"""How much one check may look at: nodes, values and numbers are counted as they are followed, and the count ends it.

A graph of some kilobytes can ask for billions of numbers: a chain of additions of a constant, followed once for each
point of a grid of lengths.  The enclave checks models where it loads them, one at a time, so the check of one owner's
model must end soon whatever it is.  All that makes the check slow is counted before it is done.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from manifests.onnx import bounds
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.onnx.values import MAX_CONTENT, Value


@dataclass
class Budget:
    """What is left.  nodes: nodes that may still be looked at.  units: values and numbers that may be followed."""

    nodes: int = bounds.MAX_EXPANDED
    units: int = bounds.MAX_FOLLOWED

    @property
    def scarce(self) -> bool:
        """Whether half of the values and numbers is used up: from here on constants are known by their span alone."""
        return self.units < bounds.MAX_FOLLOWED // 2

    def node(self) -> None:
        """Count a node; raises OnnxError `onnx-expansion` when there were too many."""
        self.nodes -= 1
        if self.nodes < 0:
            raise OnnxError(OnnxCode.EXPANSION, "expanded functions and loops have more nodes than are looked at",
                            expected=f"at most {bounds.MAX_EXPANDED}")  # fmt: skip

    def take(self, units: int) -> None:
        """Count so many values or numbers; raises OnnxError `onnx-followed` when there were too many."""
        self.units -= units
        if self.units < 0:
            raise OnnxError(OnnxCode.FOLLOWED, "values and numbers in them are more than are followed",
                            expected=f"at most {bounds.MAX_FOLLOWED}")  # fmt: skip

    def follow(self, values: Iterable[Value | None]) -> None:
        """Count values, and the numbers that are known in them."""
        self.take(sum(1 if value is None or value.content is None else 1 + value.content.low.size for value in values))

    def join(self, values: Iterable[Value | None]) -> None:
        """Count the inputs of one node, of which a rule may broadcast each against all that came before it."""
        given = list(values)
        self.follow(given)
        shapes = [value.content.low.shape for value in given if value is not None and value.content is not None]
        if len(shapes) > 1:
            self.take(len(shapes) * _broadcast(shapes))


def _broadcast(shapes: list[tuple[int, ...]]) -> int:
    """Return the elements of tensors of these shapes that are broadcast against each other, as far as any follows."""
    try:
        return min(MAX_CONTENT, math.prod(np.broadcast_shapes(*shapes)))
    except ValueError:
        return 1  # a rule gives up at once
