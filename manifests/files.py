"""Files that are written whole or not at all, and read within a bound."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, TypeAlias

from manifests.errors import ManifestCode, ManifestError, StrongroomError

Block: TypeAlias = bytes | bytearray | memoryview

PARTIAL_SUFFIX = ".partial"
"""Files that are being written are called `.<name>.<random>.partial`; a killed process may leave one behind."""

_REMEDIES = {
    errno.ENOENT: "check the path: there is no such file or folder",
    errno.EISDIR: "name a file: this is a folder",
    errno.ENOTDIR: "check the path: a part of it is a file and no folder",
    errno.ENAMETOOLONG: "take a shorter path",
}

_GIVEN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Where a process finds what it was started with."""

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_atomically(path: Path, data: Block | Iterable[Block], *, mode: int = 0o644, replace: bool = True) -> None:
    """Write a file so that `path` names either what was there before or the whole of `data`, also after a crash.

    The bytes go to a temporary file beside `path`, which is flushed to the disk and then takes the name.  Blocks of
    an iterable are written as they come, and may reuse one buffer.  With `replace=False` an existing file is kept.
    Raises ManifestError `disk-full`, `file-exists` or `file-unavailable`; whatever else the iterable raises passes
    through.  After an exception no temporary file is left.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
    blocks = [data] if isinstance(data, bytes | bytearray | memoryview) else data
    try:
        with naming(path):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_blocks(descriptor, path, blocks)
        finally:
            os.close(descriptor)
        with naming(path):
            _take_name(temporary, path, replace=replace)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def open_regular(path: Path) -> int:
    """Return a descriptor that reads a file; raises ManifestError `file-unavailable`, also for what is no file.

    A named pipe or a device in a file's place would keep whoever reads it waiting, for good or for as long as somebody
    likes.  What this process was started with is no such place: /dev/stdin, or /dev/fd/63 as a shell writes <(...).
    """
    path = Path(path)
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(descriptor).st_mode
        _check_kind(path, mode)
        os.set_blocking(descriptor, not stat.S_ISREG(mode))  # /proc/kmsg and its like say that they are regular
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a file's content of at most `limit` bytes.

    Raises ManifestError `file-unavailable`, also for what is no regular file, or `file-too-large`.
    """
    path = Path(path)
    with os.fdopen(open_regular(path), "rb") as file, naming(path):
        data = _read(file, limit + 1)
    if len(data) > limit:
        raise ManifestError(ManifestCode.FILE_TOO_LARGE, f"{path} is too large", expected=f"at most {limit} bytes")
    return data


def read_beginning(path: Path, limit: int) -> bytes:
    """Return the first bytes of a file, at most `limit`; raises ManifestError `file-unavailable`."""
    path = Path(path)
    with os.fdopen(open_regular(path), "rb") as file, naming(path):
        return _read(file, limit)


def _read(file: IO[bytes], limit: int) -> bytes:
    data: bytes | None = file.read(limit)
    if data is None:  # nothing is there now: it would have kept the reader waiting
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return data


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it, unless it is there; raises ManifestError `disk-full` or `file-unavailable`."""
    with naming(path):
        try:
            path.mkdir(mode=mode, parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def exists(path: Path) -> bool:
    """Tell whether a name is taken, also by a link that leads nowhere; raises ManifestError `file-unavailable`."""
    with naming(path):
        return path.is_symlink() or path.exists()


_REPLACE: Final = "choose another name, or say that it may be replaced: --force, in Python overwrite=True"


def require_free(path: Path, *, overwrite: bool, forcible: bool = True) -> None:
    """Refuse at once what `write_atomically(replace=overwrite)` would refuse after the work is done.

    forcible: whether the caller offers to overwrite at all, as the remedy then says.  Raises ManifestError
    `file-exists` or `file-unavailable`.
    """
    if not overwrite and exists(path):
        raise ManifestError(
            ManifestCode.FILE_EXISTS,
            f"{path} already exists",
            remedy=_REPLACE if forcible else None,
        )


def require_writable(path: Path) -> None:
    """Refuse at once a file that could not be written later; raises ManifestError `disk-full` or `file-unavailable`."""
    probe = path.parent / f".{path.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
    with naming(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()


@contextlib.contextmanager
def concerning(path: Path, remedy: str | None = None) -> Iterator[None]:
    """Have every error of the body name the file that it is about, and `remedy` where it says nothing of its own.

    A file of a later version is no fault of the file's: nothing that is done with it helps.
    """
    try:
        yield
    except StrongroomError as error:
        if str(path) not in error.message:
            error.message = f"{path}: {error.message}"
        is_later = error.code is ManifestCode.VERSION_UNSUPPORTED
        if remedy is not None and error.remedy == error.code.remedy and not is_later:
            error.remedy = remedy
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into the ManifestError that names the file."""
    try:
        yield
    except FileExistsError:
        raise ManifestError(
            ManifestCode.FILE_EXISTS, f"{path} already exists", remedy="choose another name, or move the file away"
        ) from None
    except OSError as error:
        raise _file_error(path, error) from None


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        with naming(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode) and not str(path).startswith(_GIVEN):
        raise ManifestError(
            ManifestCode.FILE_UNAVAILABLE,
            f"{path} is no regular file",
            remedy="name a file; what another program prints is read from /dev/stdin, or as the shell's <(...)",
        )


def _file_error(path: Path, error: OSError) -> ManifestError:
    if error.errno in _NO_SPACE:
        return ManifestError(
            ManifestCode.DISK_FULL, f"no space is left to write {path}", remedy="free some space and try again"
        )
    return ManifestError(
        ManifestCode.FILE_UNAVAILABLE,
        f"{path}: {error.strerror or 'cannot be used'}",
        remedy=_REMEDIES.get(error.errno or 0, "check the path, and who may read and write there"),
    )


def _write_blocks(descriptor: int, path: Path, blocks: Iterable[Block]) -> None:
    """Write every block whole; only the file's own errors are translated, not those of the blocks' maker."""
    for block in blocks:
        with naming(path):
            view = memoryview(block).cast("B")
            while view:
                view = view[os.write(descriptor, view) :]
    with naming(path):
        os.fsync(descriptor)


def _take_name(temporary: Path, path: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(path)
    else:
        os.link(temporary, path)  # unlike a rename, this fails where the name is taken
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
