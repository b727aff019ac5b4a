"""Every example of the guide is a policy, there is one for each TEE, and its tables are those of the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from attestation.policy import TEE_TABLES, EvidencePolicy, load_policy, roots_for
from attestation.policy.feed import MAX_FEED, open_feed, sign_feed
from attestation.policy.platforms import PLATFORM_IDS
from attestation.policy.presets import PRESETS
from tests.attestation.kit import outcome
from tests.policy.kit import WATCHER, entry, feed

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
_HEAD, _, _EXAMPLES = PAGE.partition("\n## Examples\n")
EXAMPLES = re.findall(r"```toml\n(# [^\n]*\n.*?)```", _EXAMPLES, re.DOTALL)


def test_there_is_an_example_for_each_tee_and_each_preset() -> None:
    values = [tomllib.loads(text) for text in EXAMPLES]
    assert TEE_TABLES.keys() <= {table for value in values for table in value}
    assert set(PRESETS) == {value["preset"] for value in values if "preset" in value}


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0][2:40])
def test_an_example_loads_and_means_itself(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken-hardware.json").write_text(feed(entry()), encoding="utf-8")
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    loaded = load_policy(path)
    assert load_policy(loaded.to_dict()) == loaded
    assert loaded.tables
    assert repr(roots_for(loaded)).startswith("Roots(")


def test_a_change_of_any_line_of_an_example_changes_the_policy_or_is_refused(tmp_path: Path) -> None:
    """Nothing in an example is idle: a field that nothing reads would be a promise."""
    (tmp_path / "broken-hardware.json").write_text(feed(entry()), encoding="utf-8")
    for text in EXAMPLES:
        whole = load_policy(text.encode(), base=tmp_path)
        lines = [line for line in text.splitlines() if re.match(r"\w+ = ", line)]
        for line in lines:
            rest = text.replace(f"{line}\n", "").encode()
            assert outcome(lambda text=rest: load_policy(text, base=tmp_path)) != whole, line


def test_the_list_in_the_guide_can_be_signed() -> None:
    (text,) = re.findall(r"```toml\n(version = 1\nserial.*?)```", _HEAD, re.DOTALL)
    opened = open_feed(sign_feed(tomllib.loads(text), WATCHER), WATCHER.public)
    assert [item.id for item in opened.entries] == ["SR-2026-001", "SR-2026-002", "SR-2026-003"]
    assert f"At most {MAX_FEED // 1024} KiB" in PAGE


def cells(name: str) -> list[str]:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`") and line.count("|") == 5]
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("name", ["tcb_status", "max_collateral_age", "broken_hardware_max_age"])
def test_the_table_of_presets_is_the_one_in_the_code(name: str) -> None:
    (_, *shown) = cells(name)
    for text, preset in zip(shown, PRESETS.values(), strict=True):
        value: Any = (dict(preset.evidence) | dict(preset.feed)).get(name)
        found = re.match(r"`?(\[.*?\]|\d+)?", text)
        assert found is not None
        assert (found[1] or "") == ("" if value is None else str(value).replace("'", '"'))


@pytest.mark.parametrize("name", ["simulation", "advisories_accepted", "dangerous_replacement_roots"])
def test_what_presets_refuse_is_in_the_guide(name: str) -> None:
    (_, *shown) = cells(name)
    for text, preset in zip(shown, PRESETS.values(), strict=True):
        assert (text == "refused") is (name in preset.refuses)


def test_every_kind_of_id_is_in_the_guide() -> None:
    assert [name for name in PLATFORM_IDS if f"| `{name}` | " not in PAGE] == []


def test_every_field_for_all_tees_is_in_the_guide() -> None:
    assert [item.name for item in dataclasses.fields(EvidencePolicy) if f"| `{item.name}` |" not in PAGE] == []
