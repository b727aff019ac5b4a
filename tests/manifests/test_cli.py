"""The owner's commands, run as a person would."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attestation.cli import attest
from manifests.cli import inspect, model, owner, rewrap, seal_command
from manifests.errors import ManifestCode, ManifestError
from manifests.gramine.cli import manifest
from manifests.keyfile import read_card, read_key_file
from manifests.sealed import RecipientKey, inspect_sealed
from manifests.sealed import rewrap as rewrap_model
from manifests.signing import Signer
from tests.manifests.graphs import doubling

ENVIRONMENT = {"STRONGROOM_PASSPHRASE": "correct horse", "COLUMNS": "80"}


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(item) for item in arguments], env=ENVIRONMENT)


def done(command: Any, *arguments: object) -> str:
    result = run(command, *arguments)
    assert result.exception is None, result.exception
    return result.stdout


def refused(command: Any, *arguments: object) -> ManifestError:
    error = run(command, *arguments).exception
    assert isinstance(error, ManifestError), error
    return error


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an owner's key and two recipients' once."""
    folder = tmp_path_factory.mktemp("keys")
    done(owner, "init", "--key", folder / "owner.key")
    for name in ("one", "two"):
        done(owner, "recipient", "--key", folder / f"{name}.key")
    return folder


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "double.onnx"
    path.write_bytes(doubling().SerializeToString())
    return path


@pytest.fixture
def sealed(keys: Path, graph: Path, tmp_path: Path) -> Path:
    path = tmp_path / "double.sealed"
    done(seal_command, graph, "--owner-key", keys / "owner.key", "--recipient", keys / "one.pub", "-o", path)
    return path


def test_keys_come_in_pairs_of_file_and_card(keys: Path) -> None:
    assert stat.S_IMODE((keys / "owner.key").stat().st_mode) == 0o600
    assert len(read_card(keys / "owner.pub")["strongroom-owner"]) == 32
    assert len(read_card(keys / "one.pub")["strongroom-recipient"]) == 1216
    shown = json.loads(done(owner, "show", keys / "owner.pub", "--json"))
    assert shown == {"strongroom-owner": read_card(keys / "owner.pub")["strongroom-owner"].hex()}
    assert len(json.loads(done(owner, "show", keys / "one.pub", "--json"))["key_id"]) == 32


def test_no_key_and_no_card_is_overwritten(keys: Path, tmp_path: Path) -> None:
    before = (keys / "owner.key").read_bytes()
    assert refused(owner, "init", "--key", keys / "owner.key").code is ManifestCode.FILE_EXISTS
    (tmp_path / "x.key").write_bytes(b"something else")
    assert refused(owner, "init", "--key", tmp_path / "x.key").code is ManifestCode.FILE_EXISTS
    assert not (tmp_path / "x.pub").exists()
    assert (keys / "owner.key").read_bytes() == before


def test_init_prints_json(tmp_path: Path) -> None:
    made = json.loads(done(owner, "init", "--key", tmp_path / "o.key", "--json"))
    assert made["owner"] == read_card(tmp_path / "o.pub")["strongroom-owner"].hex()
    assert made["card"] == str(tmp_path / "o.pub")


def test_draft_seal_and_inspect(keys: Path, graph: Path, tmp_path: Path) -> None:
    described, path, table = tmp_path / "m.toml", tmp_path / "out.sealed", tmp_path / "table"
    table.write_bytes(b"table")
    assert "Review" in done(model, "draft", graph, "--name", "doubling", "-o", described)
    printed = done(
        seal_command,
        graph,
        "--manifest",
        described,
        "--owner-key",
        keys / "owner.key",
        "--recipient",
        keys / "one.pub",
        "--recipient",
        keys / "two.pub",
        "--part",
        f"table={table}",
        "-o",
        path,
        "--json",
    )
    info = inspect_sealed(path)
    assert json.loads(printed) == {**info.to_dict(), "signature_verified": True}
    assert json.loads(done(inspect, path, "--json")) == {**info.to_dict(), "signature_verified": True}
    assert [part.name for part in info.core.parts] == ["manifest", "model.onnx", "table"]
    assert info.core.name == "doubling"
    assert len(info.recipients) == 2
    shown = done(inspect, path, "--owner", keys / "owner.pub")
    assert f"  {info.digest.hex()}\n" in shown, "a fact is one line, however narrow the screen"
    assert all(f" {key_id.hex()}\n" in shown for key_id in info.recipients)
    assert "verified" in shown


