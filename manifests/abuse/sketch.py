"""D1, the scan-resistant anchor counter: it finds who asks again and again about nearly the same point.

A query becomes a code of 256 bits under a secret key, so that the bits in which two codes differ tell how far apart
the queries are, up to a radius, and nothing beyond it (Raginsky and Lazebnik, "Locality-sensitive binary codes from
shift-invariant kernels", 2009).  The newest 256 codes lie in a ring.  A query that comes near one of them, at one of
three scales, promotes it to an anchor of that scale, and every further query near an anchor counts for it.  Traffic in
between flushes the ring, but no anchor, which is what makes the counter resistant to padding (the idea of 2Q caches).
Exact repetitions are answered and not counted: people retry, and a second answer says nothing new.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

WIDTH = 32
"""Dimensions that all features are first projected to."""
BITS = 256
RING = 256
ANCHORS = 128
"""Anchors kept for each scale."""
SCALES = 3
HALVING = 600
"""New queries after which all counts are halved, so that years of benign use do not add up."""

_TABLE = RING + SCALES * ANCHORS
_WORDS = BITS // 64
_BLOCKS = _TABLE // ANCHORS
_STARTS = tuple(range(0, _TABLE, ANCHORS))
"""The table in blocks as long as one scale's anchors: the ring's, then those of each scale."""
_ABSENT = 1 << 14
"""Added to the distance of rows that are not used."""
_RETRY_KEY = 32
_ODD = np.int32(1)
_OFFSET = np.float32(1 << 12)
"""Even, and added before a cell is cut to a whole number, which rounds towards zero: cells of usual rows are above."""

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint64]


def _stream(key: bytes, label: bytes, size: int) -> npt.NDArray[np.uint8]:
    data = hashlib.shake_256(b"strongroom sketch v1\0" + label + b"\0" + key).digest(size)
    return np.frombuffer(data, np.uint8)


def signs(key: bytes, label: bytes, rows: int, columns: int) -> Floats:
    """Return a secret matrix of signs that follows from a key of any length."""
    bits = np.unpackbits(_stream(key, label, -(-rows * columns // 8)))[: rows * columns]
    return bits.reshape(rows, columns).astype(np.float32) * 2 - 1


class Sketcher:
    """Turns standardised rows into codes; one for each model and start of the enclave."""

    def __init__(self, key: bytes, features: int, radius: float) -> None:
        """Draw the secrets from `key`; `radius` is the distance at which three bits in ten differ."""
        self.first = signs(key, b"first", features, WIDTH) / np.float32(math.sqrt(WIDTH))
        self._second = signs(key, b"second", WIDTH, BITS) * np.float32(0.375 / radius)
        self._phases = _stream(key, b"phases", BITS).astype(np.float32) / np.float32(128) + _OFFSET
        self._keyed = hashlib.blake2b(key=_stream(key, b"retries", _RETRY_KEY).tobytes(), digest_size=8)

    def codes(self, rows: Floats) -> Codes:
        """Return the codes [n, 4] of standardised rows [n, features]."""
        return self.codes_of(rows @ self.first)

    def codes_of(self, projected: Floats) -> Codes:
        """Return the codes [n, 4] of rows that were multiplied by `first`."""
        cells = projected @ self._second
        cells += self._phases
        whole = cells.astype(np.int32)
        whole &= _ODD
        return np.packbits(whole).view(np.uint64).reshape(len(cells), _WORDS)

    def fingerprint(self, row: bytes) -> int:
        """Return 64 keyed bits of a row's exact bytes, by which a repetition is known; never zero."""
        hasher = self._keyed.copy()
        hasher.update(row)
        return int.from_bytes(hasher.digest(), "little") | 1


def differing(distance: float, radius: float) -> float:
    """Return the expected number of bits that differ at a distance, for a Sketcher of that radius.

    A bit is the parity of floor(t + phase), and t differs by a normal deviate of deviation s = 0.375 distance / radius:
    the expectation is that of a triangular wave, given by its Fourier series.
    """
    s = 0.375 * distance / radius
    waves = sum(math.exp(-((math.pi * k * s) ** 2) / 2) / k**2 for k in range(1, 40, 2))
    return BITS * (0.5 - 4 / math.pi**2 * waves)


