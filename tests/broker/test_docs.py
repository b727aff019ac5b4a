"""The guide says what the program does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from attestation.broker.audit import EventKind
from attestation.broker.budgets import BudgetRules
from attestation.broker.cli import broker
from attestation.broker.events import EventName
from attestation.policy import load_policy
from attestation.types import Right

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "broker.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [EventName, EventKind, Right])
def test_every_event_row_and_right_is_explained(words: type) -> None:
    assert [str(word) for word in words if f"`{word}`" not in GUIDE] == []


def test_the_examples_of_release_tables_are_policies() -> None:
    first, second = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    rest = {"version": 1, "evidence": {"tcb_status": ["UpToDate"]}, "sgx": {"mrenclave": ["11" * 32]}}
    release, bounded = (load_policy({**rest, **tomllib.loads(example)}).release for example in (first, second))
    assert release is not None
    assert bounded is not None
    assert release.models == ("magika", "tumour")
    assert BudgetRules.of(release) is None
    assert BudgetRules.of(bounded) == BudgetRules(10000, 2000, 86400, 100, 256, 600, 50, pools=256)


def test_every_command_of_the_guide_exists() -> None:
    named = set(re.findall(r"(?:strongroom )?broker ([a-z]+)\b", GUIDE)) & {"init", "card", *broker.commands}
    assert named == set(broker.commands)
