"""The stateless layer: how strange is one query?  Scores, and their conformal tails.

- `distance`: the least squared Mahalanobis distance to a class, under a shared shrunk covariance (Lee et al., 2018);
- `own`: the same to the class that the model predicts;
- `margin`: how close the two best classes are, which is where attacks on the decision boundary live;
- `squeeze`: how far the answer moves when the input is given with fewer levels (Xu, Evans and Qi, 2018);
- `noise`, `mixture`, `foreign`: a discriminator's opinions, trained by the owner against perturbed and mixed benign
  rows, and rows of another world.

The tail of a score is -log10 of its conformal p-value, taken over the benign behaviour under which it is least
strange, so that no declared behaviour is strange by itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.abuse.profile import SCORES, STREAMS, Profile, Squeeze
from manifests.abuse.view import Floats

Outputs = npt.NDArray[Any]


def answers(profile: Profile, outputs: Outputs) -> npt.NDArray[np.int64]:
    """Return the predicted class of each row: the greatest score's, or the label itself; never out of range."""
    if not profile.labels_only:
        return np.asarray(finite(outputs).argmax(axis=1), np.int64)
    return np.asarray(np.clip(outputs.reshape(len(outputs)).astype(np.int64), 0, profile.classes - 1), np.int64)


def finite(outputs: Outputs) -> Floats:
    """Return scores as float32, with zeros where they are NaN."""
    scores = outputs.astype(np.float32)
    if not math.isfinite(scores.sum()):
        scores = np.nan_to_num(scores, copy=False, posinf=1e18, neginf=-1e18)
    return scores


def margins(scores: Floats) -> Floats:
    """Return minus the logarithm of the gap between the two best scores [n, k]: greater is closer to a boundary."""
    best = scores.copy()
    best.partition(best.shape[1] - 2, axis=1)
    return np.asarray(-np.log(np.maximum(best[:, -1] - best[:, -2], np.float32(1e-7))), np.float32)


def moved(outputs: Outputs, squeezed: Outputs, *, labels_only: bool) -> Floats:
    """Return how far an answer moves under squeezing: the sum of absolute differences, or 1 for another label."""
    if labels_only:
        return np.asarray((outputs != squeezed).reshape(len(outputs)), np.float32)
    apart = np.abs(finite(outputs) - finite(squeezed)).sum(axis=1)
    return np.asarray(np.minimum(apart, np.float32(1e18)), np.float32)


def squeeze(settings: Squeeze, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return rows [n, ...] with each feature at one of `levels` + 1 steps of its reference range, in their own type."""
    flat = np.nan_to_num(rows.reshape(len(rows), -1).astype(np.float32))
    steps = np.rint(np.clip((flat - settings.low) / settings.span, 0, 1) * settings.levels) / settings.levels
    return np.asarray((settings.low + steps * settings.span).reshape(rows.shape), rows.dtype)


def hidden_units(hidden: Floats, bias: Floats, view: Floats) -> Floats:
    """Return the discriminator's hidden units [n, 512]; far rows are drawn in, so that none dominates."""
    return activated(view @ hidden, bias, view)


def activated(units: Floats, bias: Floats, view: Floats) -> Floats:
    """Return hidden units from the products [n, 512] of the view with their weights, in place."""
    reach = 4 * math.sqrt(view.shape[1])
    lengths = np.sqrt(np.einsum("ij,ij->i", view, view))
    units *= (reach / np.maximum(lengths, reach))[:, None]
    units += bias
    return np.asarray(np.maximum(units, 0, out=units), np.float32)


class Scorer:
    """A profile's scores, compiled."""

    def __init__(self, profile: Profile) -> None:
        """Lay the profile's matrices out for one pass."""
        self._profile = profile
        self._core = profile.view.core + 1
        self._centers = np.ascontiguousarray(-2 * profile.centers[:, : self._core].T)
        self._center_squares = np.einsum("ij,ij->i", profile.centers[:, : self._core], profile.centers[:, : self._core])
        self._knots = np.stack([profile.tails[name][0] for name in SCORES])
        self._heights = np.stack([profile.tails[name][1] for name in SCORES])
        self._heads = np.ascontiguousarray(profile.heads[:-1])
        self._rows = np.arange(len(SCORES))

    def raw(
        self,
        view: Floats,
        outputs: Outputs,
        labels: npt.NDArray[np.int64],
        squeezed: Outputs | None = None,
        products: Floats | None = None,
    ) -> Floats:
        """Return the scores [n, 7] in the order of SCORES; those that the model's answers do not admit are zero.

        products: the view times the discriminator's weights, where it is known; overwritten.
        """
        profile = self._profile
        found = np.zeros((len(view), len(SCORES)), np.float32)
        core = view[:, : self._core]
        distances = core @ self._centers
        distances += self._center_squares
        distances += np.einsum("ij,ij->i", core, core)[:, None]
        found[:, 0] = np.minimum.reduce(distances, axis=1)
        found[:, 1] = distances[np.arange(len(view)), labels]
        if not profile.labels_only:
            found[:, 2] = margins(finite(outputs))
        if squeezed is not None:
            found[:, 3] = moved(outputs, squeezed, labels_only=profile.labels_only)
        products = view @ profile.hidden if products is None else products
        found[:, 4:] = activated(products, profile.bias, view) @ self._heads
        found[:, 4:] += profile.heads[-1]
        return found

    def streams(self, raw: Floats) -> Floats:
        """Return the tails [n, 6] of scores [n, 7], in the order of STREAMS."""
        places = np.add.reduce(raw[:, :, None] >= self._knots, axis=2, dtype=np.intp)
        tails = self._heights[self._rows, np.maximum(places, 1, out=places) - 1]
        found = tails.take(_STREAM_OF, axis=1)
        found[:, _STATELESS] = np.maximum(np.maximum.reduce(tails[:, 1:4], axis=1) - _BONFERRONI, 0)
        return np.asarray(found, np.float32)


_STREAM_OF = np.array([SCORES.index(name) if name in SCORES else 0 for name in STREAMS])
_STATELESS = STREAMS.index("stateless")
_BONFERRONI = np.float32(math.log10(3))
"""Own, margin and squeeze are three tests at once."""
