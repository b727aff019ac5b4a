"""Fitting: what the reference rows fix, before anything is held against limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate.behaviours import Pool, Random, Rows
from manifests.abuse.calibrate.suspects import blended, foreign, perturbed
from manifests.abuse.profile import CELLS, HIDDEN, KNOTS, MAX_VIEW, WAVES
from manifests.abuse.scores import hidden_units
from manifests.abuse.view import Floats, View, squares

SHRINKAGE = 0.1
"""Share of the spherical covariance in the shared one."""
_RIDGE = 1e-2
_ROUNDS = 25
_HIGHEST = 4.0
"""Tails end here: one query in ten thousand; what lies beyond is guessed from an exponential tail."""
_LEAST_CLASS = 5
_LEAST_DEVIATION = 0.03
"""Of a standardised axis: below it there is nothing but rounding."""


def fit_view(pool: Pool, augmented: Rows, core: int) -> View:
    """Fit scaling and axes; `augmented` are the reference rows under all benign behaviours."""
    rows = augmented.astype(np.float64)
    mean = rows.mean(axis=0)
    scale = 1 / _deviations(pool, rows)
    standard = (rows - mean) * scale
    _, _, axes = np.linalg.svd(standard, full_matrices=False)
    basis = axes[: min(MAX_VIEW, rows.shape[1], len(axes))].T
    identity = _single(np.eye(basis.shape[1]))
    plain = View(_single(mean), _single(scale), _single(basis), identity, core, (0.0, 0.0))
    left = plain.outside(_single(standard), _single(standard @ basis))
    residual = (float(left.mean()), float(1 / max(left.std(), 1e-6))) if core < rows.shape[1] else (0.0, 0.0)
    return replace(plain, residual=residual)


def _deviations(pool: Pool, rows: Rows) -> Rows:
    """Return one deviation for all pixels of images, and one for each feature of tables."""
    if pool.is_image:
        return np.full(rows.shape[1], max(float(rows.std(axis=0).max()) / 2, 1e-9))
    found = rows.std(axis=0)
    positive = found[found > 1e-9]
    return np.where(found > 1e-9, found, np.median(positive) if len(positive) else 1.0)


def whiten(view: View, rows: Rows, labels: npt.NDArray[np.int64], classes: int) -> tuple[View, Floats]:
    """Return the view with the classes' shared covariance whitened, and their centers [classes, b + 1]."""
    inside = (view.standardise(rows) @ view.basis).astype(np.float64)
    centers = np.tile(inside.mean(axis=0), (classes, 1))
    for label in range(classes):
        if (labels == label).sum() >= _LEAST_CLASS:
            centers[label] = inside[labels == label].mean(axis=0)
    apart, core = inside - centers[labels], view.core
    matrix = np.diag(1 / np.maximum(inside.std(axis=0), _LEAST_DEVIATION))
    matrix[:core, :core] = _whitening(apart[:, :core])
    white = centers @ matrix
    middle = np.zeros((classes, 1))
    columns = np.concatenate((white[:, :core], middle, white[:, core:]), axis=1)
    return replace(view, whiten=_single(matrix)), _single(columns)


def _whitening(apart: Rows) -> Rows:
    """Return the matrix after which the shrunk covariance of centered rows is the identity."""
    covariance = apart.T @ apart / len(apart)
    width = len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / width * np.eye(width)
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-12)))


def fit_cells(random: Random, rows: Floats) -> Floats:
    """Return 256 centers of k-means over rows in the view; of fewer rows each is one, and is repeated."""
    centers = rows[np.resize(random.permutation(len(rows)), CELLS)].copy()
    for _ in range(_ROUNDS):
        nearest = squares(rows, centers).argmin(axis=1)
        for cell in np.unique(nearest):
            centers[cell] = rows[nearest == cell].mean(axis=0)
    return centers


