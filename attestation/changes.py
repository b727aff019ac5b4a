"""Changes of a policy, made one after the other: each has to leave a policy that loads, under its own preset."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from attestation.policy import EvidencePolicy, Policy, load_policy
from attestation.policy.schema import Table
from manifests.errors import StrongroomError


@dataclass(frozen=True)
class Change:
    """One change of a policy that makes one check pass.  text: as one would write it into the policy.

    value: a tuple adds to a list, bits add to a mask, `Floors` and `Without` say themselves what they do, and
    anything else replaces what is there.  dangerous: whether the check then passes with a warning, or what somebody
    refused by name is refused no longer.
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
    """Entries that are taken off a list.  group: which list, where a table has lists by name."""

    entries: tuple[Any, ...]
    group: str | None = None

    def onto(self, old: Any) -> tuple[Any, ...]:
        """Return a list without these, or a table without them in its list, and without a list that is then empty."""
        if self.group is None:
            return tuple(entry for entry in old if entry not in self.entries)
        groups = dict(old)
        groups[self.group] = Without(self.entries).onto(groups.get(self.group, ()))
        return tuple(sorted((name, entries) for name, entries in groups.items() if entries))


@dataclass(frozen=True)
class Excluded:
    """A change for a check that still fails, because the policy does not load with it; why: as loading says."""

    change: Change
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return the change and the reason for programs."""
        return {"code": self.change.code, "change": self.change.text, "why": self.why}


class Tried(NamedTuple):
    """A policy with the changes that were made, and those with which it would not load."""

    policy: Policy
    made: tuple[Change, ...]
    excluded: tuple[Excluded, ...]


def with_all(policy: Policy, changes: tuple[Change, ...]) -> Tried:
    """Make all changes at once, or where no such policy loads one after the other, each in a policy that loads.

    Some stand only beside each other, such as a kind of key beside whom it is lent to.
    """
    changes = tuple(change for change in changes if _table(policy, change) is not None)
    with contextlib.suppress(StrongroomError):
        return Tried(_loaded(functools.reduce(_made, changes, policy)), changes, ())
    return _one_by_one(policy, changes)


def _one_by_one(policy: Policy, changes: tuple[Change, ...]) -> Tried:
    """Make each change alone, or else with the one other beside which alone it stands."""
    made: list[Change] = []
    excluded: list[Excluded] = []
    pending = list(changes)
    while pending:
        change = pending.pop(0)
        why: StrongroomError | None = None
        for together in ((change,), *((change, other) for other in pending)):
            try:
                policy = _loaded(functools.reduce(_made, together, policy))
            except StrongroomError as error:
                why = why or error
            else:
                made += together
                pending = [each for each in pending if each not in together]
                break
        else:
            if why is not None:
                excluded.append(Excluded(change, reason(why)))
    return Tried(policy, tuple(made), tuple(excluded))


def _table(policy: Policy, change: Change) -> Table | None:
    return policy.evidence if change.table == "evidence" else policy.table(change.table)


def _made(policy: Policy, change: Change) -> Policy:
    """Return the policy with a change, not loaded."""
    table = _table(policy, change)
    if table is None:
        raise ValueError(f"the policy has no table {change.table}")
    changed = _changed(table, change)
    if isinstance(changed, EvidencePolicy):
        return dataclasses.replace(policy, evidence=changed, filled=policy.filled - {change.field})
    return dataclasses.replace(policy, tables={**policy.tables, change.table: changed})


def _loaded(policy: Policy) -> Policy:
    """Load a changed policy as it would be written, under its own preset; raises PolicyError or ManifestError."""
    return load_policy(policy.written(policy.preset))


def _changed(table: Table, change: Change) -> Table:
    """Return a table with a change."""
    old, value = getattr(table, change.field), change.value
    if isinstance(value, Floors | Without):
        value = value.onto(old)
    elif isinstance(value, tuple):
        value = _joined(old, value)
    elif isinstance(value, int) and change.field.endswith("_allowed"):
        value = old | value
    return dataclasses.replace(table, **{change.field: value})


REFUSED_BY_NAME: Final = frozenset({"platforms_denied", "advisories_refused"})
"""Lists of what somebody has decided against: a change takes something off them, and so undoes that."""


def _joined(old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add to a list, or to the lists of a table that is kept as sorted pairs."""
    if not isinstance(new[0], tuple):
        return (*old, *new)
    table = dict(old)
    for name, value in new:
        table[name] = _joined(table.get(name, ()), value)
    return tuple(sorted(table.items()))


def reason(error: StrongroomError) -> str:
    """Return why a policy does not load, as the end of a sentence."""
    return error.message.removeprefix("the policy: ")


_CEILINGS: Final = frozenset({"max_collateral_age", "broken_hardware_max_age", "vmpl_max"})


def widest(changes: Iterable[Change]) -> Iterator[Change]:
    """Yield each change once; of several to one floor or ceiling, as several parts ask for them, the widest alone."""
    found: dict[Any, Change] = {}
    for change in changes:
        floor = change.field.endswith("_min") and isinstance(change.value, int | str)
        if not floor and change.field not in _CEILINGS:
            found.setdefault(change, change)
            continue
        key = (change.code, change.table, change.field)
        choose = min if floor else max
        found[key] = choose(found.get(key, change), change, key=lambda each: each.value)
    yield from found.values()
