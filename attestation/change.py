"""One change of a policy, as data: what it says in the policy's words, and the policy that results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from attestation.policy import EvidencePolicy, Policy


@dataclass(frozen=True)
class Change:
    """One change of a policy that makes one check pass.  text: as one would write it into the policy.

    value: a tuple adds to a list, bits add to a mask, `Floors` and `Without` say themselves what they do, and
    anything else replaces what is there.
    """

    code: str
    table: str
    field: str
    value: Any
    text: str
    dangerous: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the change for programs."""
        return {"code": self.code, "change": self.text, "dangerous": self.dangerous}


@dataclass(frozen=True)
class Floors:
    """Floors that take the place of those for the same components.

    floors: the least version by component.  group: whose they are, where a table has floors by group (a product).
    """

    floors: tuple[tuple[str, int], ...]
    group: str | None = None

    def onto(self, old: Any) -> tuple[Any, ...]:
        """Return a table of floors with these."""
        if self.group is None:
            return tuple(sorted({**dict(old), **dict(self.floors)}.items()))
        groups = dict(old)
        groups[self.group] = Floors(self.floors).onto(groups.get(self.group, ()))
        return tuple(sorted(groups.items()))


@dataclass(frozen=True)
class Without:
    """Entries that are taken off a list."""

    entries: tuple[Any, ...]

    def onto(self, old: Any) -> tuple[Any, ...]:
        """Return a list without these."""
        return tuple(entry for entry in old if entry not in self.entries)


def applied(policy: Policy, change: Change) -> Policy | None:
    """Return the policy with a change; None where it has no place."""
    table = policy.evidence if change.table == "evidence" else policy.table(change.table)
    if table is None:
        return None
    value = _changed(getattr(table, change.field), change)
    changed = dataclasses.replace(table, **{change.field: value})
    if isinstance(changed, EvidencePolicy):
        return dataclasses.replace(policy, evidence=changed)
    return dataclasses.replace(policy, tables={**policy.tables, change.table: changed})


def _changed(old: Any, change: Change) -> Any:
    """Return a field's value after a change."""
    value = change.value
    if isinstance(value, Floors | Without):
        return value.onto(old)
    if isinstance(value, tuple):
        return _joined(old, value)
    if isinstance(value, int) and change.field.endswith("_allowed"):
        return old | value
    return value


def _joined(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add to a list, or to the lists of a table that is kept as sorted pairs."""
    if not isinstance(new[0], tuple):
        return (*old, *new)
    table = dict(old)
    for name, value in new:
        table[name] = _joined(table.get(name, ()), value)
    return tuple(sorted(table.items()))
