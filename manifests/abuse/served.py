"""Which class an answer tells: looked for in what clients are given, and never in what the graph gave before it.

The rungs `label_only` and `slow` answer with the best class alone.  It is read from the answer that the manifest's
steps have made, so it tells nothing that this answer does not: of scores with noise it is the greatest noisy one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.model import ModelManifest
from manifests.steps import ArgMax, LabelOnly, PostStep, Select, Softmax, Threshold, TopK
from manifests.tensors import TensorField
from manifests.values import INTEGERS


@dataclass(frozen=True)
class Served:
    """The output of an answer that tells the best class of each row.

    scores: it has one for each class, [batch, classes]; else a class or its label for each row, [batch], or with
    `ranked` several of them, the best one first.
    """

    name: str
    scores: bool = True
    ranked: bool = False

    def best(self, outputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the class (int64) or the label (text) of each row, [batch]; of equal scores the first, NaN as zero."""
        array = outputs[self.name]
        if self.scores:
            return np.asarray(np.nan_to_num(array).argmax(axis=1), np.int64)
        first = array[:, 0] if self.ranked else array
        return first if first.dtype.kind == "O" else first.astype(np.int64)


def served_class(manifest: ModelManifest, watched: TensorField) -> Served | None:
    """Return where an answer tells the class that the watched output gave; None where the manifest's steps hide it."""
    served: Served | None = Served(watched.name, scores=watched.dtype not in INTEGERS)
    for step in manifest.post:
        served = None if served is None else _after(step, served)
    return served


def _after(step: PostStep, served: Served) -> Served | None:
    """Return where the class stands after a step; None where it cannot be told any more."""
    if isinstance(step, Select):
        return served if served.name in step.outputs else None
    is_here = step.output == served.name
    match step:
        case LabelOnly():
            return Served("label", scores=False) if is_here and not served.ranked else None
        case TopK() if is_here and served.scores:
            return Served(f"{step.output}_indices", scores=False, ranked=True)
        case ArgMax() if is_here and served.scores:
            return replace(served, scores=False)
        case ArgMax() | TopK() | Threshold() if is_here:
            return None
        case Softmax(axis=axis) if is_here and axis not in {1, -1}:
            return None  # over the rows of a request: the greatest is not the best of its row any more
        case _:
            return served
