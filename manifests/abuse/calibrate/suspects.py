"""Suspicious rows, made of benign ones, that the discriminator is trained against.

No attack is replayed: attacks use the answers of the model, and these use none.  They are what most attacks leave
behind in the input: perturbation without the shape of the data, and mixtures of what does not belong together.
"""

from __future__ import annotations

import numpy as np

from manifests.abuse.calibrate.behaviours import Pool, Random, Rows


def perturbed(random: Random, pool: Pool, count: int) -> Rows:
    """Return rows moved by signs, by normal noise, or along differences between rows, each by 0.05 to 0.3 units."""
    rows = pool.rows[random.integers(len(pool.rows), size=count)]
    size = random.uniform(0.05, 0.3, (count, 1))
    kinds = random.integers(3, size=count)
    directions = np.where(
        (kinds == 0)[:, None],
        np.sign(random.normal(size=rows.shape)),
        np.where((kinds == 1)[:, None], random.normal(size=rows.shape), _contrasts(random, pool, count)),
    )
    return pool.fit(rows + size * directions * pool.unit)


def _contrasts(random: Random, pool: Pool, count: int) -> Rows:
    """Return the signs of differences between sums of rows: gradients of classifiers look like that."""
    weights = random.normal(size=(count, min(len(pool.rows), 24)))
    chosen = pool.rows[random.permutation(len(pool.rows))[: weights.shape[1]]]
    return np.asarray(np.sign((weights - weights.mean(axis=1, keepdims=True)) @ chosen))


def blended(random: Random, pool: Pool, count: int) -> Rows:
    """Return blends of two rows, and rows whose features come from several."""
    first, second = (pool.rows[random.integers(len(pool.rows), size=count)] for _ in range(2))
    share = random.uniform(0.25, 0.75, (count, 1))
    scattered = random.random(first.shape) < share
    is_scattered = random.random((count, 1)) < 0.25
    return pool.fit(np.where(is_scattered, np.where(scattered, first, second), share * first + (1 - share) * second))


def foreign(random: Random, pool: Pool, count: int) -> Rows:
    """Return rows of another world: smooth textures, features drawn each on its own, noise, and inversions."""
    features = len(pool.low)
    kinds = random.integers(4, size=count)[:, None]
    alone = np.stack([random.choice(pool.rows[:, column], count) for column in range(features)], axis=1)
    loose = alone + random.normal(0, 0.3, alone.shape) * pool.unit
    textures = _textures(random, pool, count) if pool.is_image else loose
    noise = random.uniform(pool.low, pool.high, (count, features))
    inverted = pool.low + pool.high - pool.rows[random.integers(len(pool.rows), size=count)]
    return pool.fit(np.select([kinds == 0, kinds == 1, kinds == 2], [textures, alone, noise], inverted))


def _textures(random: Random, pool: Pool, count: int) -> Rows:
    """Return sums of a few slow waves in random directions, of any brightness and contrast."""
    height, width = pool.shape[-2:]
    down, right = np.mgrid[:height, :width] / max(height, width)
    fields = np.zeros((count, height, width))
    for _ in range(3):
        slopes, phase = random.normal(0, 6, (2, count, 1, 1)), random.uniform(0, 2 * np.pi, (count, 1, 1))
        fields += np.cos(slopes[0] * down + slopes[1] * right + phase)
    brightness, contrast = random.uniform(0, 1, (count, 1)), random.uniform(0, 0.5, (count, 1))
    planes = np.tile(fields.reshape(count, -1), (1, len(pool.low) // (height * width)))
    return np.asarray(pool.low + (brightness + contrast * planes / 1.5) * (pool.high - pool.low))
