from __future__ import annotations

import json
from pathlib import Path

import pytest

from attestation.client.epochs import EpochMemory
from attestation.errors import ClientCode, ClientError
from manifests.errors import ManifestCode, ManifestError

ALICE, BOB = bytes(32), bytes([1]) * 32


def test_an_epoch_that_goes_back_is_refused_and_changes_nothing():
    memory = EpochMemory()
    memory.observe(ALICE, "tumour", 7)
    with pytest.raises(ClientError) as refusal:
        memory.observe(ALICE, "tumour", 6)
    assert refusal.value.code is ClientCode.EPOCH_ROLLBACK
    assert memory.highest(ALICE, "tumour") == 7


def test_owners_and_names_are_remembered_apart():
    memory = EpochMemory()
    memory.observe(ALICE, "tumour", 7)
    memory.observe(BOB, "tumour", 1)
    memory.observe(ALICE, "magika", 2)
    assert memory.highest(ALICE, "") == 0
    assert memory.highest(BOB, "tumour") == 1


def test_a_file_carries_the_memory_over_and_keeps_what_others_wrote(tmp_path: Path):
    path = tmp_path / "state" / "epochs.json"
    first, second = EpochMemory(path), EpochMemory(path)
    first.observe(ALICE, "tumour", 7)
    second.observe(BOB, "magika", 3)
    first.observe(ALICE, "tumour", 8)
    again = EpochMemory(path)
    assert again.highest(ALICE, "tumour") == 8
    assert again.highest(BOB, "magika") == 3
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 2, "epochs": {}}', '{"version": 1, "epochs": {"zz": {"a": 1}}}', "[" * 100_000],
)
def test_a_file_that_is_none_of_ours_is_refused_rather_than_overwritten(tmp_path: Path, text: str):
    path = tmp_path / "epochs.json"
    path.write_text(text)
    with pytest.raises(ManifestError) as refusal:
        EpochMemory(path)
    assert refusal.value.code is ManifestCode.FIELD_INVALID
    assert path.read_text() == text


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path):
    (tmp_path / "state").write_text("a file where a folder should be")
    memory = EpochMemory(tmp_path / "state" / "epochs.json")
    with pytest.raises(ManifestError) as refusal:
        memory.observe(ALICE, "tumour", 1)
    assert refusal.value.code is ManifestCode.FILE_UNAVAILABLE


def test_the_file_is_plain_json_that_an_operator_can_read(tmp_path: Path):
    path = tmp_path / "epochs.json"
    EpochMemory(path).observe(ALICE, "tumour", 7)
    assert json.loads(path.read_text()) == {"version": 1, "epochs": {ALICE.hex(): {"tumour": 7}}}
