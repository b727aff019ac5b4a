"""Named sets of defaults: `preset = "production"` in a policy.  docs/policy.md has them as a table.

A preset fills in fields of [evidence] that the policy leaves out, and refuses what its name promises not to accept.
None of them names code: which measurements are accepted is the policy's own to say, always.  The policy's digest
covers what results, not the preset's name, so a later release may not change a preset: it gets another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from attestation.errors import PolicyCode
from attestation.intel.levels import TcbStatus
from attestation.policy.model import TEE_TABLES
from attestation.policy.schema import dangers, refuse
from manifests import fields

DAY: Final = 86400
_UP_TO_DATE: Final = frozenset(
    {
        TcbStatus.UP_TO_DATE,
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.CONFIGURATION_NEEDED,
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    }
)
"""The statuses of platforms whose firmware, and whose TD's module, is the newest."""


@dataclass(frozen=True)
class Preset:
    """Defaults of [evidence]; those of the list of broken hardware, where one is named; and what cannot stand beside.

    refuses: fields of [evidence].  statuses: what a policy may name in tcb_status; None: any.  dangers: whether a TEE's
    table may accept what its fields declare as dangerous.  tables: by table and field, all that the field may accept;
    nothing where it is empty.
    """

    evidence: Mapping[str, Any]
    feed: Mapping[str, Any] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    statuses: frozenset[TcbStatus] | None = None
    dangers: bool = False
    tables: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


PRESETS: Final[Mapping[str, Preset]] = {
    "strict": Preset(
        evidence={"tcb_status": ["UpToDate"], "max_collateral_age": 7 * DAY},
        feed={"broken_hardware_max_age": 7 * DAY},
        refuses=("simulation", "dangerous_replacement_roots", "advisories_accepted"),
        statuses=frozenset({TcbStatus.UP_TO_DATE}),
        tables={"nvidia": {"flags_allowed": ("notConfigured",)}},  # Blackwell has it in production
    ),
    "production": Preset(
        evidence={"tcb_status": ["UpToDate", "SWHardeningNeeded"], "max_collateral_age": 30 * DAY},
        feed={"broken_hardware_max_age": 30 * DAY},
        refuses=("simulation", "dangerous_replacement_roots"),
        statuses=_UP_TO_DATE,
    ),
    "simulation": Preset(
        evidence={"simulation": True, "tcb_status": ["UpToDate"]},
        refuses=("dangerous_replacement_roots",),
        dangers=True,
    ),
}


class Filled(NamedTuple):
    """A policy's map without `preset`: name: that of the preset, if there was one; fields: of [evidence], filled in."""

    policy: dict[str, Any]
    name: str | None
    fields: frozenset[str]


def with_preset(policy: Mapping[str, Any]) -> Filled:
    """Return a policy's map with its preset's defaults in place and `preset` gone; raises PolicyError.

    What the policy says itself goes before the preset.  Raises ManifestError for a preset or table of a wrong type.
    """
    result = dict(policy)
    if "preset" not in result:
        return Filled(result, None, frozenset())
    name = fields.text(result.pop("preset"), "preset", 64)
    if name not in PRESETS:
        refuse(PolicyCode.POLICY_MALFORMED, f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    given = fields.of_type(result.get("evidence", {}), "[evidence]", dict)
    feed = preset.feed if "broken_hardware" in given else {}
    defaults = {**preset.evidence, **feed}
    result["evidence"] = {**defaults, **given}
    _check(name, preset, result)
    return Filled(result, name, frozenset(defaults.keys() - given.keys()))


def _check(name: str, preset: Preset, policy: Mapping[str, Any]) -> None:
    """Refuse what the preset's name promises not to accept."""
    for refused in preset.refuses:
        if policy["evidence"].get(refused, False):
            _contradiction(name, f"[evidence] {refused}")
    _check_width(name, preset, policy["evidence"])
    _check_tables(name, preset, policy)
    if preset.dangers:
        return
    for table, kind in TEE_TABLES.items():
        values = policy.get(table)
        for danger in dangers(kind, values) if isinstance(values, dict) else ():
            _contradiction(name, f"[{table}] {danger}")


def _check_width(name: str, preset: Preset, evidence: Mapping[str, Any]) -> None:
    """Refuse statuses and ages that are wider than the preset's; what is none at all is refused when it is read."""
    named = evidence["tcb_status"]
    if preset.statuses is not None and isinstance(named, list):
        for status in (status for status in TcbStatus if status in named and status not in preset.statuses):
            _contradiction(name, f'[evidence] tcb_status "{status}"')
    for age, most in {**preset.evidence, **preset.feed}.items():
        if age.endswith("_age") and isinstance(evidence.get(age), int) and evidence[age] > most:
            _contradiction(name, f"[evidence] {age} above {most}")


def _check_tables(name: str, preset: Preset, policy: Mapping[str, Any]) -> None:
    """Refuse what tables accept beyond the preset's own; what is of a wrong type is refused when it is read."""
    for table, limits in preset.tables.items():
        values = policy.get(table)
        if not isinstance(values, dict):
            continue
        for each, admitted in limits.items():
            given = values.get(each)
            if given is True:
                _contradiction(name, f"[{table}] {each}")
            for item in given if isinstance(given, list) else ():
                if item not in admitted:
                    _contradiction(name, f'[{table}] {each} "{item}"')


def _contradiction(name: str, what: str) -> None:
    refuse(
        PolicyCode.POLICY_CONTRADICTION,
        f'preset = "{name}" excludes {what}',
        remedy="leave one of them out: without a preset, a policy may say everything that docs/policy.md has",
    )
