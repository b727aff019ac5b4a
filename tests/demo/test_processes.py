"""What the demonstration's commands are given, and how their failures are told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.processes import PASSPHRASE, Commands, unseen


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    secret = tmp_path / "passphrase"
    secret.write_text("the owner's secret\n")
    return Commands(secret, unseen)


def test_a_command_that_fails_is_named_with_what_it_said(commands: Commands, tmp_path: Path) -> None:
    with pytest.raises(DemoError) as caught:
        commands.run("inspect", tmp_path / "missing.sealed")
    assert caught.value.code is DemoCode.COMMAND_FAILED
    assert "file-unavailable" in str(caught.value.found)


def test_a_part_that_ends_by_itself_is_a_failure(commands: Commands, tmp_path: Path) -> None:
    part = commands.start(
        "host", tmp_path / "log", "host", "up", "--home", tmp_path / "h", "--manifest", "no", "--models", "no"
    )
    try:
        deadline = time.monotonic() + 30
        while part.running and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(DemoError) as caught:
            part.require()
        assert caught.value.code is DemoCode.PART_FAILED
    finally:
        part.kill()


def test_the_operators_process_is_never_given_the_owners_passphrase(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, "somebody else's")
    for words in (["host", "up"], ["sim", "init"], ["manifest", "render"], ["infer"], ["inspect"]):
        assert PASSPHRASE not in commands._environment(words)
    assert commands._environment(["broker", "serve"])[PASSPHRASE] == "the owner's secret"
    assert os.environ[PASSPHRASE] == "somebody else's"
