"""The folder of sealed models: which digests it holds, and byte ranges of them for the enclave.

The host reads a model's header, which is public, and passes ciphertext on.  It vouches for nothing: the enclave
verifies every byte it is given.  Where several files carry one digest, a damaged one must not stand in the way of a
good one: their chunks are verified, once, and the first good one is served.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from host.control import FetchRequest
from host.errors import HostCode, HostError
from manifests.errors import StrongroomError
from manifests.sealed.header import read_header

_log = logging.getLogger(__name__)

SUFFIX = ".sealed"
MAX_MODELS = 1024
"""Files of the folder that are looked at; the rest is reported and ignored."""
MAX_OPEN = 64
"""Files kept open at once."""


@dataclass(frozen=True)
class Stamp:
    """What tells a changed file from the one that was indexed."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Take the stamp of a file."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class ModelEntry:
    """A sealed model as its public header describes it."""

    path: Path
    stamp: Stamp
    digest: bytes
    name: str
    owner: bytes
    epoch: int
    content_size: int
    """Bytes of all parts together, as plain text."""
    verified: bool = False
    """Whether every chunk was found to be the one that the owner sealed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the row that `host models` shows."""
        return {
            "name": self.name,
            "epoch": self.epoch,
            "owner": self.owner.hex(),
            "digest": self.digest.hex(),
            "file": self.path.name,
            "file_size": self.stamp.size,
            "content_size": self.content_size,
            "verified": self.verified,
        }


@dataclass(frozen=True)
class Duplicate:
    """A good file that is not served, because another one has the same digest."""

    path: Path
    served: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the row that `host models` shows."""
        return {"file": self.path.name, "served": self.served.name}


@dataclass(frozen=True)
class Rejected:
    """A file of the folder that is no usable sealed model, and why."""

    path: Path
    stamp: Stamp | None
    code: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the row that `host models` shows."""
        return {"file": self.path.name, "code": self.code, "message": self.message}


