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
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from manifests.abuse.profile import CELLS, SCORES, WAVES, Profile, Squeeze
from manifests.abuse.view import FAR, Floats

Outputs = npt.NDArray[Any]


def answers(profile: Profile, outputs: Outputs) -> npt.NDArray[np.int64]:
    """Return the predicted class of each row: the greatest score's, or the label itself; never out of range."""
    if not profile.labels_only:
        return np.asarray(finite(outputs).argmax(axis=1), np.int64)
    return np.asarray(np.clip(outputs.reshape(len(outputs)).astype(np.int64), 0, profile.classes - 1), np.int64)


def finite(outputs: Outputs) -> Floats:
    """Return scores as float32, with zeros where they are NaN."""
    scores = outputs.astype(np.float32)
    return scores if math.isfinite(np.vdot(scores, scores)) else _mended(scores)


def _mended(scores: Floats) -> Floats:
    return np.nan_to_num(scores, copy=False, posinf=1e18, neginf=-1e18)


def margins(best: Floats) -> list[float]:
    """Return minus the logarithm of the gap between the two best scores [n, 2]: greater is closer to a boundary."""
    return [-math.log(max(first - second, 1e-7)) for second, first in best.tolist()]


def _best(scores: Floats) -> Floats:
    """Return the second best and the best score of each row; NaN counts as the best."""
    ordered = scores.copy()
    ordered.partition(ordered.shape[1] - 2, axis=1)
    return ordered[:, -2:]


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
    lengths = np.sqrt(np.einsum("ij,ij->i", view, view))
    units = view @ hidden
    units *= np.minimum(1, reach(view.shape[1]) / np.maximum(lengths, 1e-9))[:, None]
    units += bias
    return np.asarray(np.maximum(units, 0, out=units), np.float32)


def reach(width: int) -> float:
    """Return the length to which longer rows of a view of so many dimensions are drawn in."""
    return 4 * math.sqrt(width)


class Glance(NamedTuple):
    """What one pass finds of rows [n].

    projected: [n, k], the standardised rows under `extra`.  labels: the predicted classes.  places [n, 256]: greatest
    at the reference data's cell that a row is in.  angles [n, 256]: of the drift detector's waves.  scores: of each
    row the seven SCORES; those that the model's answers do not admit are zero.
    """

    projected: Floats
    labels: npt.NDArray[np.int64]
    places: Floats
    angles: Floats
    scores: list[tuple[float, ...]]


