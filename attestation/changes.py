"""Changes of a policy, made one after the other: each has to leave a policy that loads, under its own preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from attestation.policy import EvidencePolicy, Policy, load_policy
from attestation.policy.schema import Table, dangers
from manifests.errors import StrongroomError


@dataclass(frozen=True)
class Change:
    """One change of a policy that makes one check pass.  text: as one would write it into the policy.

    dangerous: whether what the field then says is what its table declares as dangerous.
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
    """Make one change after the other, each in a policy that loads."""
    made, excluded = [], []
    for change in changes:
        table = policy.evidence if change.table == "evidence" else policy.table(change.table)
        if table is None:
            continue
        changed = _changed(table, change)
        try:
            policy = _loaded(policy, change, changed)
        except StrongroomError as error:
            excluded.append(Excluded(change, reason(error)))
        else:
            made.append(dataclasses.replace(change, dangerous=_is_dangerous(table, changed)))
    return Tried(policy, tuple(made), tuple(excluded))


def _changed(table: Table, change: Change) -> Table:
    """Return a table with a change, which adds to a list and replaces anything else."""
    old, value = getattr(table, change.field), change.value
    if isinstance(value, tuple):
        value = _joined(old, value)
    elif isinstance(value, int) and change.field.endswith("_allowed"):
        value = old | value
    return dataclasses.replace(table, **{change.field: value})


def _loaded(policy: Policy, change: Change, table: Table) -> Policy:
    """Load the policy with one table replaced, under its own preset; raises PolicyError or ManifestError."""
    if isinstance(table, EvidencePolicy):
        changed = dataclasses.replace(policy, evidence=table, filled=policy.filled - {change.field})
    else:
        changed = dataclasses.replace(policy, tables={**policy.tables, change.table: table})
    return load_policy(changed.written(policy.preset))


def _is_dangerous(before: Table, after: Table) -> bool:
    """Tell whether a table accepts more of what it declares as dangerous than before."""
    return not set(dangers(type(after), vars(after))) <= set(dangers(type(before), vars(before)))


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
        key = (change.code, change.table, change.field) if floor or change.field in _CEILINGS else change
        choose = min if floor else max
        found[key] = choose(found.get(key, change), change, key=lambda each: each.value)
    yield from found.values()
