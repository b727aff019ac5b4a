"""Attacks that copy a model: each is a stream of queries, made as its paper makes them, with a substitute of its own.

Each function returns rows [n, d] that are asked in order; it may ask `victim.labels` for the answers on its way.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import Random, Rows, iid

Theft: TypeAlias = Callable[[Random, Victim, int], Rows]

SEEDS = 20
"""Natural rows that the Jacobian attacks start from."""


def natural(random: Random, victim: Victim, length: int) -> Rows:
    """Natural rows; where there are fewer objects, each comes again with a noisy sensor's noise, and not exactly."""
    pool = victim.attacker
    rows = iid(random, pool, length)
    again = pool.fit(rows + random.normal(0, 0.05, rows.shape) * pool.unit)
    return np.where((np.arange(length) < len(pool.rows))[:, None], rows, again)


def uniform(random: Random, victim: Victim, length: int) -> Rows:
    """Noise over the whole range."""
    pool = victim.attacker
    return pool.fit(random.uniform(pool.low, pool.high, (length, len(pool.low))))


def patches(random: Random, victim: Victim, length: int) -> Rows:
    """Cut 8 by 8 patches out of photographs, for images; draw each feature on its own for tables."""
    pool = victim.attacker
    if not pool.is_image:
        columns = [random.choice(pool.rows[:, column], length) for column in range(len(pool.low))]
        return np.stack(columns, axis=1)
    from sklearn.datasets import load_sample_images

    photos = [photo.mean(axis=2) / 255 for photo in load_sample_images().images]
    height, width = pool.shape[-2:]
    found = []
    for _ in range(length):
        photo = photos[int(random.integers(len(photos)))]
        down, right = (int(random.integers(photo.shape[axis] - 4 * pool.shape[axis - 2])) for axis in (0, 1))
        block = photo[down : down + 4 * height, right : right + 4 * width]
        found.append(block.reshape(height, 4, width, 4).mean(axis=(1, 3)).ravel())
    return np.array(found)


def natural_noise(random: Random, victim: Victim, length: int) -> Rows:
    """Natural rows under normal noise of a quarter of the range."""
    rows = iid(random, victim.attacker, length)
    return victim.attacker.fit(rows + random.normal(0, 0.25, rows.shape) * victim.attacker.unit)


def jbda(random: Random, victim: Victim, length: int) -> Rows:
    """Augment along the sign of a substitute's Jacobian (Papernot et al., 2017), with a step of a tenth."""
    return _jacobian(random, victim, length, targeted=False)


def jbda_tr(random: Random, victim: Victim, length: int) -> Rows:
    """Step towards a random other class instead (Juuti et al., 2019: T-RND)."""
    return _jacobian(random, victim, length, targeted=True)


def mixup(random: Random, victim: Victim, length: int) -> Rows:
    """Blend two natural rows."""
    first, second = iid(random, victim.attacker, length), iid(random, victim.attacker, length)
    share = random.beta(1, 1, (length, 1))
    return victim.attacker.fit(share * first + (1 - share) * second)


def line_search(random: Random, victim: Victim, length: int) -> Rows:
    """Search along lines for kinks of the network, as functionally equivalent extraction does (Jagielski, 2020)."""
    pool = victim.attacker
    found: list[Rows] = []
    while len(found) < length:
        start, end = random.uniform(pool.low, pool.high, (2, len(pool.low)))
        low, high = 0.0, 1.0
        for _ in range(12):
            middle = (low + high) / 2
            found.append(start + middle * (end - start))
            low, high = (low, middle) if random.random() < 0.5 else (middle, high)
    return np.array(found[:length])


def in_distribution(random: Random, victim: Victim, length: int) -> Rows:
    """Ask about natural rows alone: nothing that looks at queries can tell it from use."""
    return natural(random, victim, length)


def diluted(share: float) -> Theft:
    """Return an attack that asks photographs among natural rows."""

    def attack(random: Random, victim: Victim, length: int) -> Rows:
        rows, strange = natural(random, victim, length), patches(random, victim, length)
        return np.where(random.random((length, 1)) < share, strange, rows)

    return attack


THEFTS: Mapping[str, Theft] = {
    "uniform noise": uniform,
    "photo patches": patches,
    "natural + noise": natural_noise,
    "JBDA": jbda,
    "JBDA-TR": jbda_tr,
    "mixup": mixup,
    "line search": line_search,
    "50 % diluted": diluted(0.5),
    "25 % diluted": diluted(0.25),
    "10 % diluted": diluted(0.1),
    "5 % diluted": diluted(0.05),
    "in-distribution": in_distribution,
}


def _jacobian(random: Random, victim: Victim, length: int, *, targeted: bool) -> Rows:
    pool = victim.attacker
    known = pool.rows[random.permutation(len(pool.rows))[:SEEDS]]
    answers = victim.labels(known)
    while len(known) < length:
        slopes = _substitute(known / pool.unit, answers, victim.subject.classes, int(random.integers(1 << 31)))
        parents = random.permutation(len(known))[: length - len(known)]
        towards = answers[parents]
        if targeted:
            towards = (towards + random.integers(1, victim.subject.classes, len(parents))) % victim.subject.classes
        step = np.sign(slopes(known[parents] / pool.unit, towards))
        grown = pool.fit(known[parents] + 0.1 * step * pool.unit)
        known = np.concatenate((known, grown))
        answers = np.concatenate((answers, victim.labels(grown)))
    return known[:length]


def _substitute(
    rows: Rows, answers: npt.NDArray[np.int64], classes: int, seed: int
) -> Callable[[Rows, npt.NDArray[np.int64]], Rows]:
    """Train a small network, and return the gradient of a class's logit by the input."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier((32,), max_iter=150, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows, answers)
    first, second = model.coefs_
    order: dict[Any, int] = {label: column for column, label in enumerate(model.classes_)}
    outwards = np.zeros((classes, first.shape[1]))
    for label in range(classes):
        if label in order:
            outwards[label] = second[:, order[label]] if second.shape[1] > 1 else second[:, 0] * (2 * order[label] - 1)

    def slopes(at: Rows, towards: npt.NDArray[np.int64]) -> Rows:
        active = (at @ first + model.intercepts_[0] > 0) * outwards[towards]
        return np.asarray(active @ first.T)

    return slopes
