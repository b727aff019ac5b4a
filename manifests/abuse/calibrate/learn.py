"""Calibration: benign rows in, a profile and its held-out false positive rate out.

1. Objects are split, without replacement, into reference (40 %), calibration (40 %) and validation (20 %).
2. The reference rows, under every declared behaviour, fix scaling, classes, covariance, cells and the discriminator.
3. The calibration rows fix the tails of scores under each behaviour, and what the CUSUMs take off.
4. Sessions of the calibration rows fix the limits; each session has another secret key, as each boot will.
5. Sessions of the validation rows, which nothing was fitted to, give the false positive rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate import fit
from manifests.abuse.calibrate.behaviours import BEHAVIOURS, Pool, Random, Rows, declared
from manifests.abuse.calibrate.intervals import clopper_pearson, upper_quantile
from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.profile import KNOTS, MAX_VIEW, SCORES, STATISTICS, STREAMS, Profile, Squeeze
from manifests.abuse.scores import Outputs, Scorer, squeeze
from manifests.abuse.sketch import SCALES, differing
from manifests.abuse.state import DETECTORS, Lens, Watch
from manifests.abuse.view import Floats

Run: TypeAlias = Callable[[npt.NDArray[Any]], Outputs]
"""The model: rows [n, ...] as clients send them, in; the graph's scores [n, classes] or labels [n], out."""
Progress: TypeAlias = Callable[[int, int], None]

LEAST_ROWS = 500
ROWS_PER_DIMENSION = 20
"""Below that, a covariance of d dimensions is noise: from 36 rows, half of all benign sessions raised an alarm.

d is the width that is looked at, `Settings.width` at most, and not that of the input: only the core's covariance has
d * d numbers to learn.  The other axes have one deviation each, and the bound of 500 is enough for those.
"""
_SPLIT = (0.4, 0.8)
_HEADROOM = 1.15
_CHURN = 400.0
"""Least limit of churn: honest bursts of three frames and more stay below 270 for ever, floods of pairs reach 600."""
_LEAST_CLASS = 20
_SUSPECTS = 6000
"""Suspicious rows of each kind: more do not teach 512 units anything."""
_SLOW = 1.06
_FAST = 1.3


@dataclass(frozen=True)
class Settings:
    """What the owner asks for.

    rate: false positive rate, the share of benign sessions of `length` queries (or of as many as a split has objects)
    that may raise any alarm.  width: most
    dimensions of the whitened view.  sessions: of each behaviour, for limits; a third as many validate.  levels: steps
    of the squeezed input, 0 for no squeezing.
    """

    rate: float = 0.001
    seed: int = 0
    width: int = 32
    behaviours: tuple[str, ...] = ()
    sessions: int = 120
    length: int = 300
    levels: int = 0
    is_image: bool = False
    least_rows: int = LEAST_ROWS