def test_a_draft_goes_to_the_screen_or_a_new_file(graph: Path, tmp_path: Path) -> None:
    text = done(model, "draft", graph)
    assert text.startswith("# Drafted")
    assert 'name = "double"' in text
    assert json.loads(done(model, "draft", graph, "--json"))["inputs"][0]["name"] == "x"
    (tmp_path / "m.toml").write_text("edited")
    assert refused(model, "draft", graph, "-o", tmp_path / "m.toml").code is ManifestCode.FILE_EXISTS


def test_inspect_refuses_another_owner_and_a_changed_file(sealed: Path, tmp_path: Path) -> None:
    done(owner, "init", "--key", tmp_path / "other.key")
    assert refused(inspect, sealed, "--owner", tmp_path / "other.pub").code is ManifestCode.SEALED_OWNER
    data = bytearray(sealed.read_bytes())
    data[-1400] ^= 1
    sealed.write_bytes(data)
    assert refused(inspect, sealed).exit_code == 10


def test_rewrap_adds_and_removes(keys: Path, sealed: Path, tmp_path: Path) -> None:
    added = json.loads(done(rewrap, sealed, "--key", keys / "one.key", "--add", keys / "two.pub", "--json"))
    assert len(added["recipients"]) == 2
    copy = tmp_path / "copy.sealed"
    done(rewrap, sealed, "--key", keys / "two.key", "--remove", keys / "one.pub", "-o", copy)
    assert len(inspect_sealed(copy).recipients) == 1
    first = json.loads(done(owner, "show", keys / "one.pub", "--json"))["key_id"]
    done(rewrap, sealed, "--key", keys / "two.key", "--remove", first)
    assert inspect_sealed(sealed).recipients == inspect_sealed(copy).recipients
    error = refused(rewrap, sealed, "--key", keys / "one.key", "--add", keys / "two.pub")
    assert error.code is ManifestCode.SEALED_RECIPIENT


