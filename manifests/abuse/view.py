"""How the detectors look at a request: rows of standardised features, and a whitened view of at most 64 dimensions.

Everything here is a pure function of arrays, and gives finite numbers for whatever values a request may hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FAR = 64.0
"""Standardised features are cut here: a request may hold the largest of floats, whose square is none."""
_FAR = np.float32(FAR)


@dataclass(frozen=True)
class View:
    """What the owner's reference rows fix, all float32.

    mean, scale: [d], a feature is (x - mean) * scale.  basis: [d, b], orthonormal columns.  whiten: [b, b], after
    which the classes' shared covariance of the first `core` dimensions is the identity, and the others have one
    deviation each.  residual: mean and inverse deviation of the energy outside the core; (0, 0) where that is all.
    """

    mean: Floats
    scale: Floats
    basis: Floats
    whiten: Floats
    core: int
    residual: tuple[float, float]

    @property
    def features(self) -> int:
        """Elements of one row, d."""
        return len(self.mean)

    @property
    def width(self) -> int:
        """Dimensions of the whitened view: b, and one for the residual."""
        return int(self.basis.shape[1]) + 1

    def standardise(self, rows: npt.NDArray[Any]) -> Floats:
        """Return rows [n, ...] as finite float32 [n, d]; NaN becomes the mean."""
        return self.measured(rows)[0]

    def measured(self, rows: npt.NDArray[Any]) -> tuple[Floats, list[float]]:
        """Return standardised rows [n, d], and their squared lengths [n]."""
        scaled = rows.reshape(len(rows), -1).astype(np.float32)
        scaled -= self.mean
        scaled *= self.scale
        np.maximum(np.minimum(scaled, _FAR, out=scaled), -_FAR, out=scaled)
        energies: list[float] = np.vecdot(scaled, scaled).tolist()
        if not math.isfinite(sum(energies)):
            scaled[np.isnan(scaled)] = 0
            energies = np.vecdot(scaled, scaled).tolist()
        return scaled, energies

    def whitened(self, standard: Floats) -> Floats:
        """Return the view [n, b + 1] of standardised rows [n, d]: the core, the residual, and the other dimensions."""
        core, inside = self.core, standard @ self.basis
        view = np.empty((len(standard), self.width), np.float32)
        white = inside @ self.whiten
        view[:, :core] = white[:, :core]
        view[:, core] = self._residual(standard, inside)
        view[:, core + 1 :] = white[:, core:]
        return view

    def _residual(self, standard: Floats, inside: Floats) -> Floats | float:
        mean, scale = self.residual
        if scale == 0:
            return 0.0
        left = (self.outside(standard, inside) - np.float32(mean)) * np.float32(scale)
        return np.asarray(np.minimum(left, _FAR), np.float32)

    def outside(self, standard: Floats, inside: Floats) -> Floats:
        """Return the energy [n] of standardised rows outside the core, `inside` being their coordinates."""
        core = inside[:, : self.core]
        left = np.einsum("ij,ij->i", standard, standard) - np.einsum("ij,ij->i", core, core)
        return np.asarray(np.maximum(left, 0), np.float32)


def squares(rows: Floats, centers: Floats) -> Floats:
    """Return the squared distances [n, k] between rows [n, m] and centers [k, m]."""
    lengths = np.einsum("ij,ij->i", rows, rows)[:, None] + np.einsum("ij,ij->i", centers, centers)
    return np.asarray(np.maximum(lengths - 2 * (rows @ centers.T), 0), np.float32)