class Scorer:
    """A profile's matrices, laid out for one pass with as few steps as possible: a query mostly comes alone.

    The view has one more column here, which is 1, so that what is added to a product is part of its matrix.
    """

    def __init__(self, profile: Profile, extra: Floats | None = None) -> None:
        """Lay the matrices out; `extra` [d, k] is another projection of the standardised rows to take along."""
        view, core = profile.view, profile.view.core
        self._profile, self._core, self._reach = profile, core, reach(view.width)
        extra = np.empty((view.features, 0), np.float32) if extra is None else extra
        white = (view.basis.astype(np.float64) @ view.whiten).astype(np.float32)
        gap = np.zeros((view.features, 2), np.float32)
        inwards = (extra, white[:, :core], gap, white[:, core:], view.basis[:, :core])
        self._inwards = np.ascontiguousarray(np.concatenate(inwards, axis=1))
        self._start, self._end = extra.shape[1], extra.shape[1] + view.width + 1
        centers = profile.centers[:, : core + 1]
        self._centers = np.concatenate((-2 * centers.T, _squares(centers)[None]))
        self._onwards = np.insert(
            np.concatenate((profile.cells.T, profile.waves, profile.hidden, np.zeros((view.width, 1))), axis=1),
            core + 1,
            np.concatenate((_squares(profile.cells) / -2, profile.phases, profile.bias, [1])),
            axis=0,
        ).astype(np.float32)
        self._heads = np.ascontiguousarray(profile.heads)
        tails = [profile.tails[name].tolist() for name in SCORES]
        self._tails = [(knots, [heights[0], *heights]) for knots, heights in tails]

    def look(self, rows: npt.NDArray[Any], outputs: Outputs, squeezed: Outputs | None = None) -> Glance:
        """Look at a client's rows [n, ...], the graph's answers [n, classes] or [n], and those to squeezed rows."""
        profile, core = self._profile, self._core
        with np.errstate(all="ignore"):
            standard, energies = profile.view.measured(rows)
            inside = standard @ self._inwards
            view = inside[:, self._start : self._end]
            squares, shares = self._lengths(energies, view, inside[:, self._end :])
            near: Floats = view * np.array(shares, np.float32)[:, None]
            near[:, core + 1] = 1
            products: Floats = near @ self._onwards
            strange = np.maximum(products[:, CELLS + WAVES :], 0) @ self._heads
            labels, margin, apart = self._answers(outputs, squeezed)
            distances = view[:, : core + 2] @ self._centers
            least = np.minimum.reduce(distances, axis=1).tolist()
        own = map(distances.item, range(len(rows)), labels.tolist())
        scores = [
            (low + square, mine + square, *rest)
            for low, mine, square, *rest in zip(*(least, own, squares, margin, apart), *strange.T.tolist(), strict=True)
        ]
        return Glance(inside[:, : self._start], labels, products[:, :CELLS], products[:, CELLS : CELLS + WAVES], scores)

    def _lengths(self, energies: list[float], view: Floats, inside: Floats) -> tuple[list[float], list[float]]:
        """Complete the view, in place; return squared lengths of the core with the residual, and how much to draw in.

        energies: squared lengths of the standardised rows.  inside: their coordinates in the core.
        """
        core, (mean, scale), most = self._core, self._profile.view.residual, self._reach**2
        parts = (view[:, :core], view[:, core + 2 :], inside)
        squares, rests, shares = [], [], []
        for energy, white, other, inner in zip(
            energies, *(np.vecdot(part, part).tolist() for part in parts), strict=True
        ):
            rest = min((max(energy - inner, 0.0) - mean) * scale, FAR)
            square = white + rest * rest
            rests.append((rest, 1.0))
            squares.append(square)
            shares.append(math.sqrt(most / max(square + other, most)))
        view[:, core : core + 2] = rests
        return squares, shares

    def _answers(
        self, outputs: Outputs, squeezed: Outputs | None
    ) -> tuple[npt.NDArray[np.int64], list[float], list[float]]:
        """Return the predicted classes, how near a border they are, and how far the answers move under squeezing."""
        labels_only, nothing = self._profile.labels_only, [0.0] * len(outputs)
        apart = nothing if squeezed is None else moved(outputs, squeezed, labels_only=labels_only).tolist()
        if labels_only:
            return answers(self._profile, outputs), nothing, apart
        scores = outputs.astype(np.float32)
        best = _best(scores)
        if not math.isfinite(sum(map(sum, best.tolist()))):
            scores = _mended(scores)
            best = _best(scores)
        return scores.argmax(axis=1), margins(best), apart

    def raw(self, rows: npt.NDArray[Any], outputs: Outputs, squeezed: Outputs | None = None) -> Floats:
        """Return the scores [n, 7] of rows, in the order of SCORES."""
        return np.array(self.look(rows, outputs, squeezed).scores, np.float32)

    def streams(self, scores: Iterable[Sequence[float]]) -> Floats:
        """Return the tails [n, 6] of scores [n, 7], in the order of STREAMS."""
        return np.array([self._tails_of(row) for row in scores], np.float32)

    def _tails_of(self, scores: Sequence[float]) -> tuple[float, ...]:
        distance, own, margin, squeezed, *heads = [
            heights[bisect_right(knots, score)] for score, (knots, heights) in zip(scores, self._tails, strict=True)
        ]
        return (distance, margin, max(max(own, margin, squeezed) - _BONFERRONI, 0.0), *heads)


_BONFERRONI = math.log10(3)
"""Own, margin and squeeze are three tests at once."""


def _squares(rows: Floats) -> Floats:
    return np.asarray(np.vecdot(rows, rows))