def test_a_rewrap_to_a_file_that_is_there_needs_force(keys: Path, sealed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sealed"
    copy.write_text("precious")
    arguments = [sealed, "--key", keys / "one.key", "--add", keys / "two.pub", "-o", copy]
    assert refused(rewrap, *arguments).code is ManifestCode.FILE_EXISTS
    private = RecipientKey.from_bytes(read_key_file(keys / "one.key", "recipient", b"correct horse"))
    with pytest.raises(ManifestError) as error:
        rewrap_model(sealed, private=private, add=[private.public], destination=copy)
    assert error.value.code is ManifestCode.FILE_EXISTS
    assert copy.read_text() == "precious"
    done(rewrap, *arguments, "--force")
    assert len(inspect_sealed(copy).recipients) == 2


def test_a_clients_key_comes_with_a_card(tmp_path: Path) -> None:
    made = json.loads(done(owner, "client", "--key", tmp_path / "ward.key", "--json"))
    assert read_card(tmp_path / "ward.pub")["strongroom-client"].hex() == made["client"]
    seed = read_key_file(tmp_path / "ward.key", "client", b"correct horse")
    assert Signer.from_seed(seed).public.hex() == made["client"]


def test_a_wrong_passphrase_is_refused(keys: Path, sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("wrong\n")
    arguments = [sealed, "--key", keys / "one.key", "--add", keys / "two.pub", "--passphrase-file", tmp_path / "pass"]
    assert refused(rewrap, *arguments).code is ManifestCode.PASSPHRASE_WRONG


def test_without_a_passphrase_and_a_person_to_ask_it_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(owner, ["init", "--key", str(tmp_path / "o.key")], env={"STRONGROOM_PASSPHRASE": None})
    assert result.exit_code == 2
    assert "--passphrase-file" in result.output


@pytest.mark.parametrize("part", ["table", "=file", "table="])
def test_a_part_is_name_equals_file(keys: Path, graph: Path, tmp_path: Path, part: str) -> None:
    arguments = [graph, "--owner-key", keys / "owner.key", "--recipient", keys / "one.pub", "-o", tmp_path / "s"]
    result = run(seal_command, *arguments, "--part", part)
    assert result.exit_code == 2
    assert "NAME=FILE" in result.output


def test_a_rewrap_that_asks_for_nothing_is_a_usage_error(keys: Path, sealed: Path) -> None:
    assert run(rewrap, sealed, "--key", keys / "one.key").exit_code == 2


def test_cards_and_manifests_of_the_wrong_kind_are_refused(keys: Path, graph: Path, tmp_path: Path) -> None:
    start = [graph, "--owner-key", keys / "owner.key", "-o", tmp_path / "s"]
    assert refused(seal_command, *start, "--recipient", keys / "owner.pub").code is ManifestCode.KEY_INVALID
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    wrong = [*start, "--recipient", keys / "one.pub", "--manifest", tmp_path / "m.toml"]
    assert refused(seal_command, *wrong).code is ManifestCode.MANIFEST_INVALID
    assert not (tmp_path / "s").exists()


def test_the_progress_bar_is_for_people(
    keys: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manifests import cli

    with cli._progress(hidden=False) as silent:
        assert silent is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with cli._progress(hidden=True) as silent:
        assert silent is None
    with cli._progress(hidden=False) as bar:
        assert bar is not None
        bar(1, 2)
        bar(2, 2)


def test_a_sealed_model_is_replaced_by_force_alone(keys: Path, graph: Path, sealed: Path) -> None:
    before = sealed.read_bytes()
    arguments = [graph, "--owner-key", keys / "owner.key", "--recipient", keys / "one.pub", "-o", sealed]
    error = refused(seal_command, *arguments)
    assert error.code is ManifestCode.FILE_EXISTS
    assert "--force" in str(error.remedy)
    assert sealed.read_bytes() == before
    done(seal_command, *arguments, "--force")
    assert sealed.read_bytes() != before


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that nobody may read: the system would let an administrator, so it is asked in our stead."""
    path = tmp_path / "locked"
    path.touch(mode=0)
    allowed, opened = os.access, os.open

    def access(name: Any, mode: int, **options: Any) -> bool:
        return Path(os.fsdecode(name)) != path and allowed(name, mode, **options)

    def refuse(name: Any, *arguments: Any, **options: Any) -> Any:
        if Path(os.fsdecode(name)) == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **_: open(self, mode, opener=refuse))  # noqa: SIM115 - Path.open is what it stands in for
    return path


@pytest.mark.parametrize("where", ["model", "manifest", "owner key", "card", "passphrase", "a folder"])
def test_a_path_that_cannot_be_read_is_unavailable(
    keys: Path, graph: Path, tmp_path: Path, locked: Path, where: str
) -> None:
    arguments: dict[str, object] = {"model": graph, "owner key": keys / "owner.key", "card": keys / "one.pub"}
    bad = tmp_path if where == "a folder" else locked
    arguments["model" if where == "a folder" else where] = bad
    words = [arguments["model"], "--owner-key", arguments["owner key"], "--recipient", arguments["card"]]
    words += ["-o", tmp_path / "s"]
    words += ["--manifest", bad] if where == "manifest" else []
    words += ["--passphrase-file", bad] if where == "passphrase" else []
    error = refused(seal_command, *words)
    assert (error.code, error.exit_code) == (ManifestCode.FILE_UNAVAILABLE, 40)
    assert str(bad) in error.message


@pytest.mark.parametrize(
    "words",
    [
        (manifest, "measure"),
        (manifest, "check"),
        (attest, "show"),
        (attest, "verify", "--collateral", "c", "--evidence", "e", "--policy"),
        (inspect,),
        (model, "draft"),
        (owner, "show"),
    ],
)
def test_every_command_names_the_file_that_it_cannot_read(locked: Path, words: tuple[Any, ...]) -> None:
    error = refused(*words, locked)
    assert error.code is ManifestCode.FILE_UNAVAILABLE
    assert str(locked) in error.message


PICTURES = """
name = "pictures"
version = "1"
epoch = 1
axes = { bytes = { minimum = 1, maximum = 1000 } }
inputs = [{ name = "file", dtype = "uint8", shape = ["bytes"] }]
outputs = [{ name = "y", dtype = "float32", shape = [1, 4] }]
pre = [{ kind = "image", input = "file", output = "x", width = 4, height = 1, mode = "gray", layout = "flat" }]
"""


def test_sealing_says_which_components_an_enclave_needs(keys: Path, graph: Path, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(PICTURES)
    words = ("--owner-key", keys / "owner.key", "--recipient", keys / "one.pub", "-o", tmp_path / "m.sealed")
    told = done(seal_command, graph, "--manifest", tmp_path / "m.toml", *words)
    assert "strongroom manifest render --component image" in told
    quiet = done(seal_command, graph, "--manifest", tmp_path / "m.toml", *words, "--force", "--json")
    assert json.loads(quiet)
