"""Key files open with their passphrase alone, and cards hold public keys."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.exceptions import RuntimeError as SodiumError

from manifests.errors import ManifestCode, ManifestError
from manifests.keyfile import (
    Cost,
    read_card,
    read_card_entry,
    read_key_file,
    read_passphrase,
    read_public,
    write_card,
    write_key_file,
)

CHEAP = Cost(1, 8192)
SECRET = bytes(range(32))


def _write(path: Path) -> Path:
    write_key_file(path, "owner", SECRET, b"correct horse", public={"strongroom-owner": b"public"}, cost=CHEAP)
    return path


def test_the_secret_comes_back_with_its_passphrase(tmp_path: Path) -> None:
    path = _write(tmp_path / "owner.key")
    assert read_key_file(path, "owner", b"correct horse") == SECRET
    assert read_public(path, "owner") == {"strongroom-owner": b"public"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_wrong_or_empty_passphrase_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "owner.key")
    for passphrase in (b"wrong", b""):
        with pytest.raises(ManifestError) as caught:
            read_key_file(path, "owner", passphrase)
        assert caught.value.code is ManifestCode.PASSPHRASE_WRONG


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = _write(tmp_path / "owner.key")
    with pytest.raises(ManifestError) as caught:
        _write(path)
    assert caught.value.code is ManifestCode.FILE_EXISTS


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "owner.key")
    with pytest.raises(ManifestError) as caught:
        read_key_file(path, "broker", b"correct horse")
    assert caught.value.code is ManifestCode.KEY_INVALID


CHANGES = {
    "a public value": lambda d: d["public"].update({"strongroom-owner": "AAAA"}),
    "an added public value": lambda d: d["public"].update({"more": "AAAA"}),
    "the passes": lambda d: d["kdf"].update({"operations": 2}),
    "the box": lambda d: d.update({"box": "A" * len(d["box"])}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_field_of_a_key_file_can_be_changed(tmp_path: Path, change: str) -> None:
    path = _write(tmp_path / "owner.key")
    document = json.loads(path.read_text())
    CHANGES[change](document)
    path.write_text(json.dumps(document))
    with pytest.raises(ManifestError) as caught:
        read_key_file(path, "owner", b"correct horse")
    assert caught.value.code is ManifestCode.PASSPHRASE_WRONG


BREAKAGES = {
    "not JSON": lambda d: "nonsense",
    "deep JSON": lambda d: "[" * 60000,
    "an array": lambda d: [],
    "no box": lambda d: {k: v for k, v in d.items() if k != "box"},
    "an unknown field": lambda d: {**d, "x": 1},
    "another format": lambda d: {**d, "format": "x"},
    "a version that is no number": lambda d: {**d, "version": True},
    "a version before the first": lambda d: {**d, "version": 0},
    "another format of a later version": lambda d: {**d, "format": "x", "version": 2},
    "another derivation": lambda d: {**d, "kdf": {**d["kdf"], "name": "md5"}},
    "too much memory": lambda d: {**d, "kdf": {**d["kdf"], "memory": 1 << 40}},
    "too many passes": lambda d: {**d, "kdf": {**d["kdf"], "operations": 1000}},
    "a short salt": lambda d: {**d, "kdf": {**d["kdf"], "salt": "AAAA"}},
    "a box that is no base64": lambda d: {**d, "box": "%"},
    "a box in sloppy base64": lambda d: {**d, "box": "AB=="},
    "public values that are no text": lambda d: {**d, "public": {"x": 1}},
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_is_not_a_key_file_is_refused(tmp_path: Path, breakage: str) -> None:
    path = _write(tmp_path / "owner.key")
    broken = BREAKAGES[breakage](json.loads(path.read_text()))
    path.write_text(broken if isinstance(broken, str) else json.dumps(broken))
    with pytest.raises(ManifestError) as caught:
        read_key_file(path, "owner", b"correct horse")
    assert caught.value.code is ManifestCode.KEY_INVALID


def test_a_key_file_of_a_later_version_asks_for_a_newer_release(tmp_path: Path) -> None:
    path = _write(tmp_path / "owner.key")
    path.write_text(json.dumps({"format": "strongroom-key", "version": 2, "argon": "unheard of"}))
    for read in (lambda: read_key_file(path, "owner", b"correct horse"), lambda: read_public(path, "owner")):
        with pytest.raises(ManifestError) as caught:
            read()
        assert caught.value.code is ManifestCode.VERSION_UNSUPPORTED
        assert "newer release" in str(caught.value.remedy)


def test_a_card_keeps_its_entries(tmp_path: Path) -> None:
    card = tmp_path / "broker.pub"
    write_card(card, {"strongroom-a": b"\x00" * 32, "strongroom-b": b"\xff" * 1216})
    assert read_card(card) == {"strongroom-a": b"\x00" * 32, "strongroom-b": b"\xff" * 1216}
    card.write_text("# a remark\n\n" + card.read_text())
    assert read_card_entry(card, "strongroom-a") == bytes(32)
    with pytest.raises(ManifestError) as caught:
        read_card_entry(card, "strongroom-c")
    assert caught.value.code is ManifestCode.KEY_INVALID


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_reading_a_card_or_key_file_gives_a_value_or_the_documented_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(data)
    for read in (lambda: read_card(path), lambda: read_public(path, "owner")):
        try:
            assert isinstance(read(), dict)
        except ManifestError as error:
            assert error.code is ManifestCode.KEY_INVALID  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("line", ["a", "a AAAA extra", "a %%%", "a AAAA\na AAAA", "é AAAA"])
def test_a_line_that_is_no_entry_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "card").write_text(line, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        read_card(tmp_path / "card")
    assert caught.value.code is ManifestCode.KEY_INVALID


def test_the_passphrase_comes_from_the_file_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").write_bytes(b"of the file\n")
    monkeypatch.setenv("STRONGROOM_PASSPHRASE", "of the environment")
    assert read_passphrase(tmp_path / "p") == b"of the file"
    assert read_passphrase(None) == b"of the environment"
    monkeypatch.delenv("STRONGROOM_PASSPHRASE")
    with pytest.raises(click.UsageError):
        read_passphrase(None)


def test_a_person_is_asked_twice_for_a_new_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append(options)
        return "pässword"

    monkeypatch.delenv("STRONGROOM_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "prompt", prompt)
    assert read_passphrase(None, confirm=True) == "pässword".encode()
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]


def test_a_machine_without_the_memory_for_a_key_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "owner.key")

    def exhausted(*arguments: object, **options: object) -> bytes:
        raise SodiumError("Unexpected failure in key derivation")

    monkeypatch.setattr("nacl.pwhash.argon2id.kdf", exhausted)
    with pytest.raises(ManifestError) as caught:
        read_key_file(path, "owner", b"correct horse")
    assert caught.value.code is ManifestCode.KEY_INVALID
    assert "memory" in caught.value.message
