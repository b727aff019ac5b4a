"""The table `abuse`: what it says, and what it cannot say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manifests.abuse.policy import DEFAULT_LADDER, AbusePolicy, Action, Rung
from manifests.errors import ManifestError
from manifests.model import ModelManifest
from tests.manifests.small import manifest

TABLES: dict[str, dict[str, Any]] = {
    "nothing but the table": {},
    "another part": {"profile": "watch.bin"},
    "every number": {
        "digits": 0,
        "pause_ms": 1,
        "hold": 0,
        "identities": 1,
        "pool_factor": 1000,
        "unique": 10**6,
        "coverage": 1000,
    },
    "a ladder of one rung": {"ladder": [{"action": "refuse"}]},
    "a ladder of all": {
        "ladder": [
            {"action": str(action), "detectors": 1 + at // 3, "after": at}
            for at, action in enumerate(Action)
            if action is not Action.SERVE
        ]
    },
    "a pool that refuses": {"pool": "refuse"},
}

REFUSED: dict[str, tuple[Any, str]] = {
    "no map": ([], "field-invalid"),
    "an unknown field": ({"detectors": 3}, "field-invalid"),
    "no rung": ({"ladder": []}, "manifest-invalid"),
    "a ladder that goes down": ({"ladder": [{"action": "refuse"}, {"action": "log"}]}, "manifest-invalid"),
    "an action twice": ({"ladder": [{"action": "log"}, {"action": "log", "after": 2}]}, "manifest-invalid"),
    "a rung that serves": ({"ladder": [{"action": "serve"}]}, "manifest-invalid"),
    "an action that lies": ({"ladder": [{"action": "poison"}]}, "field-invalid"),
    "a rung without action": ({"ladder": [{"detectors": 1}]}, "field-invalid"),
    "no detector": ({"ladder": [{"action": "log", "detectors": 0}]}, "field-invalid"),
    "too many rungs": ({"ladder": [{"action": "log"}] * 7}, "field-invalid"),
    "a pool that revokes all": ({"pool": "revoke"}, "manifest-invalid"),
    "too many digits": ({"digits": 16}, "field-invalid"),
    "no identity": ({"identities": 0}, "field-invalid"),
    "too many identities": ({"identities": 1 << 20}, "field-invalid"),
    "more than all cells": ({"coverage": 1001}, "field-invalid"),
    "a part without a name": ({"profile": ""}, "field-invalid"),
    "half a number": ({"hold": 1.5}, "field-invalid"),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_is_read_written_and_sealed(table: dict[str, Any]) -> None:
    policy = AbusePolicy.from_map(table)
    assert AbusePolicy.from_map(policy.to_map()) == policy
    whole = replace(manifest(), abuse=policy)
    assert ModelManifest.decode(whole.encode()) == whole
    assert ModelManifest.from_toml(whole.to_toml()) == whole
    assert whole.own_parts() == {policy.profile}


@pytest.mark.parametrize(("table", "code"), REFUSED.values(), ids=REFUSED)
def test_a_table_is_refused(table: Any, code: str) -> None:
    with pytest.raises(ManifestError) as error:
        AbusePolicy.from_map(table)
    assert str(error.value.code) == code


def test_a_manifest_without_the_table_is_what_it_was() -> None:
    assert "abuse" not in manifest().to_map()
    assert manifest().own_parts() == frozenset()


def test_by_default_one_detector_takes_scores_and_two_take_answers() -> None:
    policy = AbusePolicy()
    assert [policy.action(0, 99), policy.action(1, 0), policy.action(1, 99)] == [
        Action.SERVE,
        Action.FEWER_DIGITS,
        Action.LABEL_ONLY,
    ]
    assert [policy.action(2, 0), policy.action(2, 2), policy.action(6, 99)] == [
        Action.SLOW,
        Action.REFUSE,
        Action.REFUSE,
    ]
    assert all(rung.detectors >= 2 for rung in DEFAULT_LADDER if rung.action in {Action.SLOW, Action.REFUSE})


def test_the_severest_rung_that_is_reached_counts() -> None:
    policy = AbusePolicy(ladder=(Rung(Action.LOG), Rung(Action.REVOKE, detectors=3, after=1)))
    assert policy.action(3, 0) is Action.LOG
    assert policy.action(3, 1) is Action.REVOKE
