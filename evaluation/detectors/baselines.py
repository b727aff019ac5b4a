"""Two published detectors, written anew from their papers, to be shown the same traffic with their papers' limits."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate.behaviours import Rows


def prada(rows: Rows, labels: npt.NDArray[np.int64], delta: float) -> int | None:
    """Return the query at which PRADA (Juuti et al., EuroS&P 2019) alarms, or None.

    Distances of each query to its nearest earlier one of the same class are normal for benign traffic: the
    Shapiro-Wilk statistic of a hundred or more of them stays above `delta`.
    """
    from scipy.stats import shapiro

    growing: dict[int, list[Rows]] = {}
    thresholds: dict[int, float] = {}
    distances: list[float] = []
    for at, (row, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
        mine = growing.setdefault(label, [])
        if mine:
            nearest = float(np.sqrt(((np.array(mine) - row) ** 2).sum(axis=1)).min())
            distances.append(nearest)
            if nearest > thresholds.get(label, -1.0):
                mine.append(row)
                kept = distances[-len(mine) :]
                thresholds[label] = max(thresholds.get(label, 0.0), float(np.mean(kept) - np.std(kept)))
        else:
            mine.append(row)
        inside = np.array(distances)
        if len(inside) > 100:
            inside = inside[np.abs(inside - inside.mean()) <= 3 * inside.std() + 1e-12]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if float(shapiro(inside).statistic) < delta:
                    return at + 1
    return None


def blacklight(rows: Rows, salt: bytes, window: int = 20, keep: int = 50) -> int | None:
    """Return the query at which Blacklight (Li et al., USENIX Security 2022) alarms, or None.

    Rows between 0 and 1 are quantised to steps of 50/255; hashes of all windows of 20 pixels are compared, the 50
    smallest of each query, and more than half in common with an earlier query is an alarm.
    """
    known: dict[bytes, set[int]] = {}
    for at, row in enumerate(rows):
        steps = np.rint(row * 255 / 50).astype(np.uint8).tobytes()
        hashes = {hashlib.sha256(salt + steps[start : start + window]).digest() for start in range(len(steps) - window)}
        prints = sorted(hashes)[:keep]
        common: dict[int, int] = {}
        for one in prints:
            for earlier in known.get(one, ()):
                common[earlier] = common.get(earlier, 0) + 1
        if max(common.values(), default=0) > len(prints) / 2:
            return at + 1
        for one in prints:
            known.setdefault(one, set()).add(at)
    return None
