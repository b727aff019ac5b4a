"""Sealing with what an owner has at hand: the path of a key file, its passphrase, and paths of cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.keyfile import Cost, write_card, write_key_file
from manifests.sealed import inspect_sealed, recover_dek, seal
from tests.manifests.graphs import doubling
from tests.manifests.small import OWNER, RECIPIENT

PASSPHRASE = "correct horse"
CHEAP = Cost(1, 8 * 1024)


@pytest.fixture
def who(tmp_path: Path) -> dict[str, Any]:
    """Key file and card as the commands write them; opening the file costs less."""
    write_key_file(tmp_path / "owner.key", "owner", OWNER.seed(), PASSPHRASE.encode(), cost=CHEAP)
    write_card(tmp_path / "broker.pub", {"strongroom-recipient": RECIPIENT.public})
    return {
        "owner_key": tmp_path / "owner.key",
        "passphrase": PASSPHRASE,
        "recipients": [tmp_path / "broker.pub"],
    }


def refused(path: Path, who: dict[str, Any], **changes: object) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        seal(doubling(), path, **(who | changes))
    assert not path.exists()
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("form", ["paths", "text", "bytes of a passphrase"])
def test_key_files_and_cards_are_named_by_their_paths(tmp_path: Path, who: dict[str, Any], form: str) -> None:
    if form == "text":
        who |= {"owner_key": str(who["owner_key"]), "recipients": [str(who["recipients"][0])]}
    if form == "bytes of a passphrase":
        who["passphrase"] = PASSPHRASE.encode()
    info = seal(doubling(), tmp_path / "s", name="m", **who)
    assert info == inspect_sealed(tmp_path / "s")
    assert info.core.owner == OWNER.public
    assert len(recover_dek(tmp_path / "s", RECIPIENT)) == 32


def test_a_missing_passphrase_is_never_asked_for(
    tmp_path: Path, who: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr("click.prompt", lambda *_, **__: pytest.fail("asked"))
    error = refused(tmp_path / "s", who, passphrase=None)
    assert error.code is ManifestCode.PASSPHRASE_WRONG
    assert "passphrase=" in str(error.remedy)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("owner_key", None),
        ("owner_key", b"\1" * 32),
        ("owner_key", 7),
        ("passphrase", 7),
        ("recipients", None),
        ("recipients", RECIPIENT.public),
        ("recipients", "broker.pub"),
        ("recipients", [None]),
        ("recipients", [RECIPIENT]),
    ],
)
def test_wrong_types_are_refused_with_what_to_give_and_without_their_value(
    tmp_path: Path, who: dict[str, Any], argument: str, value: object
) -> None:
    error = refused(tmp_path / "s", who, **{argument: value})
    assert error.code is ManifestCode.KEY_INVALID
    assert error.found == type(value[0] if isinstance(value, list) else value).__name__


def test_a_file_of_another_kind_is_refused(tmp_path: Path, who: dict[str, Any]) -> None:
    error = refused(tmp_path / "s", who, owner_key=who["recipients"][0])
    assert error.code is ManifestCode.KEY_INVALID
    assert "broker.pub" in error.message
