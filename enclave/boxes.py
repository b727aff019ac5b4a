"""Boxes that a finder gives: which of them are read, where they lie in the picture, and which are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from enclave.values import Array
from manifests.model import ModelManifest
from manifests.stages import Stage, picture_step
from manifests.tensors import Axis

MAX_CUT = 1 << 27
"""Pixels of a picture that all boxes of one request cover together: scaling them takes a second or two, and nothing
stops it.  Boxes that overlap so much are no findings."""


@dataclass(frozen=True)
class Selection:
    """Which boxes are read.  stage: one of them, for all read the same.  view: width and height that the graph gets.

    beside: outputs with a row for each box, the boxes themselves among them.
    """

    stage: Stage
    view: tuple[int, int]
    beside: frozenset[str]

    @classmethod
    def compile(cls, manifest: ModelManifest) -> Selection:
        """Compile a manifest that has stages."""
        stage, image = manifest.stages[0], picture_step(manifest.pre)
        served = {tensor.name: tensor for tensor in manifest.served_outputs()}
        rows = served[stage.boxes].shape[0]
        counted = {name for name, tensor in served.items() if isinstance(rows, Axis) and tensor.shape[:1] == (rows,)}
        return cls(
            stage, (image.width, image.height), frozenset(counted | {stage.boxes, *filter(None, [stage.scores])})
        )

    def choose(self, outputs: Tensors, shape: tuple[int, ...]) -> tuple[Array, Tensors]:
        """Return the boxes to read, and the outputs for these boxes alone.

        Boxes are float64 [n, 4]: left, top, right and bottom as fractions of the picture, whose height and width begin
        `shape`; so are those among the outputs, in their own type.  Raises EnclaveError `boxes-invalid` or
        `boxes-too-many`.
        """
        given = outputs[self.stage.boxes]
        if given.ndim != 2 or any(outputs[name].shape[:1] != given.shape[:1] for name in self.beside):
            raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model gave other outputs than announced")
        rows = self._rows(outputs, len(given))
        boxes = self._placed(given[rows].astype(np.float64), shape)
        chosen = {name: array[rows] if name in self.beside else array for name, array in outputs.items()}
        return boxes, {**chosen, self.stage.boxes: boxes.astype(given.dtype)}

    def _rows(self, outputs: Tensors, count: int) -> Array:
        """Return the places of the boxes that are read, ascending; of equal scores the first are kept."""
        rows = np.arange(count)
        if self.stage.scores:
            scores = outputs[self.stage.scores]
            if np.isnan(scores).any():
                raise _invalid("a box has a score that is no number")
            if self.stage.least_score is not None:
                rows = rows[scores >= self.stage.least_score]
            best = rows[np.argsort(-scores[rows].astype(np.float64), kind="stable")]
            rows = np.sort(best[: self.stage.limit])
        if len(rows) > self.stage.limit:
            raise _too_many(f"at most {self.stage.limit} boxes are read in one picture", len(rows))
        return rows

    def _placed(self, boxes: Array, shape: tuple[int, ...]) -> Array:
        """Return boxes as fractions of the picture, without what stands out of it."""
        if not np.isfinite(boxes).all():
            raise _invalid("a box has an edge that is no number")
        if (boxes[:, :2] >= boxes[:, 2:]).any():
            raise _invalid("a box ends before it begins")
        if self.stage.units == "pixels":
            boxes = boxes / np.array(self.view * 2, np.float64)
        placed = np.clip(boxes, 0.0, 1.0)
        sides = (placed[:, 2:] - placed[:, :2]) * np.array([shape[1], shape[0]], np.float64)
        if (sides < 1).any():
            raise _invalid("a box holds less of the picture than a pixel")
        if sides.prod(axis=1).sum() > MAX_CUT:
            raise _too_many(f"boxes cover at most {MAX_CUT} pixels together", int(sides.prod(axis=1).sum()))
        return np.asarray(placed)


def _invalid(why: str) -> EnclaveError:
    return EnclaveError(
        EnclaveCode.BOXES_INVALID, f"the model found what is no box: {why}", expected="boxes", found=why
    )


def _too_many(bound: str, found: int) -> EnclaveError:
    return EnclaveError(EnclaveCode.BOXES_TOO_MANY, bound, expected=bound, found=found)