class ModelFolder:
    """The sealed models of one folder by digest.

    `scan` may run in a thread of its own while `read` runs in the loop's: it builds a new index and puts it in
    place with one assignment.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; raises HostError `models-missing` if it is none."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise HostError(
                HostCode.MODELS_MISSING,
                f"there is no folder of sealed models at {self.folder}",
                remedy="make it, and put the owner's .sealed files into it",
            )
        self._index: dict[Path, ModelEntry | Rejected] = {}
        self._by_digest: dict[bytes, ModelEntry] = {}
        self._open: OrderedDict[bytes, tuple[Stamp, int]] = OrderedDict()

    @property
    def models(self) -> list[ModelEntry]:
        """The models that are served, in order of file name."""
        return sorted(self._by_digest.values(), key=lambda entry: entry.path)

    @property
    def duplicates(self) -> list[Duplicate]:
        """The good files of which another copy is served, in order of file name."""
        served = {entry.path for entry in self._by_digest.values()}
        return [
            Duplicate(path, self._by_digest[entry.digest].path)
            for path, entry in sorted(self._index.items())
            if isinstance(entry, ModelEntry) and path not in served
        ]

    @property
    def rejected(self) -> list[Rejected]:
        """The files that are no usable models, in order of name."""
        return [entry for _, entry in sorted(self._index.items()) if isinstance(entry, Rejected)]

    def to_dict(self) -> dict[str, Any]:
        """Return what `host models` shows."""
        return {
            "folder": str(self.folder),
            "models": [entry.to_dict() for entry in self.models],
            "duplicates": [entry.to_dict() for entry in self.duplicates],
            "rejected": [entry.to_dict() for entry in self.rejected],
        }

    def scan(self) -> bool:
        """Look at the folder again, reading only what is new or changed; return whether anything changed.

        Of most files that is the header; files with one digest are read whole.  A folder that cannot be read keeps its
        last index: models that are open stay available.
        """
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX)
        except OSError as error:
            _log.warning("the folder of sealed models cannot be read: %s", error.strerror)
            return False
        index = {path: self._examine(path) for path in paths[:MAX_MODELS]}
        index |= {path: _too_many(path) for path in paths[MAX_MODELS : MAX_MODELS + 1]}
        index |= {entry.path: _verified(entry) for entry in _rivals(index.values())}
        return self._take(index)

    def verify(self) -> None:
        """Verify every chunk of every model that was not verified yet; `rejected` then names what is damaged."""
        unverified = [entry for entry in self._index.values() if isinstance(entry, ModelEntry) and not entry.verified]
        self._take(self._index | {entry.path: _verified(entry) for entry in unverified})

    def _take(self, index: dict[Path, ModelEntry | Rejected]) -> bool:
        """Put a new index in place, which serves the first file of each digest; return whether it differs."""
        if index == self._index:
            return False
        models = [entry for _, entry in sorted(index.items(), reverse=True) if isinstance(entry, ModelEntry)]
        self._by_digest = {entry.digest: entry for entry in models}
        self._index = index
        return True

    def _examine(self, path: Path) -> ModelEntry | Rejected:
        known = self._index.get(path)
        try:
            status = path.stat()
            if known is not None and known.stamp == Stamp.of(status):
                return known
            if not stat.S_ISREG(status.st_mode):
                return Rejected(path, Stamp.of(status), HostCode.FETCH_UNREADABLE, "not a regular file")
            return _read_entry(path, Stamp.of(status))
        except OSError as error:
            return Rejected(path, None, HostCode.FETCH_UNREADABLE, error.strerror or "cannot be read")
        except StrongroomError as error:
            return Rejected(path, Stamp.of(status), error.code, error.message)

    def holds(self, digest: bytes) -> bool:
        """Tell whether a model with that digest was there at the last scan."""
        return digest in self._by_digest

    def find(self, digest: bytes) -> ModelEntry:
        """Return the model with that digest; raises HostError `fetch-model-unknown`."""
        entry = self._by_digest.get(digest)
        if entry is None:
            raise HostError(HostCode.FETCH_UNKNOWN, "no sealed model with that digest is in the folder")
        return entry

    def locate(self, request: FetchRequest) -> int:
        """Return an open descriptor for the request's model after checking its range; it stays this object's.

        Raises HostError `fetch-model-unknown`, `fetch-model-unreadable` or `fetch-range`.
        """
        entry = self.find(request.digest)
        if request.offset + request.length > entry.stamp.size:
            raise HostError(HostCode.FETCH_RANGE, "the fetch reaches beyond the end of the file")
        return self._descriptor(entry)

    def _descriptor(self, entry: ModelEntry) -> int:
        stamp, descriptor = self._open.get(entry.digest, (None, -1))
        if stamp == entry.stamp:
            self._open.move_to_end(entry.digest)
            return descriptor
        self._close(entry.digest)
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise HostError(HostCode.FETCH_UNREADABLE, f"the model cannot be opened: {error.strerror}") from None
        self._open[entry.digest] = entry.stamp, descriptor
        if len(self._open) > MAX_OPEN:
            self._close(next(iter(self._open)))
        return descriptor

    def _close(self, digest: bytes) -> None:
        _, descriptor = self._open.pop(digest, (None, -1))
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def close(self) -> None:
        """Close every file."""
        for digest in list(self._open):
            self._close(digest)


def _read_entry(path: Path, stamp: Stamp) -> ModelEntry:
    core, digest = read_header(path)
    size = sum(part.size for part in core.parts)
    return ModelEntry(path, stamp, digest, core.name, core.owner, core.epoch, size)


def _rivals(entries: Iterable[ModelEntry | Rejected]) -> list[ModelEntry]:
    """Return the unverified models of which there is more than one file."""
    models = [entry for entry in entries if isinstance(entry, ModelEntry)]
    files = Counter(entry.digest for entry in models)
    return [entry for entry in models if files[entry.digest] > 1 and not entry.verified]


def _verified(entry: ModelEntry) -> ModelEntry | Rejected:
    """Read a whole file and return its entry, or why it is damaged."""
    from manifests.sealed import inspect_sealed  # what only a few folders need

    try:
        inspect_sealed(entry.path)
    except StrongroomError as error:
        return Rejected(entry.path, entry.stamp, error.code, error.message)
    return replace(entry, verified=True)


def _too_many(path: Path) -> Rejected:
    return Rejected(path, None, HostCode.FETCH_UNREADABLE, f"the folder holds more than {MAX_MODELS} sealed models")
