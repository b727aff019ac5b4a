"""Rendering for this machine, and the commands."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluation.demo.installation import Installation
from manifests.errors import StrongroomError
from manifests.gramine import render as render_module
from manifests.gramine.cli import manifest as group
from manifests.gramine.errors import GramineCode, GramineError
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.measure import check_trusted_files, measure
from manifests.gramine.render import FLAGS, RenderedManifest, enclave_command, record_closure, render
from manifests.gramine.settings import EnclaveSettings, Limits, load_settings
from manifests.keyfile import write_card
from manifests.signing import Signer

ROOT = Path(__file__).parents[2]
OWNER = Signer.from_seed(bytes(32)).public


@pytest.fixture(scope="module")
def command() -> tuple[str, ...]:
    return enclave_command(sys.executable)


@pytest.fixture(scope="module")
def closure(command: tuple[str, ...]) -> list[str]:
    return record_closure(command)


@pytest.fixture
def rendered(tmp_path: Path, closure: list[str], monkeypatch: pytest.MonkeyPatch) -> RenderedManifest:
    monkeypatch.setattr(render_module, "record_closure", lambda _command: closure)
    return render(EnclaveSettings("first"), tmp_path / "out")


def test_the_closure_is_what_the_enclave_loads_and_no_more(closure: list[str]) -> None:
    assert closure == sorted(closure)
    for present in ("/enclave/server.py", "/manifests/sealed/reader.py", "/attestation/wire/session.py"):
        assert any(path.endswith(present) for path in closure), present
    verifier = ("/attestation/intel/", "/attestation/policy/", "/attestation/appraise", "/attestation/sim/")
    others = ("site-packages/onnx/", "/sklearn/", "/attestation/client/", "/attestation/broker/", "/host/", "/click/")
    for absent in (*verifier, *others):
        assert not any(absent in path for path in closure), absent
    assert not any(path.endswith(".pyc") for path in closure)
    assert not any(path.endswith((".pth", "/site.py", "/sitecustomize.py")) for path in closure)
    assert len(closure) < 600


def test_the_command_names_the_first_file_and_every_folder_of_modules(command: tuple[str, ...]) -> None:
    assert command[: 1 + len(FLAGS)] == (sys.executable, *FLAGS)
    assert {"-I", "-S", "-B"} < set(FLAGS)
    start, *folders, end = command[1 + len(FLAGS) :]
    assert (start, end) == (str(ROOT / "enclave" / "start.py"), "--")
    assert str(ROOT) in folders, "an editable install leads here by a .pth file, which the enclave does not execute"
    assert any((Path(folder) / "numpy").is_dir() for folder in folders)
    assert len(set(folders)) == len(folders)
    assert not any((Path(folder) / "os.py").exists() for folder in folders), "the interpreter's own are not repeated"


def test_packages_that_are_installed_among_others_are_found_there(tmp_path: Path) -> None:
    """As a wheel puts them; the environment's configuration is what makes it one."""
    installation = Installation(tmp_path)
    installation.make()
    site = Path(sysconfig.get_path("purelib", vars={"base": str(installation.python.parent.parent)}))
    (site / "strongroom.pth").unlink()
    for package in installation.code.iterdir():
        package.rename(site / package.name)
    start, *folders, _ = enclave_command(str(installation.python))[1 + len(FLAGS) :]
    assert (start, folders) == (str(site / "enclave" / "start.py"), [str(site)])


def test_a_rendered_manifest_parses_and_its_files_are_as_it_says(
    rendered: RenderedManifest, command: tuple[str, ...]
) -> None:
    manifest = parse_manifest(rendered.path.read_bytes())
    check_trusted_files(manifest)
    assert manifest.argv == (*command, "--settings", str(rendered.settings_path))
    assert manifest.env["ORT_DISABLE_TELEMETRY"] == "1"
    assert manifest.remote_attestation == "dcap"
    paths = {file.path for file in manifest.trusted_files}
    assert {sys.executable, str(rendered.settings_path)} <= paths
    assert len(paths) == rendered.files
    assert rendered.measurement == measure(rendered.path.read_bytes())
    assert load_settings(rendered.settings_path) == EnclaveSettings("first")


def test_every_file_lies_below_a_mount(rendered: RenderedManifest) -> None:
    manifest = parse_manifest(rendered.data)
    mounts = tuple(f"{mount.path}/" for mount in manifest.mounts)
    assert all(file.path.startswith(mounts) for file in manifest.trusted_files)


def test_the_same_settings_in_the_same_place_give_the_same_bytes(rendered: RenderedManifest) -> None:
    assert render(EnclaveSettings("first"), rendered.path.parent).data == rendered.data


def test_settings_are_measured(rendered: RenderedManifest) -> None:
    other = render(EnclaveSettings("any"), rendered.path.parent)
    assert other.measurement != rendered.measurement