@dataclass(frozen=True)
class Subject:
    """The model to be watched: names of its input and its output, dtype and shape of a row, and how it is run."""

    input: str
    output: str
    labels_only: bool
    classes: int
    dtype: str
    shape: tuple[int, ...]
    run: Run

    def rows(self, flat: Rows) -> npt.NDArray[Any]:
        """Return rows as a client sends them."""
        return flat.reshape(len(flat), *self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Report:
    """What calibration tells: rows of each split, and of each behaviour sessions and those with an alarm."""

    splits: tuple[int, int, int]
    sessions: dict[str, int]
    alarmed: dict[str, int]
    hard: int
    by_detector: dict[str, int] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the share of held-out sessions with any alarm."""
        return clopper_pearson(sum(self.alarmed.values()), sum(self.sessions.values()))


def split(groups: npt.NDArray[np.int64], random: Random) -> list[npt.NDArray[np.int64]]:
    """Return the positions of the three splits; rows of one group (one source object) stay together."""
    names = random.permutation(np.unique(groups))
    first, second = (round(len(names) * share) for share in _SPLIT)
    return [np.flatnonzero(np.isin(groups, part)) for part in np.split(names, [first, second])]


def learn(
    rows: Rows,
    groups: npt.NDArray[np.int64],
    subject: Subject,
    settings: Settings,
    progress: Progress | None = None,
    *,
    objects: int | None = None,
) -> tuple[Profile, Report]:
    """Calibrate on benign rows [n, d] (float64) of these source objects; raises AbuseError.

    objects: how many different ones there are, where groups are something else, such as sessions.

    Deterministic: the same rows, model and settings give the same profile, byte for byte.
    """
    width = min(settings.width, MAX_VIEW, rows.shape[1])
    check_size(len(np.unique(groups)) if objects is None else objects, width, settings.least_rows)
    random = np.random.default_rng(settings.seed)
    parts = split(groups, random)
    _check_parts(parts, groups)
    pools = [_pool(rows, part, subject, settings) for part in parts]
    teacher = _Teacher(subject, settings, random, progress)
    profile = teacher.limits(teacher.tails(teacher.fit(pools[0], width), pools[1]), pools[1])
    sessions, alarmed, hard, by_detector = teacher.validate(profile, pools[2])
    sizes = (len(parts[0]), len(parts[1]), len(parts[2]))
    return profile, Report(sizes, sessions, alarmed, hard, by_detector)


def _check_parts(parts: list[npt.NDArray[np.int64]], groups: npt.NDArray[np.int64]) -> None:
    """Refuse a sample of too few groups for three splits; raises AbuseError `calibration-sample-short`."""
    if not all(part.size for part in parts):
        raise AbuseError(
            AbuseCode.SAMPLE_SHORT,
            "what belongs together stays in one split, and there is not enough for three",
            expected="rows of several objects or sessions in each of the three splits",
            found=f"{len(np.unique(groups))} in all",
        )


def check_size(rows: int, width: int, least: int = LEAST_ROWS) -> None:
    """Refuse to arm on too little; raises AbuseError `calibration-sample-short`."""
    needed = max(least, ROWS_PER_DIMENSION * width) if least else 0
    if rows < needed:
        raise AbuseError(
            AbuseCode.SAMPLE_SHORT,
            f"{rows} different objects are too few to hold a false positive rate in {width} dimensions",
            expected=f"at least {needed} different objects: {LEAST_ROWS}, and {ROWS_PER_DIMENSION} for each dimension",
            found=rows,
            remedy="collect more benign rows that differ, or look in fewer dimensions with --width",
        )


def _pool(rows: Rows, chosen: npt.NDArray[np.int64], subject: Subject, settings: Settings) -> Pool:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if settings.is_image:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        unit = high - low
    else:
        unit = 3 * rows.std(axis=0)
    mine = rows[chosen]
    labels = _predicted(subject, mine)
    whole = np.dtype(subject.dtype).kind in "iub"
    return Pool(mine, labels, low, high, unit, subject.shape, settings.is_image, whole)


def _predicted(subject: Subject, flat: Rows) -> npt.NDArray[np.int64]:
    outputs = subject.run(subject.rows(flat))
    if subject.labels_only:
        return np.clip(outputs.reshape(len(flat)).astype(np.int64), 0, subject.classes - 1)
    return np.asarray(np.nan_to_num(outputs.astype(np.float32)).argmax(axis=1), np.int64)


class _Teacher:
    """The steps; what they draw comes from one random stream, in one order."""

    def __init__(self, subject: Subject, settings: Settings, random: Random, progress: Progress | None) -> None:
        self._subject = subject
        self._settings = settings
        self._random = random
        self._progress = progress
        self._names = tuple(declared(settings.behaviours, is_image=settings.is_image))
        self._done = 0
        self._held_out = -(-settings.sessions // 3)
        self._total = len(self._names) * (settings.sessions + self._held_out)

    def fit(self, pool: Pool, width: int) -> Profile:
        """Take step 2: everything but tails, drifts and limits."""
        random, subject, settings = self._random, self._subject, self._settings
        augmented = np.concatenate([self._behave(name, pool, len(pool.rows)) for name in self._names])
        plain = fit.fit_view(pool, augmented, width)
        view, centers = fit.whiten(plain, augmented, _predicted(subject, augmented), subject.classes)
        looked = view.whitened(view.standardise(augmented))
        hidden, bias, heads = fit.fit_discriminator(random, view, pool, augmented, min(4 * len(augmented), _SUSPECTS))
        waves, phases, middle = fit.fit_waves(random, looked)
        span = np.maximum(pool.high - pool.low, 1e-9).astype(np.float32)
        nothing = np.zeros((2, KNOTS), np.float32)
        radius, nearness = _nearness(view.standardise(pool.rows))
        return Profile(
            input=subject.input,
            output=subject.output,
            labels_only=subject.labels_only,
            classes=subject.classes,
            view=view,
            centers=centers,
            cells=fit.fit_cells(random, looked),
            hidden=hidden,
            bias=bias,
            heads=heads,
            tails=dict.fromkeys(SCORES, nothing),
            drifts=np.zeros((2, len(STREAMS)), np.float32),
            radius=radius,
            nearness=nearness,
            waves=waves,
            phases=phases,
            middle=middle,
            squeeze=Squeeze(settings.levels, pool.low.astype(np.float32), span),
            limits=(0.0,) * len(STATISTICS),
            rate=settings.rate,
        )

    def tails(self, profile: Profile, pool: Pool) -> Profile:
        """Take step 3: conformal tails of every score, and the drifts that follow from them."""
        scores = [self._scores(profile, self._behave(name, pool, 3 * len(pool.rows))) for name in self._names]
        tails = {name: fit.fit_tail([found[:, at] for found in scores]) for at, name in enumerate(SCORES)}
        scorer = Scorer(replace(profile, tails=tails))
        means = np.max([scorer.streams(found.tolist()).mean(axis=0) for found in scores], axis=0)
        hardest = np.max(
            [scorer.streams(found.tolist()).mean(axis=0) for found in self._by_class(profile, pool)], axis=0
        )
        drifts = np.stack((np.maximum(_FAST * means, _SLOW * hardest), _SLOW * np.maximum(means, hardest)))
        drifts = drifts.astype(np.float32)
        return replace(profile, tails=tails, drifts=np.maximum(drifts, np.float32(0.05)))

    def limits(self, profile: Profile, pool: Pool) -> Profile:
        """Take step 4: limits that a share `rate` of sessions passes, and never below what was seen."""
        share = self._settings.rate / len(DETECTORS)
        found = np.array([self._session(profile, name, pool)[1] for name in self._names * self._settings.sessions])
        quantiles = [upper_quantile(found[:, column], share) for column in range(found.shape[1])]
        limits = np.maximum(_HEADROOM * found.max(axis=0), quantiles)
        counts = SCALES + 2
        limits[:counts] = np.ceil(limits[:counts]) + 2
        limits[counts - 1] = max(_CHURN, limits[counts - 1])
        limits[counts:-1] += 1
        limits[-1] = max(limits[-1], _HEADROOM * self._farthest(profile, pool))
        return replace(profile, limits=tuple(limits.tolist()))

    def validate(self, profile: Profile, pool: Pool) -> tuple[dict[str, int], dict[str, int], int, dict[str, int]]:
        """Take step 5: sessions of each behaviour, those with an alarm, those with two, and alarms by detector."""
        alarmed, hard = dict.fromkeys(self._names, 0), 0
        by_detector = dict.fromkeys(DETECTORS, 0)
        for name in self._names * self._held_out:
            alarms, _ = self._session(profile, name, pool)
            alarmed[name] += alarms > 0
            hard += alarms.bit_count() >= 2
            for bit, detector in enumerate(DETECTORS):
                by_detector[detector] += alarms >> bit & 1
        return dict.fromkeys(self._names, self._held_out), alarmed, hard, by_detector

    def _by_class(self, profile: Profile, pool: Pool) -> list[Floats]:
        """Return the scores of each class's rows, and of all: some clients ask about one class for ever."""
        groups = [pool.rows[pool.labels == label] for label in np.unique(pool.labels)]
        return [self._scores(profile, rows) for rows in [pool.rows, *groups] if len(rows) >= _LEAST_CLASS]

    def _farthest(self, profile: Profile, pool: Pool) -> float:
        """Return where the drift of such a client, or of a behaviour, ends."""
        groups = [pool.rows[pool.labels == label] for label in np.unique(pool.labels)]
        groups += [self._behave(name, pool, len(pool.rows)) for name in self._names]
        ends = []
        for rows in groups:
            view = profile.view.whitened(profile.view.standardise(rows))
            apart = np.cos(view @ profile.waves + profile.phases).mean(axis=0) - profile.middle
            ends.append(float(apart @ apart) if len(rows) >= _LEAST_CLASS else 0.0)
        return max(ends)

    def _behave(self, name: str, pool: Pool, length: int) -> Rows:
        return pool.fit(BEHAVIOURS[name](self._random, pool, length))

    def _scores(self, profile: Profile, flat: Rows) -> Floats:
        rows = self._subject.rows(flat)
        outputs = self._subject.run(rows)
        return Scorer(profile).raw(rows, outputs, self._squeezed(profile, rows))

    def _squeezed(self, profile: Profile, rows: npt.NDArray[Any]) -> Outputs | None:
        return self._subject.run(squeeze(profile.squeeze, rows)) if profile.squeeze.levels else None

    def _session(self, profile: Profile, name: str, pool: Pool) -> tuple[int, npt.NDArray[np.float64]]:
        """Return the alarms of one benign session, and the greatest value of each statistic."""
        length = min(self._settings.length, len(pool.rows))  # an object asked twice, altered, would look like probing
        rows = self._subject.rows(self._behave(name, pool, length))
        lens = Lens(profile, self._random.bytes(32))
        looks = lens.look(rows, self._subject.run(rows), self._squeezed(profile, rows))
        watch = Watch(profile)
        greatest = np.zeros(len(STATISTICS))
        for row in range(len(rows)):
            watch.see(looks, row)
            np.maximum(greatest, watch.values, out=greatest)
        watch.values[:] = greatest
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
        return watch.alarms(), greatest


def _nearness(standard: Floats) -> tuple[float, tuple[int, ...]]:
    """Return the sketch's radius, and the differing bits at the three scales: half of q01, q01 and q10."""
    found = fit.neighbour_distances(standard)
    found = found[np.isfinite(found)]
    low, high = (float(np.quantile(found, share)) for share in (0.01, 0.1)) if len(found) else (1.0, 1.0)
    radius = max(high, 1e-3)
    return radius, tuple(round(differing(scale, radius)) for scale in (low / 2, low, high))