def fit_discriminator(
    random: Random, view: View, pool: Pool, benign: Rows, samples: int
) -> tuple[Floats, Floats, Floats]:
    """Return hidden [b + 1, 512], bias [512] and heads [513, 3]: random units under a ridge regression."""
    good = _look(view, benign)
    bad = [_look(view, make(random, pool, samples)) for make in (perturbed, blended, foreign)]
    hidden = _single(random.normal(0, 1.5 / np.sqrt(view.width), (view.width, HIDDEN)))
    bias = _single(random.uniform(-1.5, 1.5, HIDDEN))
    heads = [_ridge(hidden_units(hidden, bias, good), hidden_units(hidden, bias, suspects)) for suspects in bad]
    return hidden, bias, _single(np.stack(heads, axis=1))


def _look(view: View, rows: Rows) -> Floats:
    return view.whitened(view.standardise(rows))


def _ridge(good: Floats, bad: Floats) -> Rows:
    units = np.concatenate((good, bad)).astype(np.float64)
    units = np.concatenate((units, np.ones((len(units), 1))), axis=1)
    targets = np.concatenate((-np.ones(len(good)), np.ones(len(bad))))
    weights = np.concatenate((np.full(len(good), 1 / len(good)), np.full(len(bad), 1 / len(bad))))[:, None]
    gram = units.T @ (units * weights)
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    ridge[-1, -1] = 0
    return np.linalg.solve(gram + ridge, units.T @ (targets * weights[:, 0]))


def fit_tail(behaviours: list[Floats]) -> Floats:
    """Return [2, 64]: a score, and -log10 of its conformal p-value under the behaviour that it is least strange for."""
    points = np.unique(np.concatenate(behaviours).astype(np.float64))
    tails = np.full(len(points), np.inf)
    for scores in behaviours:
        ordered = np.sort(scores)
        above = len(ordered) - np.searchsorted(ordered, points, side="left")
        tails = np.minimum(tails, -np.log10((1 + above) / (len(ordered) + 1)))
    tails = np.maximum.accumulate(tails)
    upper = tails >= min(1.0, tails[-1] / 2)
    run = float(points[-1] - points[upper][0])
    rise = float(tails[-1] - tails[upper][0])
    beyond = run / rise if rise > 0 and run > 0 else max(abs(float(points[-1])), 1.0) * 0.01
    heights = np.linspace(0, _HIGHEST, KNOTS)
    places = np.searchsorted(tails, heights, side="left")
    inside = points[np.minimum(places, len(points) - 1)]
    outside = points[-1] + (heights - tails[-1]) * beyond
    scores = np.maximum.accumulate(np.where(places < len(points), inside, outside))
    return np.stack((_single(scores), _single(heights)))


def fit_waves(random: Random, rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Return frequencies [b + 1, 256], phases [256] and the mean wave [256] of rows in the view."""
    pairs = rows[random.permutation(len(rows))], rows[random.permutation(len(rows))]
    bandwidth = float(np.median(np.sqrt(((pairs[0] - pairs[1]) ** 2).sum(axis=1)))) or 1.0
    waves = _single(random.normal(0, 1 / bandwidth, (rows.shape[1], WAVES)))
    phases = _single(random.uniform(0, 2 * np.pi, WAVES))
    return waves, phases, _single(np.cos(rows @ waves + phases).mean(axis=0))


def neighbour_distances(standard: Floats) -> Floats:
    """Return the distance of each standardised row to the nearest other one that is not its twin."""
    rows = standard.astype(np.float64)
    lengths = (rows**2).sum(axis=1)
    found = lengths[:, None] + lengths - 2 * rows @ rows.T
    np.fill_diagonal(found, np.inf)
    found[found < 1e-9 * (1 + lengths.max())] = np.inf
    return _single(np.sqrt(found.min(axis=1)))


def _single(array: Rows) -> Floats:
    return np.ascontiguousarray(array, np.float32)
