"""Attacks that look for an adversarial example through the service, written anew in a few lines each.

Each gets a target row, a row of another class to start from, and an oracle; it asks until it is blocked or the budget
is used.  The oracle keeps the nearest row that it answered with another label: that is the attack's yield.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from evaluation.detectors.answering import Answer, BlockedError
from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import Random, Rows


class Oracle:
    """Counts what an attack asks of `answer`; `padding` natural rows come between two queries.

    queries: answered ones of the attack.  best: how near its nearest adversarial row is.  blind: normal noise that the
    attacker adds to each query.
    """

    def __init__(
        self,
        victim: Victim,
        answer: Answer,
        target: Rows,
        budget: int,
        *,
        padding: int = 0,
        blind: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Begin with a target [d] and so many queries to ask."""
        self._victim, self._answer, self._target, self._budget = victim, answer, target, budget
        self._random = np.random.default_rng(seed)
        self._padding, self._blind = padding, blind
        self.label = int(victim.labels(target[None])[0])
        self.queries = 0
        self.best: dict[str, float] = {"L2": np.inf, "Linf": np.inf}

    def scores(self, row: Rows) -> Rows:
        """Answer with scores; raises BlockedError."""
        pool = self._victim.attacker
        if self.queries >= self._budget:
            raise BlockedError
        if self._blind:
            row = pool.fit(row + self._random.normal(0, self._blind, row.shape))
        for _ in range(self._padding):
            self._answer(pool.rows[int(self._random.integers(len(pool.rows)))])
        scores = self._answer(row)
        self.queries += 1
        if int(scores.argmax()) != self.label:
            apart = np.abs(row - self._target)
            self.best["L2"] = min(self.best["L2"], float(np.sqrt((apart**2).sum())))
            self.best["Linf"] = min(self.best["Linf"], float(apart.max()))
        return scores

    def is_adversarial(self, row: Rows) -> bool:
        """Answer with the label alone; raises BlockedError."""
        return int(self.scores(row).argmax()) != self.label


Evasion: TypeAlias = Callable[[Random, Oracle, Rows, Rows, Victim], None]


def hop_skip_jump(random: Random, oracle: Oracle, target: Rows, start: Rows, victim: Victim) -> None:
    """Estimate the boundary's normal from labels around it (Chen, Jordan and Wainwright, 2020)."""
    pool, now = victim.attacker, start
    for round_number in range(1, 100):
        now = _to_boundary(oracle, target, now, 8)
        distance = float(np.linalg.norm(now - target))
        count, delta = int(12 * np.sqrt(round_number)), 0.1 * distance
        directions = random.normal(size=(count, len(target)))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        signs = np.array([1.0 if oracle.is_adversarial(pool.fit(now + delta * d)) else -1.0 for d in directions])
        normal = ((signs - signs.mean())[:, None] * directions).sum(axis=0) if abs(signs.mean()) < 1 else directions[0]
        normal /= np.linalg.norm(normal) + 1e-12
        step = distance / np.sqrt(round_number)
        while step > 1e-3 and not oracle.is_adversarial(pool.fit(now + step * normal)):
            step /= 2
        now = pool.fit(now + step * normal) if step > 1e-3 else now


def boundary(random: Random, oracle: Oracle, target: Rows, start: Rows, victim: Victim) -> None:
    """Walk along the boundary towards the target (Brendel, Rauber and Bethge, 2018)."""
    now, side, forth = _to_boundary(oracle, target, start, 6), 0.1, 0.05
    while True:
        towards = target - now
        distance = float(np.linalg.norm(towards)) + 1e-12
        step = random.normal(size=len(target))
        step -= towards * (step @ towards) / distance**2
        step *= side * distance / (np.linalg.norm(step) + 1e-12)
        proposal = victim.attacker.fit(now + step + forth * towards)
        if oracle.is_adversarial(proposal):
            now, side = proposal, side * 1.1
        else:
            side, forth = max(side * 0.9, 1e-3), max(forth * 0.95, 1e-3)


def square(random: Random, oracle: Oracle, target: Rows, start: Rows, victim: Victim) -> None:  # noqa: ARG001
    """Change random squares within a box, by scores (Andriushchenko et al., 2020, algorithm 2: stripes, then squares).

    The share of pixels that a square covers starts with 0.8 and is halved as the paper halves it, whose schedule for
    10,000 queries is drawn together to 300.
    """
    epsilon, shape, pool = 0.12, victim.subject.shape, victim.attacker
    stripes = np.broadcast_to(random.choice([-1.0, 1.0], shape[-1]), shape)
    now = pool.fit(target + epsilon * stripes.ravel())
    best = oracle.scores(now)[oracle.label]
    for query in itertools.count(1):
        share = 0.8 / 2 ** sum(query * 10_000 / 300 > step for step in _HALVINGS)
        size = int(np.clip(round(np.sqrt(share * len(target))), 1, min(shape) - 1))
        down, right = (int(random.integers(axis - size + 1)) for axis in shape)
        change = (now - target).reshape(shape).copy()
        change[down : down + size, right : right + size] = epsilon * random.choice([-1.0, 1.0])
        proposal = pool.fit(target + change.ravel())
        score = oracle.scores(proposal)[oracle.label]
        if score < best:
            now, best = proposal, score


_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def simba(random: Random, oracle: Oracle, target: Rows, start: Rows, victim: Victim) -> None:  # noqa: ARG001
    """Change one pixel after the other, by scores (Guo et al., 2019)."""
    now = target
    best = oracle.scores(now)[oracle.label]
    for pixel in random.permutation(len(target)).tolist() * 3:
        for sign in (0.2, -0.2):
            proposal = now.copy()
            proposal[pixel] += sign
            proposal = victim.attacker.fit(proposal)
            score = oracle.scores(proposal)[oracle.label]
            if score < best:
                now, best = proposal, score
                break


def attack_target(
    name: str, victim: Victim, answer: Answer, target: Rows, *, budget: int, seed: int, **options: Any
) -> Oracle:
    """Attack one row [d] until blocked, from the nearest row of another class that the attacker has."""
    oracle = Oracle(victim, answer, target, budget, seed=seed, **options)
    others = victim.attacker.rows[victim.attacker.labels != oracle.label]
    start = others[((others - target) ** 2).sum(axis=1).argmin()]
    with contextlib.suppress(BlockedError):
        EVASIONS[name](np.random.default_rng(seed), oracle, target, start, victim)
    return oracle


def _to_boundary(oracle: Oracle, target: Rows, far: Rows, steps: int) -> Rows:
    low, high = 0.0, 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if oracle.is_adversarial(target + middle * (far - target)) else (middle, high)
    return np.asarray(target + high * (far - target))


EVASIONS: Mapping[str, Evasion] = {
    "HopSkipJump": hop_skip_jump,
    "Boundary": boundary,
    "Square (scores)": square,
    "SimBA (scores)": simba,
}
