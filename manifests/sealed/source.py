"""Where a sealed model's bytes come from: one method does the reading."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from manifests.errors import ManifestCode, ManifestError
from manifests.files import naming, open_regular

Buffer: TypeAlias = bytes | bytearray | memoryview


class ByteSource(Protocol):
    """Bytes at offsets.  What it returns must be private: a host that could still change it would undo every check."""

    @property
    def size(self) -> int:
        """All bytes there are."""

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Return exactly `length` bytes or raise; a memoryview is valid until the next call."""


class BytesSource:
    """A sealed model in memory."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).cast("B").toreadonly()

    @property
    def size(self) -> int:
        """All bytes there are."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> memoryview:
        """Return the bytes; raises ManifestError `sealed-truncated`."""
        piece = self._data[offset : offset + length]
        if len(piece) != length:
            raise truncated()
        return piece


class FileSource:
    """A sealed model in a file.  One buffer is used for all reads."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises ManifestError `file-unavailable`."""
        self._path = Path(path)
        self._buffer = bytearray()
        self._descriptor = open_regular(self._path)
        with naming(self._path):
            self._size = os.fstat(self._descriptor).st_size

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._size

    def read_at(self, offset: int, length: int) -> memoryview:
        """Return the bytes; raises ManifestError `sealed-truncated` or `file-unavailable`."""
        if offset + length > self._size:
            raise truncated()
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        done = 0
        while done < length:
            with naming(self._path):
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
            if count == 0:
                raise truncated()
            done += count
        return view

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def truncated() -> ManifestError:
    """Make the error for bytes that are not there."""
    return ManifestError(
        ManifestCode.SEALED_TRUNCATED,
        "the sealed model ends before its announced length",
        remedy="fetch the file again",
    )