class AnchorCounter:
    """The state of one identity.

    `tops` holds the present statistics: the greatest count of each scale, the greatest straddle (queries near an
    anchor whose answer differs from the anchor's), and the churn (queries that pushed an anchor out).
    """

    def __init__(self, limits: tuple[int, ...], tops: npt.NDArray[np.float64] | None = None) -> None:
        """Start empty; `limits` are for each scale the differing bits up to which two queries are near.

        tops: five zeros, where the statistics shall be kept, if that is elsewhere.
        """
        self._limits = limits
        self._codes = np.zeros((_WORDS, _TABLE), np.uint64)
        self._absent = np.full(_TABLE, _ABSENT, np.uint16)
        self._prints = np.zeros(_TABLE, np.uint64)
        self._labels = np.zeros(_TABLE, np.int16)
        self._counts = np.full((SCALES, ANCHORS), -1, np.int32)
        self._straddles = np.zeros((SCALES, ANCHORS), np.int32)
        self._seen = 0
        self.tops = np.zeros(SCALES + 2, np.float64) if tops is None else tops

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        tables = (self._codes, self._absent, self._prints, self._labels, self._counts, self._straddles)
        return sum(table.nbytes for table in tables)

    def see(self, code: Codes, mark: int, label: int) -> bool:
        """Take one query: its code, its fingerprint and the predicted class; tell whether it is new."""
        if np.count_nonzero(self._prints == mark):
            return False
        bits = np.bitwise_count(self._codes ^ code[:, None])
        far = np.add.reduce(bits, axis=0, dtype=np.uint16)
        far += self._absent
        *rings, first, second, third = map(int.__add__, far.reshape(_BLOCKS, ANCHORS).argmin(axis=1).tolist(), _STARTS)
        near = min(rings, key=far.item)
        nearest, pushed = far.item(near), False
        for scale, place in enumerate((first, second, third)):
            limit = self._limits[scale]
            if far.item(place) <= limit:
                self._hit(scale, place - _STARTS[scale + RING // ANCHORS], label)
            elif nearest <= limit:
                pushed |= self._promote(scale, near, label)
        self.tops[SCALES + 1] += pushed
        self._append(code, mark, label)
        return True

    def _hit(self, scale: int, anchor: int, label: int) -> None:
        count = self._counts[scale, anchor] + 1
        self._counts[scale, anchor] = count
        self.tops[scale] = max(self.tops[scale], count)
        if self._labels[RING + scale * ANCHORS + anchor] != label:
            self._straddles[scale, anchor] += 1
            self.tops[SCALES] = max(self.tops[SCALES], self._straddles[scale, anchor])

    def _promote(self, scale: int, near: int, label: int) -> bool:
        """Make the nearest of the ring an anchor in the place of the one that counts least; tell if there was one."""
        anchor = int(self._counts[scale].argmin())
        is_taken = bool(self._counts[scale, anchor] >= 0)
        place = RING + scale * ANCHORS + anchor
        self._codes[:, place] = self._codes[:, near]
        self._absent[place] = 0
        self._prints[place] = self._prints[near]
        self._labels[place] = self._labels[near]
        self._counts[scale, anchor] = 0
        self._straddles[scale, anchor] = 0
        self._hit(scale, anchor, label)
        return is_taken

    def _append(self, code: Codes, mark: int, label: int) -> None:
        place = self._seen % RING
        self._codes[:, place] = code
        self._absent[place] = 0
        self._prints[place] = mark
        self._labels[place] = label
        self._seen += 1
        if self._seen % HALVING == 0:
            self.halve()

    def halve(self) -> None:
        """Halve all counts."""
        used = self._counts >= 0
        self._counts[used] >>= 1
        self._straddles >>= 1
        self.tops[:SCALES] = np.maximum(self._counts.max(axis=1), 0)
        self.tops[SCALES] = self._straddles.max()
        self.tops[SCALES + 1] = np.floor(self.tops[SCALES + 1] / 2)
