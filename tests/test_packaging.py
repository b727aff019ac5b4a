"""What is distributed: types that an installed user's checker sees, and a source archive with nothing missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

import strongroom

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / "strongroom-stubs" / "__init__.pyi"

USED_WELL = """
from pathlib import Path

import numpy as np
from strongroom import Session, load_policy, seal


def ask(address: str, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> int:
    policy = load_policy(Path("policy.toml"))
    with Session.connect(address, policy=policy, collateral="collateral/") as session:
        answer = session.infer("tumour", {"X": rows})
        return int(answer["label"][0])


digest: bytes = seal("m.onnx", Path("m.sealed"), name="m", owner_key=KEY, recipients=[b"card"]).digest
"""
USED_WRONGLY = """
from strongroom import Session, load_policy, seal

seal(1, 2, nonsense=3)
Session.connect("unix:/host", polcy="policy.toml")
number: int = load_policy("policy.toml")
"""


def complaints(folder: Path, *options: str) -> list[str]:
    """What a strict mypy says of both programs, in a folder that knows the project only as it is installed."""
    key = "from manifests.signing import Signer\n\nKEY = Signer.generate()\n"
    (folder / "well.py").write_text(key + USED_WELL)
    (folder / "wrongly.py").write_text(USED_WRONGLY)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", *options]
    done = subprocess.run([*mypy, "well.py", "wrongly.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout.splitlines()


def check_types(folder: Path, *options: str) -> None:
    found = complaints(folder, *options)
    assert [line for line in found if not line.startswith("wrongly.py:")] == []
    for number, what in ((4, "[call-arg]"), (4, "[arg-type]"), (5, "[call-arg]"), (6, "[assignment]")):
        assert any(line.startswith(f"wrongly.py:{number}: error:") and line.endswith(what) for line in found), found


def test_the_front_door_is_typed_for_the_programs_that_import_it(tmp_path: Path) -> None:
    """Against the checkout, as an editable installation has it."""
    check_types(tmp_path, f"--cache-dir={ROOT / '.mypy_cache' / 'front door'}")


def test_the_types_of_the_front_door_name_what_it_has() -> None:
    namespace: dict[str, list[str]] = {}
    (line,) = (line for line in STUBS.read_text(encoding="utf-8").splitlines() if line.startswith("__all__"))
    exec(line, namespace)  # noqa: S102 - our own file
    assert namespace["__all__"] == strongroom.__all__


def build(kind: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def install(wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel, and the dependencies of this one; returns its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    shutil.unpack_archive(wheel, site, "zip")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.mark.long
def test_the_front_door_of_the_wheel_is_typed(tmp_path: Path) -> None:
    python = install(build("wheel", tmp_path / "dist"), tmp_path / "environment")
    where = "import strongroom; print(strongroom.Session.__module__, strongroom.__file__)"
    done = subprocess.run([python, "-I", "-c", where], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"attestation.client.session {tmp_path / 'environment'}")
    check_types(tmp_path, "--python-executable", str(python))


@pytest.mark.long
def test_the_source_archive_has_every_file_of_the_checkout(tmp_path: Path) -> None:
    """Its tests read the pages, the Makefile and each other."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    with tarfile.open(build("sdist", tmp_path / "dist")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert sorted(set(tracked) - held) == []
