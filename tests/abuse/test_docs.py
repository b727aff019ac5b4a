"""The documentation's example does what it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from manifests.abuse.calibrate.behaviours import BEHAVIOURS
from manifests.abuse.policy import SEVERITY, AbusePolicy, Action
from manifests.abuse.profile import Profile
from manifests.abuse.state import DETECTORS
from manifests.cli import model
from tests.abuse import kit

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "abuse.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


def test_the_table_is_one_that_is_read() -> None:
    (text,) = blocks("toml")
    policy = AbusePolicy.from_map(tomllib.loads(text)["abuse"])
    assert [rung.action for rung in policy.ladder] == [Action.LOG, Action.LABEL_ONLY, Action.REFUSE]
    assert policy.ladder[2].detectors == 2


def test_the_commands_make_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.onnx").write_bytes(kit.onnx_bytes())
    np.savez("benign.npz", x=kit.world()[:600].astype(np.float32))
    for line in blocks("")[0].strip().splitlines():
        words = line.removeprefix("strongroom model ").split()
        quick = ["--sessions", "10", "--queries", "60"] if words[0] == "calibrate" else []
        outcome = CliRunner().invoke(model, [*words, *quick])
        assert outcome.exit_code == 0, outcome.output
    assert Profile.decode(Path("small.profile").read_bytes()).view.features == kit.FEATURES


@pytest.mark.parametrize("word", [*DETECTORS, *(str(action) for action in Action if action is not Action.SERVE)])
def test_every_detector_and_action_is_explained(word: str) -> None:
    assert f"| `{word}` |" in PAGE


def test_every_behaviour_and_field_is_explained() -> None:
    assert all(f"`{name}`" in PAGE for name in BEHAVIOURS)
    assert all(f"| `{name}` |" in PAGE for name in AbusePolicy.__dataclass_fields__)


def test_the_numbers_of_the_log_are_those_of_the_ladder() -> None:
    said = re.findall(r"(\d) `(\w+)`", PAGE)
    assert {name: int(number) for number, name in said} == {str(action): SEVERITY[action] for action in Action}
