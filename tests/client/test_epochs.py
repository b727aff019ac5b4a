from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestation.client import epochs
from attestation.client.epochs import EpochMemory
from attestation.client.errors import ClientCode, ClientError
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


def test_what_one_program_saw_another_does_not_accept_below(tmp_path: Path):
    path = tmp_path / "epochs.json"
    first, second = EpochMemory(path), EpochMemory(path)
    first.observe(ALICE, "tumour", 5)
    with pytest.raises(ClientError) as refusal:
        second.observe(ALICE, "tumour", 3)
    assert refusal.value.code is ClientCode.EPOCH_ROLLBACK
    assert second.highest(ALICE, "tumour") == 5
    assert EpochMemory(path).highest(ALICE, "tumour") == 5


def test_a_higher_epoch_that_came_while_waiting_for_the_lock_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "epochs.json"
    first, second = EpochMemory(path), EpochMemory(path)
    lock = epochs._locked

    @contextlib.contextmanager
    def slow(place: Path) -> Iterator[None]:
        monkeypatch.setattr(epochs, "_locked", lock)
        first.observe(ALICE, "tumour", 5)
        with lock(place):
            yield

    monkeypatch.setattr(epochs, "_locked", slow)
    with pytest.raises(ClientError) as refusal:
        second.observe(ALICE, "tumour", 3)
    assert refusal.value.code is ClientCode.EPOCH_ROLLBACK


def test_a_file_that_is_damaged_later_stops_the_next_observation(tmp_path: Path):
    path = tmp_path / "epochs.json"
    memory = EpochMemory(path)
    memory.observe(ALICE, "tumour", 5)
    path.write_text("{}")
    with pytest.raises(ManifestError) as refusal:
        memory.observe(ALICE, "tumour", 6)
    assert refusal.value.code is ManifestCode.FIELD_INVALID


def test_a_file_that_vanishes_is_not_forgotten_by_who_has_read_it(tmp_path: Path):
    path = tmp_path / "epochs.json"
    memory = EpochMemory(path)
    memory.observe(ALICE, "tumour", 5)
    path.unlink()
    with pytest.raises(ClientError):
        memory.observe(ALICE, "tumour", 4)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 0, "epochs": {}}', '{"version": 1, "epochs": {"zz": {"a": 1}}}', "[" * 100_000],
)
def test_a_file_that_is_none_of_ours_is_refused_rather_than_overwritten(tmp_path: Path, text: str):
    path = tmp_path / "epochs.json"
    path.write_text(text)
    with pytest.raises(ManifestError) as refusal:
        EpochMemory(path)
    assert refusal.value.code is ManifestCode.FIELD_INVALID
    assert path.read_text() == text


def test_a_file_of_a_later_version_asks_for_a_newer_release_and_is_kept(tmp_path: Path):
    path = tmp_path / "epochs.json"
    path.write_text('{"version": 2, "seen": []}')
    with pytest.raises(ManifestError) as refusal:
        EpochMemory(path)
    assert refusal.value.code is ManifestCode.VERSION_UNSUPPORTED
    assert "newer release" in str(refusal.value.remedy)
    assert path.read_text() == '{"version": 2, "seen": []}'


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
