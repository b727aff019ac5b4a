"""Full disks, missing files and killed processes never leave a half-written file that looks whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import BytesSource, FileSource, inspect_sealed, rewrap
from manifests.sealed.writer import FilePart, MemoryPart, Part, write_sealed
from tests.manifests.small import OTHER_RECIPIENT, OWNER, RECIPIENT, manifest, small


def _seal(path: Path, *parts: Part) -> None:
    every = [MemoryPart("manifest", manifest().encode()), *parts]
    write_sealed(path, every, name="small", epoch=3, owner_key=OWNER, recipients=[RECIPIENT.public], chunk_size=4096)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("room", [0, 1, 5, 40])
def test_a_disk_that_fills_up_while_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"the older file")
    write, writes = os.write, iter(range(1000))

    def fills_up(descriptor: int, data: memoryview) -> int:
        if next(writes) >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    threads = threading.active_count()
    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(ManifestError) as caught:
        _seal(path, MemoryPart("model.onnx", bytes(1 << 20)))
    assert caught.value.code is ManifestCode.DISK_FULL
    assert path.read_bytes() == b"the older file"
    assert _names(tmp_path) == ["s"]
    assert threading.active_count() == threads


def test_a_disk_that_fills_up_while_rewrapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    path.write_bytes(small().data)

    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ManifestError) as caught:
        rewrap(path, private=RECIPIENT, add=[OTHER_RECIPIENT.public])
    assert caught.value.code is ManifestCode.DISK_FULL
    assert path.read_bytes() == small().data


def test_a_part_that_changes_while_it_is_sealed(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    for size in (9999, 10001, 0):
        weights.write_bytes(bytes(10000))
        part = FilePart.of("model.onnx", weights)
        weights.write_bytes(bytes(size))
        with pytest.raises(ManifestError) as caught:
            _seal(tmp_path / "s", part)
        assert caught.value.code is ManifestCode.SEALED_PART
    assert _names(tmp_path) == ["weights"]


def test_a_part_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        FilePart.of("weights", tmp_path / "none")
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    (tmp_path / "weights").write_bytes(b"w")
    part = FilePart.of("model.onnx", tmp_path / "weights")
    (tmp_path / "weights").unlink()
    with pytest.raises(ManifestError) as caught:
        _seal(tmp_path / "s", part)
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    assert _names(tmp_path) == []


def test_an_error_of_a_part_stops_the_sealing_and_its_thread(tmp_path: Path) -> None:
    class Broken:
        name = "model.onnx"
        size = 8192

        def pieces(self, size: int) -> Iterator[memoryview]:
            yield memoryview(bytes(size))
            raise RuntimeError("of the part")

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="of the part"):
        _seal(tmp_path / "s", Broken())
    assert _names(tmp_path) == []
    assert threading.active_count() == threads


def test_a_sealed_model_that_is_not_there_or_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(ManifestError) as caught:
        inspect_sealed(path)
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    path.write_bytes(small().data)
    with FileSource(path) as source:
        os.truncate(path, 100)
        for offset in (50, len(small().data) - 50):
            with pytest.raises(ManifestError) as caught:
                source.read_at(offset, 100)
            assert caught.value.code is ManifestCode.SEALED_TRUNCATED
    with pytest.raises(ManifestError) as caught:
        BytesSource(b"abc").read_at(2, 2)
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED


SEALING_WITHOUT_END = """
import sys
from pathlib import Path
from manifests.sealed.writer import MemoryPart, write_sealed
from tests.manifests.small import OWNER, RECIPIENT, manifest

class Endless:
    name, size = "model.onnx", 1 << 36
    def pieces(self, size):
        for count in range(1 << 30):
            if count == 20:
                print("half way", flush=True)
                sys.stdin.readline()
            yield memoryview(bytes(size))

parts = [MemoryPart("manifest", manifest().encode()), Endless()]
write_sealed(Path(sys.argv[1]), parts, name="small", epoch=3, owner_key=OWNER, recipients=[RECIPIENT.public])
"""


@pytest.mark.parametrize("older", [None, b"the older file"])
def test_a_killed_sealing_leaves_no_half_file_under_the_final_name(tmp_path: Path, older: bytes | None) -> None:
    path = tmp_path / "s"
    if older is not None:
        path.write_bytes(older)
    command = [sys.executable, "-c", SEALING_WITHOUT_END, str(path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half way\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert path.exists() == (older is not None)
    assert older is None or path.read_bytes() == older
    partial = [name for name in _names(tmp_path) if name != "s"]
    assert len(partial) == 1
    assert partial[0].startswith(".s.")
    assert partial[0].endswith(".partial")
    with pytest.raises(ManifestError) as caught:
        inspect_sealed(tmp_path / partial[0])
    assert caught.value.code is ManifestCode.SEALED_TRUNCATED