def test_the_enclave_grows_with_what_it_is_to_hold(rendered: RenderedManifest) -> None:
    small = EnclaveSettings("first", limits=Limits(model_memory=1 << 28, threads=8))
    manifest = parse_manifest(render(small, rendered.path.parent).data)
    assert manifest.enclave_size < parse_manifest(rendered.data).enclave_size
    assert manifest.max_threads > parse_manifest(rendered.data).max_threads


@pytest.mark.parametrize(("output", "status"), [("", 1), ("", 0), ("[]", 0), ('["/a", 5]', 0), ('["relative"]', 0)])
def test_an_enclave_that_cannot_record_its_files_is_an_error(output: str, status: int, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
    fake.chmod(0o755)
    with pytest.raises(GramineError) as refusal:
        record_closure((str(fake),))
    assert refusal.value.code == "closure-failed"


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false"])
def test_an_interpreter_that_is_none_is_an_error(python: str) -> None:
    with pytest.raises(GramineError) as refusal:
        enclave_command(python)
    assert refusal.value.code == "closure-failed"
    assert python in str(refusal.value.remedy)


# ------------------------------------------------------------------------------------------ commands


def run(*arguments: str) -> str:
    result = CliRunner().invoke(group, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_render_measure_and_check_agree(rendered: RenderedManifest, tmp_path: Path) -> None:
    facts = json.loads(run("render", "--output", str(tmp_path / "cli"), "--first-owner", "--json"))
    path = facts["manifest"]
    assert json.loads(run("measure", path, "--json"))["mrenclave"] == facts["mrenclave"]
    assert json.loads(run("check", path, "--json"))["mrenclave"] == facts["mrenclave"]
    assert f"  {facts['mrenclave']}\n" in run("measure", path), "a fact is one line, however narrow the screen"
    assert rendered.files == facts["trusted_files"]


def test_owners_are_named_by_key_or_card(rendered: RenderedManifest, tmp_path: Path) -> None:
    card = tmp_path / "owner.pub"
    write_card(card, {"strongroom-owner": OWNER})
    for owner in (OWNER.hex(), str(card)):
        run("render", "--output", str(rendered.path.parent), "--owner", owner, "--max-sessions", "512")
        assert load_settings(rendered.settings_path).owners == (OWNER,)
        assert load_settings(rendered.settings_path).limits.max_sessions == 512


@pytest.mark.parametrize("owner", ["zz", "00" * 32, "no-such-file.pub"])
def test_an_owner_that_is_none_is_refused(owner: str, tmp_path: Path) -> None:
    with pytest.raises(StrongroomError) as refusal:
        run("render", "--output", str(tmp_path), "--owner", owner)
    assert refusal.value.code == "enclave-settings-invalid"


@pytest.mark.parametrize("owner", ["x" * 300, "owner.pub"])
def test_an_owner_that_cannot_be_a_path_is_refused_too(owner: str, tmp_path: Path) -> None:
    with pytest.raises(StrongroomError) as refusal:
        run("render", "--output", str(tmp_path), "--owner", owner)
    assert refusal.value.code == "enclave-settings-invalid"


@pytest.mark.parametrize("output", ["file", "file/below", "x" * 300])
def test_a_folder_that_cannot_be_made_is_named(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StrongroomError) as refusal:
        run("render", "--output", str(tmp_path / output), "--first-owner")
    assert (refusal.value.code, refusal.value.exit_code) == ("file-unavailable", 40)
    assert str(tmp_path / output) in refusal.value.message


@pytest.mark.parametrize("arguments", [[], ["--first-owner", "--owner", OWNER.hex()]])
def test_who_may_provision_must_be_said_once(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["render", "--output", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert "--first-owner" in result.output


def test_check_names_the_file_that_changed(rendered: RenderedManifest) -> None:
    rendered.settings_path.write_bytes(EnclaveSettings("any").to_toml())
    with pytest.raises(StrongroomError) as refusal:
        run("check", str(rendered.path))
    assert refusal.value.code == "trusted-file-changed"
    assert str(rendered.settings_path) in refusal.value.message


def test_the_command_ends_with_the_exit_status_of_the_fault(rendered: RenderedManifest) -> None:
    rendered.settings_path.write_bytes(EnclaveSettings("any").to_toml())
    command = [sys.executable, "-m", "strongroom", "manifest", "check", str(rendered.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert json.loads(done.stdout)["error"]["code"] == "trusted-file-changed"


def test_any_limit_of_the_settings_can_be_rendered(tmp_path: Path) -> None:
    words = ("--limit", "max_models=3", "--limit", "run_memory=1048576", "--max-sessions", "7")
    run("render", "--output", str(tmp_path / "limited"), "--first-owner", *words, "--json")
    limits = load_settings(tmp_path / "limited" / "enclave.toml").limits
    assert (limits.max_models, limits.run_memory, limits.max_sessions) == (3, 1 << 20, 7)


@pytest.mark.parametrize("text", ["max_models", "max_models=many", "max_models=", "novelty=1", "max_models=0", "=1"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(GramineError) as refusal:
        run("render", "--output", str(tmp_path / "limited"), "--first-owner", "--limit", text)
    assert refusal.value.code is GramineCode.SETTINGS_INVALID
