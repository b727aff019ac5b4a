"""The enclave's manifest: parsed strictly, measured to the byte, and held against the files."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from manifests.gramine import options
from manifests.gramine.errors import GramineError
from manifests.gramine.manifest import MAX_MANIFEST, Mount, parse_manifest
from manifests.gramine.measure import check_trusted_files, measure

PYTHON = sys.executable


def tables(**changes: Any) -> dict[str, Any]:
    """A manifest's tables; a change is a path with slashes and its value, or None to remove it."""
    made: dict[str, Any] = {
        "libos": {"entrypoint": PYTHON},
        "loader": {
            "entrypoint": {"uri": "file:/usr/lib/libsysdb.so"},
            "argv": [PYTHON, "-I", "-B", "-m", "enclave"],
            "env": {"ORT_DISABLE_TELEMETRY": "1"},
            "log_level": "error",
        },
        "fs": {"start_dir": "/", "root": {"type": "tmpfs"}, "mounts": [{"path": "/usr", "uri": "file:/usr"}]},
        "sys": {"stack": {"size": "2M"}, "fds": {"limit": 900}},
        "sgx": {
            "enclave_size": "1G",
            "max_threads": 16,
            "remote_attestation": "dcap",
            "trusted_files": [{"uri": f"file:{PYTHON}", "sha256": "00" * 32}],
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("/")
        table = made
        for parent in parents:
            table = table.setdefault(parent, {})
        if value is None:
            del table[last]
        else:
            table[last] = value
    return made


def text(**changes: Any) -> bytes:
    return tomli_w.dumps(tables(**changes)).encode()


def code_of(data: bytes) -> str:
    with pytest.raises(GramineError) as refusal:
        parse_manifest(data)
    return str(refusal.value.code)


def test_a_manifest_is_read_as_it_is_written() -> None:
    manifest = parse_manifest(text())
    assert manifest.entrypoint == PYTHON
    assert manifest.argv == (PYTHON, "-I", "-B", "-m", "enclave")
    assert dict(manifest.env) == {"ORT_DISABLE_TELEMETRY": "1"}
    assert manifest.mounts == (Mount("/usr", "/usr"),)
    assert (manifest.stack_size, manifest.enclave_size) == (2 << 20, 1 << 30)
    assert (manifest.max_threads, manifest.max_descriptors) == (16, 900)
    assert (manifest.trusted_files[0].path, manifest.trusted_files[0].sha256) == (PYTHON, bytes(32))
    assert manifest.remote_attestation == "dcap"


def test_a_tmpfs_has_no_source() -> None:
    manifest = parse_manifest(text(**{"fs/mounts": [{"path": "/tmp", "type": "tmpfs"}]}))  # noqa: S108 - inside
    assert manifest.mounts == (Mount("/tmp", None),)  # noqa: S108 - inside the enclave


@pytest.mark.parametrize("option", sorted(options.REFUSED))
def test_insecure_and_removed_options_are_refused_by_name(option: str) -> None:
    with pytest.raises(GramineError) as refusal:
        parse_manifest(text(**{option.replace(".", "/"): []}))
    assert refusal.value.code == "enclave-option-refused"
    assert option in refusal.value.message


def test_debug_and_steering_variables_are_refused() -> None:
    assert code_of(text(**{"sgx/debug": True})) == "enclave-option-refused"
    assert parse_manifest(text(**{"sgx/debug": False}))
    for name in ("LD_PRELOAD", "PYTHONPATH", "SSL_CERT_FILE"):
        assert code_of(text(**{f"loader/env/{name}": "x"})) == "enclave-option-refused"
    for value in ({"passthrough": True}, {"value": "1"}):
        assert code_of(text(**{"loader/env/X": value})) == "enclave-option-refused"


@pytest.mark.parametrize(
    "changes",
    [
        {"sgx/nonsense": 1},
        {"myapp": {"x": 1}},
        {"loader": 5},
        {"sgx": []},
        {"sys/stack/sizes": "2M"},
    ],
)
def test_unknown_options_are_refused(changes: dict[str, Any]) -> None:
    assert code_of(text(**changes)) == "enclave-option-unknown"


@pytest.mark.parametrize(
    "changes",
    [
        {"libos/entrypoint": None},
        {"libos/entrypoint": "python3"},
        {"libos/entrypoint": "/usr/bin/other"},
        {"libos/entrypoint": 5},
        {"loader/argv": None},
        {"loader/argv": []},
        {"loader/argv": ["python3"]},
        {"loader/argv": [PYTHON, 5]},
        {"loader/argv": [PYTHON, "a\0b"]},
        {"loader/argv": [PYTHON] * 2000},
        {"loader/env/A-B": "x"},
        {"loader/env/A": "x\0"},
        {"loader/env": {f"V{i}": "x" for i in range(2000)}},
        {"loader/log_level": "debug"},
        {"fs/root/type": "chroot"},
        {"fs/root/type": None},
        {"fs/start_dir": "relative"},
        {"fs/mounts": [5]},
        {"fs/mounts": [{"path": "/", "uri": "file:/x"}]},
        {"fs/mounts": [{"path": "x", "uri": "file:/x"}]},
        {"fs/mounts": [{"path": "/x", "uri": "dev:/x"}]},
        {"fs/mounts": [{"path": "/x", "uri": "file:"}]},
        {"fs/mounts": [{"path": "/x"}]},
        {"fs/mounts": [{"path": "/x", "uri": "file:/x", "type": "encrypted"}]},
        {"fs/mounts": [{"path": "/x", "uri": "file:/x", "type": "tmpfs"}]},
        {"fs/mounts": [{"path": "/x", "uri": "file:/x", "mode": 1}]},
        {"fs/mounts": [{"path": "/x", "uri": "file:/x"}] * 2000},
        {"sys/stack/size": "2T"},
        {"sys/stack/size": ""},
        {"sys/stack/size": 5},
        {"sys/fds/limit": 2},
        {"sys/fds/limit": True},
        {"sgx/enclave_size": "3G"},
        {"sgx/enclave_size": "512K"},
        {"sgx/max_threads": 2},
        {"sgx/max_threads": 5000},
        {"sgx/isvsvn": 70_000},
        {"sgx/isvprodid": -1},
        {"sgx/remote_attestation": "epid"},
        {"sgx/file_check_policy": "allow_all_but_log"},
        {"sgx/trusted_files": None},
        {"sgx/trusted_files": []},
        {"sgx/trusted_files": [f"file:{PYTHON}"]},
        {"sgx/trusted_files": [{"uri": f"file:{PYTHON}"}]},
        {"sgx/trusted_files": [{"uri": f"file:{PYTHON}", "sha256": "zz" * 32}]},
        {"sgx/trusted_files": [{"uri": f"file:{PYTHON}", "sha256": "AA" * 32}]},
        {"sgx/trusted_files": [{"uri": f"file:{PYTHON}", "sha256": 5}]},
        {"sgx/trusted_files": [{"uri": f"file:{PYTHON}", "sha256": "00" * 32}] * 2},
        {"sgx/trusted_files": [{"uri": "file:/usr/bin/", "sha256": "00" * 32}]},
        {"sgx/trusted_files": [{"uri": PYTHON, "sha256": "00" * 32}]},
    ],
)
def test_values_that_are_not_usable_are_refused(changes: dict[str, Any]) -> None:
    assert code_of(text(**changes)) == "enclave-option-invalid"


@pytest.mark.parametrize("data", [b"\xff", b"[", b"x = " + b"[" * 5000, b" " * (MAX_MANIFEST + 1)])
def test_what_is_no_manifest_is_malformed(data: bytes) -> None:
    assert code_of(data) == "enclave-manifest-malformed"


@pytest.mark.parametrize(("size", "count"), [("0x8000000", 1 << 27), ("128M", 1 << 27), ("1024K", 1 << 20)])
def test_sizes_are_read_as_gramine_reads_them(size: str, count: int) -> None:
    assert parse_manifest(text(**{"sgx/enclave_size": size})).enclave_size == count


def test_every_byte_counts_in_the_measurement() -> None:
    data = text()
    assert measure(data) == hashlib.sha256(b"strongroom simulated enclave v1\0" + data).digest()
    assert len({measure(data), measure(data + b"\n"), measure(data + b"# a comment"), measure(data[:-1])}) == 4


# ------------------------------------------------------------------------------------------ trusted files


def with_files(folder: Path, *names: str, relative: bool = False) -> bytes:
    files = [{"uri": f"file:{PYTHON}", "sha256": hashlib.sha256(Path(PYTHON).read_bytes()).hexdigest()}]
    for name in names:
        path = folder / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append({"uri": f"file:{name if relative else path}", "sha256": digest})
    return text(**{"sgx/trusted_files": files})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "b.py").write_text("b = 2\n")
    return tmp_path


def test_files_that_are_as_rendered_pass(folder: Path) -> None:
    check_trusted_files(parse_manifest(with_files(folder, "a.py", "b.py")))
    check_trusted_files(parse_manifest(with_files(folder, "a.py", relative=True)), base=folder)


def test_the_file_that_changed_is_named(folder: Path) -> None:
    manifest = parse_manifest(with_files(folder, "a.py", "b.py"))
    (folder / "b.py").write_text("b = 3\n")
    with pytest.raises(GramineError) as refusal:
        check_trusted_files(manifest)
    assert refusal.value.code == "trusted-file-changed"
    assert str(folder / "b.py") in refusal.value.message


def test_the_file_that_is_missing_is_named(folder: Path) -> None:
    manifest = parse_manifest(with_files(folder, "a.py"))
    (folder / "a.py").unlink()
    with pytest.raises(GramineError) as refusal:
        check_trusted_files(manifest)
    assert refusal.value.code == "trusted-file-missing"
    assert str(folder / "a.py") in refusal.value.message


def test_a_relative_file_needs_a_folder(folder: Path) -> None:
    with pytest.raises(GramineError) as refusal:
        check_trusted_files(parse_manifest(with_files(folder, "a.py", relative=True)))
    assert refusal.value.code == "trusted-file-missing"
