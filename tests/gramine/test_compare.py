"""`strongroom manifest diff`: what a manifest trusts that another does not, and what a component costs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner

from manifests.errors import StrongroomError
from manifests.gramine.cli import manifest as group
from manifests.gramine.compare import INTERPRETER, SETTINGS, compare, package_of
from manifests.gramine.manifest import parse_manifest
from manifests.gramine.render import render
from manifests.gramine.settings import COMPONENTS, EnclaveSettings, load_settings


def written(folder: Path, files: dict[str, bytes], **options: Any) -> Path:
    """Write files and a manifest that trusts them; returns the manifest's path."""
    folder.mkdir()
    trusted = []
    for name, content in {"bin/python": b"python", "enclave.toml": b"version = 1", **files}.items():
        path = folder.parent / name if name != "enclave.toml" else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
        trusted.append({"uri": f"file:{path}", "sha256": hashlib.sha256(content).hexdigest()})
    python = str(folder.parent / "bin/python")
    tables = {
        "libos": {"entrypoint": python},
        "loader": {"argv": [python, "--settings", str(folder / "enclave.toml")], "log_level": "error", **options},
        "fs": {"start_dir": "/", "root": {"type": "tmpfs"}},
        "sgx": {
            "enclave_size": "256M",
            "file_check_policy": "strict",
            "remote_attestation": "dcap",
            "trusted_files": trusted,
        },
    }
    path = folder / "enclave.manifest"
    path.write_text(tomli_w.dumps(tables))
    return path


LIBRARY = "site-packages/PIL/_imaging.cpython-311.so"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(group, ["diff", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_manifest_is_the_same_as_itself_wherever_it_lies(tmp_path: Path) -> None:
    found = compare(written(tmp_path / "a", {}), written(tmp_path / "b", {}))
    assert (found.added, found.removed, found.changed, found.options) == ((), (), (), ())
    assert not found.to_dict()["same_measurement"], "every byte counts, the name of a folder too"
    assert compare(found.before.path, found.before.path).to_dict()["same_measurement"]


def test_what_is_added_is_weighed_by_package(tmp_path: Path) -> None:
    more = {LIBRARY: bytes(5000), "site-packages/PIL/Image.py": b"x" * 70, "lib/libz.so.1.3": bytes(11)}
    before, after = written(tmp_path / "a", {}), written(tmp_path / "b", more, env={"A": "1"})
    table = json.loads(run(str(before), str(after), "--json"))
    assert table["adds"] == {"files": 3, "libraries": 2, "size": 5081, "unknown": 0}
    assert table["added_by_package"]["PIL"] == {"files": 2, "libraries": 1, "size": 5070, "unknown": 0}
    assert table["added_by_package"][INTERPRETER] == {"files": 1, "libraries": 1, "size": 11, "unknown": 0}
    assert table["options"] == ["env"]
    back = json.loads(run(str(after), str(before), "--json"))
    assert back["removes"] == table["adds"]
    assert back["adds"]["files"] == 0
    text = run(str(before), str(after))
    assert "+ PIL: 2 files, 1 shared libraries, 5 KiB" in text
    assert "env" in text


def test_a_file_that_changed_is_named_and_so_are_the_settings(tmp_path: Path) -> None:
    before = written(tmp_path / "a", {"site-packages/a.py": b"1"})
    after = written(tmp_path / "b", {"site-packages/a.py": b"2", "enclave.toml": b"version = 2"})
    found = compare(before, after)
    assert found.changed == (str(tmp_path / "site-packages/a.py"), SETTINGS)
    assert f"~ {SETTINGS}" in run(str(before), str(after))


def test_what_is_not_on_this_machine_any_more_weighs_unknown(tmp_path: Path) -> None:
    before, after = written(tmp_path / "a", {}), written(tmp_path / "b", {LIBRARY: bytes(5000)})
    (tmp_path / LIBRARY).write_bytes(b"another file")
    assert compare(before, after).to_dict()["adds"] == {"files": 1, "libraries": 1, "size": 0, "unknown": 1}
    (tmp_path / LIBRARY).unlink()
    assert "1 of unknown size" in run(str(before), str(after))


@pytest.mark.parametrize(("name", "code"), [("absent", "file-unavailable"), ("broken", "enclave-manifest-malformed")])
def test_what_is_no_manifest_is_an_error(name: str, code: str, tmp_path: Path) -> None:
    good = written(tmp_path / "a", {})
    (tmp_path / "broken").write_text("= no TOML")
    for pair in ((good, tmp_path / name), (tmp_path / name, good)):
        with pytest.raises(StrongroomError) as refusal:
            compare(*pair)
        assert refusal.value.code == code


def test_files_belong_to_packages() -> None:
    site = "/venv/lib/python3.11/site-packages"
    assert package_of(f"{site}/numpy/core/x.py") == "numpy"
    assert package_of(f"{site}/pillow.libs/libjpeg.so.62") == "pillow.libs"
    assert package_of(f"{site}/single.py") == "single.py"
    assert package_of("/src/enclave/components/image.py") == "strongroom (enclave)"
    assert package_of("/usr/lib/python3.11/json/__init__.py") == INTERPRETER


FILES = {"text": "/tokenizers/", "image": "/PIL/", "audio": "/soxr/", "noise": "/pydp/"}
MOST = {"text": 20, "image": 24, "audio": 2, "noise": 16}
"""MiB that a component may add; what one costs is written in docs/processing.md."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(EnclaveSettings("first"), tmp_path_factory.mktemp("bare")).path


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_costs_its_own_library_and_little_else(component: str, bare: Path, tmp_path: Path) -> None:
    settings = EnclaveSettings("first", components=(component,))
    rendered = render(settings, tmp_path / "with")
    assert load_settings(rendered.settings_path) == settings
    found = compare(bare, rendered.path)
    assert found.before.measurement != found.after.measurement
    assert found.removed == ()
    assert found.changed == (SETTINGS,)
    assert any(FILES[component] in path for path in found.added)
    assert any(path.endswith(f"/enclave/components/{component}.py") for path in found.added)
    for other in COMPONENTS:
        if other != component:
            assert not any(FILES[other] in path for path in found.added)
    network = ("/huggingface_hub/", "/httpx", "/httpcore", "/h11/", "/ssl.py", "/_ssl.", "/urllib/", "/http/client")
    assert not any(word in path for path in found.added for word in network)
    adds = found.to_dict()["adds"]
    assert adds["unknown"] == 0
    assert adds["libraries"] >= 1
    assert adds["size"] < MOST[component] << 20
    bare_paths = {file.path for file in parse_manifest(bare.read_bytes()).trusted_files}
    assert not any(word in path for path in bare_paths for word in FILES.values())


def test_pillow_brings_two_readers_and_no_others(bare: Path, tmp_path: Path) -> None:
    rendered = render(EnclaveSettings("first", components=("image",)), tmp_path / "with")
    names = {Path(path).name for path in compare(bare, rendered.path).added if path.endswith("ImagePlugin.py")}
    assert names == {"JpegImagePlugin.py", "PngImagePlugin.py", "TiffImagePlugin.py"}, "EXIF is a TIFF"


def test_the_command_takes_components(tmp_path: Path) -> None:
    words = ["render", "--first-owner", "--output", str(tmp_path / "c"), "--component", "audio", "--json"]
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, result.output
    assert load_settings(tmp_path / "c" / "enclave.toml").components == ("audio",)
    assert CliRunner().invoke(group, [*words, "--component", "video"]).exit_code == 2
