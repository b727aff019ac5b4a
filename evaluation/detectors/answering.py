"""Who answers an attacker's queries: nobody's detectors, the detectors alone, or the guard with its ladder.

Each is called with one row [d] and returns scores [classes], or raises BlockedError.  Where an answer is a label alone,
its score is one and the others are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from enclave.abuse import Guard
from enclave.errors import EnclaveCode, EnclaveError
from evaluation.detectors.victims import Victim
from manifests.abuse.calibrate.behaviours import Rows
from manifests.abuse.policy import AbusePolicy
from manifests.abuse.profile import Profile
from manifests.abuse.state import Lens, Watch


class BlockedError(Exception):
    """The detectors have spoken, the ladder refuses, or the budget is used."""


Answer: TypeAlias = Callable[[Rows], Rows]


def one_hot(label: int, classes: int) -> Rows:
    """Return the scores that a label alone amounts to."""
    return np.asarray(np.eye(classes)[label])


class Unwatched:
    """Answers everything."""

    def __init__(self, victim: Victim, *, labels: bool = False) -> None:
        """Answer with scores, or with labels alone."""
        self._victim, self._labels = victim, labels

    def __call__(self, row: Rows) -> Rows:
        """Answer."""
        scores = np.asarray(self._victim.scores(row[None])[0])
        return one_hot(int(scores.argmax()), len(scores)) if self._labels else scores


class Watched:
    """Answers one fresh identity until the first alarm; total: queries.  first: which of them raised it."""

    def __init__(self, victim: Victim, profile: Profile, key: bytes) -> None:
        """Begin under a fresh key."""
        self._victim, self._lens, self._watch = victim, Lens(profile, key), Watch(profile)
        self.total = 0
        self.first: int | None = None

    def __call__(self, row: Rows) -> Rows:
        """Answer."""
        rows = self._victim.subject.rows(row[None])
        outputs = self._victim.subject.run(rows)
        self._watch.see(self._lens.look(rows, outputs), 0)
        self.total += 1
        if self._watch.alarms():
            self.first = self.total
            raise BlockedError
        return np.asarray(outputs[0])


class Governed:
    """Answers one fresh identity as the enclave's guard admits; who is slowed waits, at no cost but time.

    labels: the owner's post-processing gives labels alone.  coarser: the first query whose answer was less than the
    model's.  refused: the first that was refused for good.  waited: seconds.
    """

    def __init__(
        self, victim: Victim, profile: Profile, key: bytes, policy: AbusePolicy, *, labels: bool = False
    ) -> None:
        """Begin with a guard that knows nobody."""
        self._victim, self._names, self._labels = victim, (profile.input, profile.output), labels
        self._guard = Guard(policy, Lens(profile, key), (), lambda: self.waited)
        self.total = 0
        self.coarser: int | None = None
        self.refused: int | None = None
        self.waited = 0.0

    def __call__(self, row: Rows) -> Rows:
        """Answer."""
        rows = self._victim.subject.rows(row[None])
        self.total += 1
        while True:
            try:
                return self._ask(rows)
            except EnclaveError as error:
                if error.code is not EnclaveCode.ABUSE_SLOWED:
                    self.refused = self.total
                    raise BlockedError from None
                self.waited += max(error.retry_after or 0.0, 0.1)

    def _ask(self, rows: Rows) -> Rows:
        name, output = self._names
        seen = self._guard.observe(b"attacker", {name: rows})
        raw = {output: self._victim.subject.run(rows)}
        given = self._guard.settle(seen, raw, dict(raw)).outputs
        scores = raw[output][0]
        if "label" in given or (given[output] != raw[output]).any():
            self.coarser = self.coarser or self.total
        if "label" in given or self._labels:
            return one_hot(int(scores.argmax()), len(scores))
        return np.asarray(given[output][0])
