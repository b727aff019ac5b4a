"""The table `abuse` of a model manifest: which profile arms the detectors, and what follows when they speak."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from manifests import fields
from manifests.errors import ManifestCode, ManifestError

PROFILE_PART = "profile"
MAX_DETECTORS = 7
MAX_RUNGS = 6
"""One for each action but `serve`."""
MAX_AFTER = 1 << 20
MAX_IDENTITIES = 1 << 14
MAX_PAUSE_MS = 60 * 60 * 1000
MAX_NAME = 128
_THOUSAND = 1000


class Action(StrEnum):
    """What an identity may get, from the mildest; nothing of it is ever a false answer."""

    SERVE = "serve"
    LOG = "log"
    """A line in the log and a counter, and nothing that the client sees."""
    FEWER_DIGITS = "fewer_digits"
    """Floats are rounded to `digits` decimals."""
    LABEL_ONLY = "label_only"
    """The answer is the best class alone, as output `label`."""
    SLOW = "slow"
    """A request within `pause_ms` of the last answered one is refused, with the time to wait."""
    REFUSE = "refuse"
    """Every request is refused, until `hold` evaluations have passed."""
    REVOKE = "revoke"
    """Every request is refused until the enclave ends, and the operator is told."""


SEVERITY = {action: place for place, action in enumerate(Action)}
_CAPS = (Action.LOG, Action.FEWER_DIGITS, Action.LABEL_ONLY, Action.SLOW, Action.REFUSE)


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder: `detectors` have spoken, `after` evaluations (of 32 queries each) ago or more."""

    action: Action
    detectors: int = 1
    after: int = 0

    @classmethod
    def from_map(cls, value: object) -> Rung:
        """Read the rung; raises ManifestError `field-invalid`."""
        table = fields.closed_map(value, "rung", ("action",), ("detectors", "after"))
        action = fields.member(Action, table["action"], "action")
        if action is Action.SERVE:
            raise _invalid("a rung that serves is none")
        detectors = fields.number(table.get("detectors", 1), "detectors", 1, MAX_DETECTORS)
        return cls(action, detectors, fields.number(table.get("after", 0), "after", 0, MAX_AFTER))

    def to_map(self) -> dict[str, Any]:
        """Return the table."""
        return {"action": str(self.action), "detectors": self.detectors, "after": self.after}


DEFAULT_LADDER = (
    Rung(Action.LOG),
    Rung(Action.FEWER_DIGITS),
    Rung(Action.LABEL_ONLY, after=1),
    Rung(Action.SLOW, detectors=2),
    Rung(Action.REFUSE, detectors=2, after=2),
)
"""One detector alone costs an identity its scores; answers are refused where two agree."""


@dataclass(frozen=True)
class AbusePolicy:
    """The checked table.

    profile: name of the sealed part.  digits: decimals that `fewer_digits` leaves.  pause_ms: between two answers
    under `slow`.  hold: evaluations without an alarm after which an identity is served as before; 0 for never.
    identities: with a state of their own.  pool: the most that follows where all identities together give an alarm;
    pool_factor: how many times the limits of one identity it takes.  unique, coverage: queries that were no
    repetition, and thousandths of the reference data's cells, beyond which the budget counts as one more detector; 0
    for no such bound.
    """

    profile: str = PROFILE_PART
    digits: int = 2
    pause_ms: int = 2000
    hold: int = 64
    identities: int = 256
    pool: Action = Action.LABEL_ONLY
    pool_factor: int = 4
    unique: int = 0
    coverage: int = 0
    ladder: tuple[Rung, ...] = DEFAULT_LADDER

    @classmethod
    def from_map(cls, value: object) -> AbusePolicy:
        """Read the table; raises ManifestError `field-invalid` or `manifest-invalid`."""
        names = [item.name for item in dataclasses.fields(cls)]
        table = fields.closed_map(value, "abuse", (), names)
        numbers = {name: fields.number(table[name], name, *_BOUNDS[name]) for name in _BOUNDS if name in table}
        pool = fields.member(Action, table.get("pool", Action.LABEL_ONLY.value), "pool")
        if pool not in _CAPS:
            raise _invalid(f"the pool's action cannot be {pool}: who revokes all identities ends the service")
        ladder = _ladder(table["ladder"]) if "ladder" in table else DEFAULT_LADDER
        profile = fields.text(table.get("profile", PROFILE_PART), "profile", MAX_NAME)
        return cls(profile=profile, pool=pool, ladder=ladder, **numbers)

    def to_map(self) -> dict[str, Any]:
        """Return the table: the profile's part, and all that differs from the defaults."""
        table = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        changed = {
            name: value for name, value in table.items() if name == "profile" or value != getattr(_DEFAULT, name)
        }
        if "ladder" in changed:
            changed["ladder"] = [rung.to_map() for rung in self.ladder]
        return {name: str(value) if isinstance(value, Action) else value for name, value in changed.items()}

    @property
    def gives_labels(self) -> bool:
        """Whether an answer may become the best class alone: by a rung, or where the pool goes no further than that."""
        severest = max((rung.action for rung in self.ladder), key=SEVERITY.__getitem__)
        actions = {rung.action for rung in self.ladder} | {min(severest, self.pool, key=SEVERITY.__getitem__)}
        return not actions.isdisjoint((Action.LABEL_ONLY, Action.SLOW))

    def action(self, detectors: int, evaluations: int) -> Action:
        """Return the severest rung that so many detectors, the first of them so long ago, have reached."""
        reached = [rung.action for rung in self.ladder if detectors >= rung.detectors and evaluations >= rung.after]
        return max(reached, key=SEVERITY.__getitem__, default=Action.SERVE)


_BOUNDS = {
    "digits": (0, 15),
    "pause_ms": (1, MAX_PAUSE_MS),
    "hold": (0, MAX_AFTER),
    "identities": (1, MAX_IDENTITIES),
    "pool_factor": (1, _THOUSAND),
    "unique": (0, fields.U63),
    "coverage": (0, _THOUSAND),
}
_DEFAULT = AbusePolicy()


def _ladder(value: object) -> tuple[Rung, ...]:
    """Read a ladder; one without rungs, or that does not go up, is refused."""
    ladder = tuple(Rung.from_map(item) for item in fields.list_of(value, "ladder", MAX_RUNGS))
    if not ladder:
        raise _invalid("the ladder has no rung: leave the table `abuse` out to serve whatever is asked")
    if any(SEVERITY[low.action] >= SEVERITY[high.action] for low, high in itertools.pairwise(ladder)):
        raise _invalid("the ladder's actions do not become severer from rung to rung")
    return ladder


def _invalid(message: str) -> ManifestError:
    return ManifestError(ManifestCode.MANIFEST_INVALID, message, remedy="docs/abuse.md explains the table")
