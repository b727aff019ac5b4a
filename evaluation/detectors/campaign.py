"""Replays benign sessions and attacks through the detectors, and counts; everything follows from the seeds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from evaluation.detectors.baselines import blacklight, prada
from evaluation.detectors.evasions import EVASIONS, BlockedError, Oracle
from evaluation.detectors.thefts import THEFTS
from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import BEHAVIOURS, Rows, declared
from manifests.abuse.calibrate.learn import Report, Settings, learn
from manifests.abuse.profile import Profile
from manifests.abuse.scores import squeeze
from manifests.abuse.state import DETECTORS, Lens, Watch

LENGTH = 300
GATE = {"L2": 0.6, "Linf": 0.12}
"""An adversarial example counts within one of these: about half the distance between classes that are near."""


@dataclass
class Tally:
    """Sessions of one kind: where each raised its first alarm, and its first by two detectors (None: never)."""

    first: list[int | None] = field(default_factory=list)
    hard: list[int | None] = field(default_factory=list)
    detectors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DETECTORS, 0))

    def add(self, first: int | None, hard: int | None, alarms: int) -> None:
        """Count one session."""
        self.first.append(first)
        self.hard.append(hard)
        for bit, name in enumerate(DETECTORS):
            self.detectors[name] += alarms >> bit & 1

    @property
    def detected(self) -> int:
        """Sessions with an alarm."""
        return sum(first is not None for first in self.first)

    @property
    def median(self) -> float | None:
        """The median number of queries to detection, where sessions without count as longer than all."""
        ordered = sorted(LENGTH + 1 if first is None else first for first in self.first)
        middle = ordered[len(ordered) // 2] if ordered else LENGTH + 1
        return None if middle > LENGTH else middle


class Campaign:
    """One victim with its calibrated profile."""

    def __init__(self, victim: Victim, settings: Settings) -> None:
        """Calibrate on the victim's sample."""
        self.victim = victim
        start = time.process_time()
        self.profile, self.report = calibrated(victim, settings)
        self.seconds = time.process_time() - start
        self._random = np.random.default_rng(settings.seed + 1000)

    def session(self, rows: Rows) -> tuple[int | None, int | None, int]:
        """Show one session to a fresh identity under a fresh key; return first alarm, first of two, and detectors."""
        subject, profile = self.victim.subject, self.profile
        asked = subject.rows(rows)
        squeezed = subject.run(squeeze(profile.squeeze, asked)) if profile.squeeze.levels else None
        looks = Lens(profile, self._random.bytes(32)).look(asked, subject.run(asked), squeezed)
        watch, seen, first, hard = Watch(profile), 0, None, None
        for row in range(len(rows)):
            watch.see(looks, row)
            seen |= watch.alarms()
            first = row + 1 if first is None and seen else first
            hard = row + 1 if hard is None and seen.bit_count() >= 2 else hard
        return first, hard, seen

    def benign(self, sessions: int) -> dict[str, Tally]:
        """Replay benign sessions of test objects."""
        names = declared((), is_image=self.victim.test.is_image)
        return {name: self._replay(partial(self._behave, name), sessions) for name in names}

    def thefts(self, sessions: int, names: Iterable[str] = THEFTS) -> dict[str, Tally]:
        """Replay extraction attacks."""
        return {name: self._replay(partial(self._steal, name), sessions) for name in names}

    def _behave(self, name: str) -> Rows:
        pool = self.victim.test
        return pool.fit(BEHAVIOURS[name](self._random, pool, min(LENGTH, len(pool.rows))))

    def _steal(self, name: str) -> Rows:
        return THEFTS[name](self._random, self.victim, LENGTH)

    def _replay(self, make: Callable[[], Rows], sessions: int) -> Tally:
        tally = Tally()
        for _ in range(sessions):
            tally.add(*self.session(make()))
        return tally

    def evasions(self, targets: int, budget: int, **oracle: Any) -> dict[str, dict[str, Any]]:
        """Attack targets, each from a fresh identity, with the detectors and, for comparison, without."""
        return {name: self._evade(name, targets, budget, **oracle) for name in EVASIONS}

    def _evade(self, name: str, targets: int, budget: int, **options: Any) -> dict[str, Any]:
        victim, attack = self.victim, EVASIONS[name]
        never = replace(self.profile, limits=(1e12,) * len(self.profile.limits))
        outcomes: dict[str, list[Oracle]] = {"open": [], "guarded": []}
        for target in victim.test.rows[:targets]:
            for kind, profile in (("open", never), ("guarded", self.profile)):
                random = np.random.default_rng(len(outcomes[kind]))
                lens = Lens(profile, random.bytes(32))
                padded = options if kind == "guarded" else {**options, "padding": 0}
                oracle = Oracle(victim, lens, target, budget, seed=len(outcomes[kind]), **padded)
                others = victim.attacker.rows[victim.attacker.labels != oracle.label]
                start = others[((others - target) ** 2).sum(axis=1).argmin()]
                with contextlib.suppress(BlockedError):
                    attack(random, oracle, target, start, victim)
                outcomes[kind].append(oracle)
        guarded = outcomes["guarded"]
        firsts = sorted(LENGTH * 1000 if oracle.first is None else oracle.first for oracle in guarded)
        return {
            "targets": targets,
            "open": sum(map(_succeeded, outcomes["open"])),
            "guarded": sum(map(_succeeded, guarded)),
            "detected": sum(oracle.first is not None for oracle in guarded),
            "median": firsts[len(firsts) // 2],
        }

    def baselines(self, sessions: int) -> dict[str, dict[str, list[int | None]]]:
        """Show benign sessions and thefts to the published detectors."""
        victim = self.victim
        found: dict[str, dict[str, list[int | None]]] = {}
        streams = {name: partial(self._behave, name) for name in declared((), is_image=victim.test.is_image)}
        streams |= {name: partial(self._steal, name) for name in THEFTS}
        for name, make in streams.items():
            rows = [make() for _ in range(sessions)]
            found[name] = {
                "PRADA .95": [prada(one, victim.labels(one), 0.95) for one in rows],
                "PRADA .87": [prada(one, victim.labels(one), 0.87) for one in rows],
                "Blacklight": [blacklight(one, self._random.bytes(16)) for one in rows],
            }
        return found

    def cost(self, queries: int = 2000) -> dict[str, float]:
        """Return microseconds of one query that comes alone, and the bytes of one identity."""
        subject, profile = self.victim.subject, self.profile
        rows = subject.rows(self.victim.test.rows[np.arange(queries) % len(self.victim.test.rows)])
        outputs = subject.run(rows)
        lens, own, pool, times = Lens(profile, b"cost"), Watch(profile), Watch(profile), []
        for row in range(queries):
            start = time.perf_counter_ns()
            looks = lens.look(rows[row : row + 1], outputs[row : row + 1])
            own.see(looks, 0)
            pool.see(looks, 0)
            times.append(time.perf_counter_ns() - start)
        p50, p99 = np.quantile(np.array(times) / 1000, [0.5, 0.99])
        return {"p50": float(p50), "p99": float(p99), "least": min(times) / 1000, "bytes": own.nbytes}


def _succeeded(oracle: Oracle) -> bool:
    return any(oracle.best[norm] <= GATE[norm] for norm in GATE)


def calibrated(victim: Victim, settings: Settings) -> tuple[Profile, Report]:
    """Calibrate on a victim's sample."""
    return learn(victim.sample, np.arange(len(victim.sample)), victim.subject, settings)
