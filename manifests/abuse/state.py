"""What is remembered of one identity, and of all together: constant work per query, constant memory.

A `Lens` belongs to a model and turns a request's rows into `Looks`; a `Watch` is one identity's state, and takes them
one by one.  Both are deterministic: the same key and the same queries in the same order give the same alarms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.abuse.profile import CELLS, HEADS, STATISTICS, STREAMS, Profile
from manifests.abuse.scores import Outputs, Scorer
from manifests.abuse.sketch import SCALES, AnchorCounter, Codes, Sketcher
from manifests.abuse.view import Floats

MEMORY = np.float32(1 / 512)
"""Weight of the newest query in the drift detector's running mean."""
_KEPT = np.float32(1) - MEMORY
CADENCE = 32
"""Queries between two looks at the slow statistics."""

DETECTORS = ("anchors", "churn", "distance", "margin", "shape", "drift")
"""Independent reasons for an alarm; a hard verdict wants two of them."""

BUDGET = 1 << len(DETECTORS)
"""One more bit: the policy's budget of unique queries or of coverage is used up."""

_DETECTOR_OF = {"straddle": "anchors", "stateless": "margin", **dict.fromkeys(HEADS, "shape")}


def _detector(statistic: str) -> str:
    name = statistic.rpartition("-")[0] or statistic
    return _DETECTOR_OF.get(name, name)


_MASKS = [
    sum(1 << 8 * at for at, name in enumerate(STATISTICS) if _detector(name) == detector) for detector in DETECTORS
]
"""For each detector a byte of one for each of its statistics."""


@dataclass(frozen=True)
class Looks:
    """What a request's rows [n] are to the detectors; no row can be made from them.

    steps: [n, 2, 6], what the fast and the slow CUSUM of each stream move by.  waves: [n, 256], with their weight.
    """

    codes: Codes
    marks: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    steps: Floats
    waves: Floats
    cells: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.marks)


class Lens:
    """A profile, compiled with a secret key."""

    def __init__(self, profile: Profile, key: bytes) -> None:
        """Draw the secret projection; the same key gives the same."""
        self.profile = profile
        self._sketcher = Sketcher(key, profile.view.features, profile.radius)
        self._scorer = Scorer(profile, self._sketcher.first)

    def look(self, rows: npt.NDArray[np.generic], outputs: Outputs, squeezed: Outputs | None = None) -> Looks:
        """Look at a client's rows [n, ...], the graph's answers [n, classes] or [n], and those to squeezed rows."""
        seen = self._scorer.look(rows, outputs, squeezed)
        waves = np.cos(seen.angles)
        waves *= MEMORY
        marks = tuple(self._sketcher.fingerprint(row.tobytes()) for row in rows)
        codes = self._sketcher.codes_of(seen.projected)
        steps = self._scorer.streams(seen.scores)[:, None] - self.profile.drifts
        return Looks(codes, marks, seen.labels, steps, waves, seen.places.argmax(axis=1))


class Watch:
    """One identity's state.

    `values` are the present STATISTICS.  `unique`: queries that were no repetition.
    """

    def __init__(self, profile: Profile) -> None:
        """Start without a memory."""
        self._profile = profile
        self.values = np.zeros(len(STATISTICS))
        self._anchors = AnchorCounter(profile.nearness, self.values[: SCALES + 2])
        self._sums = self.values[SCALES + 2 : -1].reshape(2, len(STREAMS))
        self._mean = profile.middle.copy()
        self._cells = np.zeros(CELLS, np.bool_)
        self._limits = np.array(profile.limits)
        self.unique = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, which never grow."""
        tables = (self._mean, self._cells, self._limits, self.values)
        return self._anchors.nbytes + sum(table.nbytes for table in tables)

    @property
    def coverage(self) -> float:
        """Share of the reference data's cells that this identity has touched."""
        return float(self._cells.mean())

    def see(self, looks: Looks, row: int) -> None:
        """Take one query of a request; an exact repetition changes nothing."""
        if not self._anchors.see(looks.codes[row], looks.marks[row], int(looks.labels[row])):
            return
        self.unique += 1
        sums, mean = self._sums, self._mean
        sums += looks.steps[row]
        np.maximum(sums, 0, out=sums)
        mean *= _KEPT
        mean += looks.waves[row]
        self._cells[looks.cells[row]] = True
        if self.unique % CADENCE == 0:
            apart = self._mean - self._profile.middle
            self.values[-1] = apart @ apart

    def absorb(self, other: Watch) -> None:
        """Take over another identity's suspicions: sums, coverage and count; its anchors are given up."""
        np.maximum(self._sums, other._sums, out=self._sums)
        self._cells |= other._cells
        self.unique += other.unique

    def calm(self) -> None:
        """Forget sums, and halve counts: the identity was quiet for as long as its policy asks."""
        self._mean[:] = self._profile.middle
        self._anchors.halve()
        self.values[SCALES + 2 :] = 0

    def share(self) -> float:
        """Return the greatest share of a limit that any statistic has reached: 1 is where an alarm begins."""
        with np.errstate(all="ignore"):
            return float(np.nanmax(self.values / self._limits, initial=0.0))

    def alarms(self, factor: float = 1.0) -> int:
        """Return which DETECTORS have passed `factor` times their limits, as bits."""
        limits = self._limits if factor == 1 else factor * self._limits
        passed = int.from_bytes((self.values > limits).tobytes(), "little")
        return sum(1 << bit for bit, mask in enumerate(_MASKS) if passed & mask)
