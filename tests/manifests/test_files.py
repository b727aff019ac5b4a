"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.files import exists, make_folder, open_regular, read_bounded, write_atomically
from manifests.sealed.source import FileSource
from manifests.sealed.writer import FilePart


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_was_written_is_read_back_with_its_mode(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"content", mode=0o600)
    assert read_bounded(tmp_path / "a", 7) == b"content"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_blocks_that_reuse_one_buffer_are_written_in_order(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytearray]:
        buffer = bytearray(3)
        for character in b"xyz":
            buffer[:] = bytes([character]) * 3
            yield buffer

    write_atomically(tmp_path / "a", blocks())
    assert (tmp_path / "a").read_bytes() == b"xxxyyyzzz"


def test_an_existing_file_is_replaced_unless_it_must_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(ManifestError) as caught:
        write_atomically(path, b"new", replace=False)
    assert caught.value.code is ManifestCode.FILE_EXISTS
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["a"]


def test_an_error_of_the_blocks_maker_passes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"some"
        raise FileNotFoundError("of the maker")

    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "a", blocks())
    assert _names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ManifestError) as caught:
        write_atomically(path, b"new")
    assert caught.value.code is ManifestCode.DISK_FULL
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    write_atomically(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_a_missing_folder_a_missing_file_and_a_long_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        write_atomically(tmp_path / "none" / "a", b"")
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    with pytest.raises(ManifestError) as caught:
        read_bounded(tmp_path / "a", 10)
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
    (tmp_path / "a").write_bytes(bytes(11))
    with pytest.raises(ManifestError) as caught:
        read_bounded(tmp_path / "a", 10)
    assert caught.value.code is ManifestCode.FILE_TOO_LARGE


def test_a_folder_is_made_with_those_above_it_or_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(ManifestError) as caught:
            make_folder(path)
        assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
        assert str(path) in caught.value.message


def test_whether_a_name_is_taken_can_be_asked_of_any_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert exists(tmp_path / "link")
    assert not exists(tmp_path / "none")
    with pytest.raises(ManifestError) as caught:
        exists(tmp_path / ("x" * 300))
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe that nobody writes to: whoever opens it as a file waits for good."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("name", ["pipe", "link to a pipe", "link to a device", "device", "link to a descriptor"])
def test_what_is_no_file_is_refused_at_once(pipe: Path, name: str) -> None:
    places = {"pipe": pipe, "device": Path("/dev/zero")}
    targets = {"link to a pipe": "pipe", "link to a device": "/dev/zero", "link to a descriptor": "/dev/fd/0"}
    path = places.get(name, pipe.with_name("link"))
    if name in targets:
        path.symlink_to(targets[name])
        descriptor, other = os.pipe()
        if name == "link to a descriptor":
            path.unlink()
            path.symlink_to(f"/dev/fd/{descriptor}")
    for read in (lambda: read_bounded(path, 10), lambda: open_regular(path), lambda: FileSource(path)):
        with pytest.raises(ManifestError) as caught:
            read()
        assert caught.value.code is ManifestCode.FILE_UNAVAILABLE
        assert caught.value.message == f"{path} is no regular file"
    if name in targets:
        os.close(descriptor)
        os.close(other)


def test_what_a_process_was_started_with_is_read_to_its_end() -> None:
    """A shell gives <(...) as /dev/fd/63; whoever writes may take a while."""
    descriptor, other = os.pipe()
    writer = threading.Timer(0.2, lambda: (os.write(other, b"later"), os.close(other)))
    writer.start()
    try:
        assert read_bounded(Path(f"/dev/fd/{descriptor}"), 10) == b"later"
    finally:
        writer.join()
        os.close(descriptor)


def test_a_part_that_became_a_pipe_is_not_waited_for(pipe: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        next(FilePart.of("part", pipe).pieces(10))
    assert caught.value.code is ManifestCode.FILE_UNAVAILABLE


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="only root reads the kernel's messages")
def test_what_says_that_it_is_regular_and_has_nothing_to_read_keeps_nobody_waiting(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc/kmsg")
    try:
        while read_bounded(link, 1 << 24):  # what the kernel said until now
            pass
    except ManifestError as caught:
        assert caught.code is ManifestCode.FILE_UNAVAILABLE  # noqa: PT017 - either is an answer
