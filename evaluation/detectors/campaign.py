"""Replays benign sessions and attacks through the detectors, and counts; everything follows from the seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from evaluation.detectors.answering import Governed, Unwatched, Watched
from evaluation.detectors.baselines import blacklight, prada
from evaluation.detectors.evasions import EVASIONS, Oracle, attack_target
from evaluation.detectors.thefts import THEFTS
from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import BEHAVIOURS, Rows, declared
from manifests.abuse.calibrate.learn import Report, Settings, learn
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.abuse.profile import Profile
from manifests.abuse.scores import squeeze
from manifests.abuse.state import DETECTORS, Lens, Watch

LENGTH = 300
LONG = 1500
HIDDEN_AMONG = ("50 % diluted", "25 % diluted", "10 % diluted", "5 % diluted", "in-distribution")
_STRICT = AbusePolicy(ladder=(Rung(Action.LOG), Rung(Action.REFUSE, after=1)))
TERMS: Mapping[str, tuple[AbusePolicy | None, bool]] = {
    "scores, unwatched": (None, False),
    "scores, default ladder": (AbusePolicy(), False),
    "labels, unwatched": (None, True),
    "labels, default ladder": (AbusePolicy(), True),
    "labels, one detector refuses": (_STRICT, True),
}
"""What an evasion meets: the policy, if any, and whether the owner gives labels alone."""
GATE = {"L2": 0.6, "Linf": 0.12}
"""An adversarial example counts within one of these: about half the distance between classes that are near."""


@dataclass
class Tally:
    """Sessions of one kind: where each raised its first alarm, and its first by two detectors (None: never)."""

    first: list[int | None] = field(default_factory=list)
    hard: list[int | None] = field(default_factory=list)
    detectors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DETECTORS, 0))
    length: int = LENGTH

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


class Campaign:
    """One victim with its calibrated profile."""

    def __init__(self, victim: Victim, settings: Settings) -> None:
        """Calibrate on the victim's sample."""
        self.victim = victim
        self.profile, self.report = calibrated(victim, settings)
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

    def only(self, name: str, sessions: int) -> Tally:
        """Replay benign sessions of one behaviour."""
        return self._replay(partial(self._behave, name), sessions)

    def _behave(self, name: str, length: int = 0) -> Rows:
        pool = self.victim.test
        return pool.fit(BEHAVIOURS[name](self._random, pool, length or min(LENGTH, len(pool.rows))))

    def _steal(self, name: str, length: int = LENGTH) -> Rows:
        return THEFTS[name](self._random, self.victim, length)

    def _replay(self, make: Callable[[], Rows], sessions: int, length: int = LENGTH) -> Tally:
        tally = Tally(length=length)
        for _ in range(sessions):
            tally.add(*self.session(make()))
        return tally

    def evasions(self, targets: int, budget: int, **oracle: Any) -> dict[str, dict[str, Any]]:
        """Attack targets, each from a fresh identity, with the detectors and, for comparison, without."""
        return {name: self._evade(name, targets, budget, **oracle) for name in EVASIONS}

    def _evade(self, name: str, targets: int, budget: int, *, padding: int = 0, blind: float = 0.0) -> dict[str, Any]:
        victim, free = self.victim, Unwatched(self.victim)
        unwatched, guarded, firsts = 0, 0, []
        for seed, target in enumerate(victim.test.rows[:targets]):
            unwatched += succeeded(attack_target(name, victim, free, target, budget=budget, seed=seed, blind=blind))
            watched = Watched(victim, self.profile, self._random.bytes(32))
            guarded += succeeded(
                attack_target(name, victim, watched, target, budget=budget, seed=seed, blind=blind, padding=padding)
            )
            firsts.append(watched.first)
        ordered = sorted(LENGTH * 1000 if first is None else first for first in firsts)
        found = sum(first is not None for first in firsts)
        median = ordered[len(ordered) // 2]
        return {"targets": targets, "open": unwatched, "guarded": guarded, "detected": found, "median": median}

    def governed(self, targets: int, budget: int) -> dict[str, dict[str, dict[str, Any]]]:
        """Attack targets under the ladder: how many succeed with scores or labels, under no ladder, or another."""
        return {name: self._govern(name, targets, budget) for name in EVASIONS}

    def _govern(self, name: str, targets: int, budget: int) -> dict[str, dict[str, Any]]:
        found = {}
        for terms, (policy, labels) in TERMS.items():
            hits, refused = 0, []
            for seed, target in enumerate(self.victim.test.rows[:targets]):
                answer: Unwatched | Governed = Unwatched(self.victim, labels=labels)
                if policy is not None:
                    answer = Governed(self.victim, self.profile, self._random.bytes(32), policy, labels=labels)
                    refused.append(answer)
                hits += succeeded(attack_target(name, self.victim, answer, target, budget=budget, seed=seed))
            found[terms] = {"targets": targets, "hits": hits, "refused": [one.refused for one in refused]}
        return found

    def long(self, sessions: int, length: int = LONG) -> dict[str, dict[str, Tally]]:
        """Replay long sessions: benign ones, and thefts that hide among natural rows."""
        names = declared((), is_image=self.victim.test.is_image)
        behave = {name: self._replay(partial(self._behave, name, length), sessions, length) for name in names}
        steal = {name: self._replay(partial(self._steal, name, length), 2 * sessions, length) for name in HIDDEN_AMONG}
        return {"benign": behave, "thefts": steal}

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


def left_out(victim: Victim, settings: Settings, name: str, sessions: int) -> Tally:
    """Calibrate without a behaviour, and without the mixture that has it, and replay sessions of it."""
    known = tuple(other for other in declared((), is_image=victim.test.is_image) if other not in {name, "mixed"})
    return Campaign(victim, replace(settings, behaviours=known)).only(name, sessions)


def succeeded(oracle: Oracle) -> bool:
    return any(oracle.best[norm] <= GATE[norm] for norm in GATE)


def calibrated(victim: Victim, settings: Settings) -> tuple[Profile, Report]:
    """Calibrate on a victim's sample."""
    return learn(victim.sample, np.arange(len(victim.sample)), victim.subject, settings)
