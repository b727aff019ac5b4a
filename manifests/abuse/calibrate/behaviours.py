"""Benign behaviours, as data: how honest clients ask, simulated from rows that the owner recorded.

Objects are drawn without replacement, until there are none left: drawing one object again and again would teach the
anchor counter that honest people probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[Any]
Random: TypeAlias = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """Objects of one split: float64 rows [n, d], the model's answer to each, and what a feature may be.

    low, high, unit: [d]; unit is the size of a change that is plain to see.  shape: of one row.  is_image: the last
    two axes of `shape` are height and width.  whole: the model takes whole numbers.
    """

    rows: Rows
    labels: npt.NDArray[np.int64]
    low: Rows
    high: Rows
    unit: Rows
    shape: tuple[int, ...]
    is_image: bool
    whole: bool = False

    def fit(self, rows: Rows) -> Rows:
        """Return rows as the model would get them: within range, and whole where they must be."""
        inside = np.clip(rows, self.low, self.high)
        return np.rint(inside) if self.whole else inside


Behaviour: TypeAlias = Callable[[Random, Pool, int], Rows]


def _order(random: Random, count: int, length: int) -> npt.NDArray[np.int64]:
    """Return `length` positions, each of `count` once before any comes again."""
    rounds = [random.permutation(count) for _ in range(-(-length // count))]
    return np.asarray(np.concatenate(rounds)[:length], np.int64)


def iid(random: Random, pool: Pool, length: int) -> Rows:
    """Objects in any order."""
    return pool.rows[_order(random, len(pool.rows), length)]


def skew(random: Random, pool: Pool, length: int) -> Rows:
    """Objects of a few classes alone."""
    classes = np.unique(pool.labels)
    chosen = classes[random.permutation(len(classes))[: max(1, round(0.3 * len(classes)))]]
    mine = np.flatnonzero(np.isin(pool.labels, chosen))
    return pool.rows[mine[_order(random, len(mine), length)]]


def retries(random: Random, pool: Pool, length: int) -> Rows:
    """One query in four repeats one of the last ten exactly."""
    rows = iid(random, pool, length)
    for at in np.flatnonzero(random.random(length) < 0.25).tolist():
        rows[at] = rows[max(0, at - int(random.integers(1, 11)))]
    return rows


def noise(random: Random, pool: Pool, length: int) -> Rows:
    """Sensor noise of a twentieth of a unit."""
    rows = iid(random, pool, length)
    return pool.fit(rows + random.normal(0, 0.05, rows.shape) * pool.unit)


def bursts(random: Random, pool: Pool, length: int) -> Rows:
    """Three to six frames of each object, with a little noise and, of images, a little movement."""
    frames: list[Rows] = []
    for row in iid(random, pool, -(-length // 3)):
        for _ in range(int(random.integers(3, 7))):
            moved = _shift(random, pool, row[None])[0] if pool.is_image and random.random() < 0.3 else row
            frames.append(moved + random.normal(0, 0.02, row.shape) * pool.unit)
        if len(frames) >= length:
            break
    return pool.fit(np.array(frames[:length]))


def edits(random: Random, pool: Pool, length: int) -> Rows:
    """What-if questions: an object, then three to eight variants, each with a feature of another object."""
    found: list[Rows] = []
    for row in iid(random, pool, -(-length // 4)):
        found.append(row)
        for _ in range(int(random.integers(3, 9))):
            variant = row.copy()
            feature = int(random.integers(len(row)))
            variant[feature] = pool.rows[int(random.integers(len(pool.rows))), feature]
            found.append(variant)
        if len(found) >= length:
            break
    return np.array(found[:length])


def contrast(random: Random, pool: Pool, length: int) -> Rows:
    """Images that are darker or brighter."""
    rows = iid(random, pool, length)
    return pool.fit(pool.low + (rows - pool.low) * random.uniform(0.75, 1.25, (length, 1)))


def translation(random: Random, pool: Pool, length: int) -> Rows:
    """Images moved by up to one pixel."""
    return _shift(random, pool, iid(random, pool, length))


def mixed(random: Random, pool: Pool, length: int) -> Rows:
    """Clients of all behaviours at once, as all who are anonymous are."""
    kinds = [kind for name, kind in BEHAVIOURS.items() if kind is not mixed and (pool.is_image or name not in IMAGES)]
    parts = np.array_split(_order(random, len(pool.rows), max(length, len(pool.rows))), len(kinds))
    runs = [kind(random, _part(pool, part), length) for kind, part in zip(kinds, parts, strict=True)]
    turns = random.integers(len(kinds), size=length)
    places = [int((turns[:at] == turn).sum()) for at, turn in enumerate(turns)]
    return np.array([runs[turn][place] for turn, place in zip(turns, places, strict=True)])


def _part(pool: Pool, chosen: npt.NDArray[np.int64]) -> Pool:
    return Pool(
        pool.rows[chosen], pool.labels[chosen], pool.low, pool.high, pool.unit, pool.shape, pool.is_image, pool.whole
    )


def _shift(random: Random, pool: Pool, rows: Rows) -> Rows:
    images = rows.reshape(len(rows), -1, *pool.shape[-2:])
    steps: list[list[int]] = random.integers(-1, 2, (len(rows), 2)).tolist()
    moved = [_move(image, down, right) for image, (down, right) in zip(images, steps, strict=True)]
    return np.array(moved).reshape(rows.shape)


def _move(image: Rows, down: int, right: int) -> Rows:
    moved = np.roll(image, (down, right), axis=(-2, -1))
    if down:
        moved[..., 0 if down > 0 else -1, :] = image[..., 0 if down > 0 else -1, :]
    if right:
        moved[..., :, 0 if right > 0 else -1] = image[..., :, 0 if right > 0 else -1]
    return moved


BEHAVIOURS: Mapping[str, Behaviour] = {
    "iid": iid,
    "skew": skew,
    "retries": retries,
    "noise": noise,
    "bursts": bursts,
    "edits": edits,
    "contrast": contrast,
    "translation": translation,
    "mixed": mixed,
}
IMAGES = frozenset({"contrast", "translation"})
"""Behaviours that only images have."""


def declared(names: tuple[str, ...], *, is_image: bool) -> Iterator[str]:
    """Yield the behaviours that apply, in the table's order: those of `names`, or all."""
    for name in BEHAVIOURS:
        if (not names or name in names) and (is_image or name not in IMAGES):
            yield name
