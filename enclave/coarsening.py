"""What an answer was made coarser by, besides its model's manifest: the part of it that a receipt states.

Only what the client sees in the answer is stated.  Rounding shows where an output has floats that the manifest leaves
with more digits; labels alone show where the manifest gives more than them.  Where nothing would show, nothing is
stated, so that a receipt tells no more of its identity's rung than the answer does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from enclave.validate import Tensors
from manifests.steps import Noise, PostStep, Round, Sigmoid, Softmax, TopK


class Coarsening(IntEnum):
    """The level that a receipt has as `abuse`: docs/receipts.md."""

    NONE = 0
    """The answer is as the manifest gives it."""
    ROUNDED = 1
    """Floats were rounded to the policy's digits."""
    LABEL_ONLY = 2
    """The best class alone was given."""


@dataclass(frozen=True)
class Answered:
    """An answer, and what was made of the request.

    charged: whether a budget of the client's identity paid for it.  coarsening: of the model's own outputs.
    readers: of those of each further model of a pipeline.
    """

    outputs: Tensors = field(repr=False)
    charged: bool = False
    coarsening: Coarsening = Coarsening.NONE
    readers: tuple[Coarsening, ...] = ()


def rounded_outputs(steps: Iterable[PostStep], digits: int) -> frozenset[str]:
    """Return the outputs that a manifest itself leaves with at most so many digits."""
    found: set[str] = set()
    for step in steps:
        if isinstance(step, Round) and step.decimals <= digits:
            found.add(step.output)
        elif isinstance(step, TopK) and step.output in found:
            found.add(f"{step.output}_values")
        elif isinstance(step, Softmax | Sigmoid | Noise):
            found.discard(step.output)
    return frozenset(found)


def shows_digits(outputs: Tensors, rounded: frozenset[str]) -> bool:
    """Tell whether an answer has floats that rounding shows in."""
    return any(array.dtype.kind == "f" and name not in rounded for name, array in outputs.items())


def shows_label(outputs: Tensors, labels: Tensors) -> bool:
    """Tell whether labels alone differ in their form from the outputs that the manifest gives."""
    kinds = {name: array.dtype.kind for name, array in outputs.items()}
    return kinds != {name: array.dtype.kind for name, array in labels.items()}
