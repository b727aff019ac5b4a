"""The file operations that attesters need, each one system call, so that a test can stand in for the kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class KernelFiles:
    """Pseudo files, whose every read and write means something: nothing is buffered, and nothing is tried twice."""

    def read(self, path: Path, limit: int) -> bytes:
        """Return a file's content; raises OSError, EFBIG where it has more than `limit` bytes."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while piece := os.read(descriptor, limit + 1 - len(data)):
                data += piece
                if len(data) > limit:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            return data
        finally:
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Write to an existing file at once; raises OSError, EIO where the kernel took a part of it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.EIO, "a part of the data was written", str(path))
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """Make a folder; raises OSError."""
        path.mkdir(mode=0o700)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder; in configfs that takes its attributes along.  Raises OSError."""
        path.rmdir()
