"""A folder of collateral that is read once, and again when anything in it has changed.

A session that is opened holds evidence against what a folder has now, as `attest verify` does, and does not read
thousands of files for it: what the folder lists (names, sizes, times, inodes) tells whether it has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from attestation.collateral.document import Collateral
from attestation.collateral.key import CollateralKey
from attestation.collateral.kinds import decode
from attestation.collateral.sources import DirectorySource
from attestation.folders import Folder, read_folder
from attestation.intel import pem
from attestation.intel.collateral import IntelCollateral
from attestation.loose import LooseFiles, put_together
from attestation.roots import VENDOR_ROOTS, Roots
from manifests.errors import StrongroomError
from manifests.files import naming

SETTLING: Final = 2_000_000_000
"""Nanoseconds within which two changes may bear one time: the coarsest clock of a file system (FAT) has two seconds."""
_MAX_ROOTS: Final = 8
"""Roots under which one folder is used at once: those of the vendors, and of some simulated platforms."""

_Listing: TypeAlias = tuple[tuple[str, int, int, int, int, int], ...]


class WatchedFolder:
    """What a folder holds, as of its last change."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._listing: _Listing | None = None
        self._made: dict[Roots, LooseFiles] = {}
        self._found = Folder()

    def files(self, roots: Roots) -> LooseFiles:
        """Return the source of all that the folder holds now; raises as `open_collateral` does.

        Of a folder that is not there, nothing.
        """
        with self._lock, naming(self._folder):
            self._refresh()
            if roots not in self._made:
                if len(self._made) >= _MAX_ROOTS:
                    self._made.clear()
                self._made[roots] = put_together((), [DirectorySource(self._folder)], [self._found], roots)
            return self._made[roots]

    def guessed_roots(self, key: CollateralKey) -> Roots:
        """Return the roots to choose under where the caller names none: the vendors', or a simulated platform's own.

        The latter only where nothing that is held ends in a vendor's, so that no simulated file hides a vendor's list.
        Nothing is proved by that: verification holds what is chosen against the caller's roots.
        """
        vendor = self.files(Roots.vendor())
        roots = [_root_of(item) for item in (*self._filed(key), *vendor.unnamed)]
        if any(_is_vendors(root) for root in (*roots, *(each.der for each in vendor.parts.others))):
            return Roots.vendor()
        for root in roots:
            with suppress(StrongroomError):
                return Roots.simulated(root)
        return Roots.vendor()

    def _filed(self, key: CollateralKey) -> list[Collateral]:
        source = DirectorySource(self._folder)
        found = (source._fetch(candidate) for candidate in key.candidates)  # noqa: SLF001 - a source beside this one
        return [decode(data) for data in found if data is not None]

    def _refresh(self) -> None:
        """Read the folder again if it is not as it was; what is changing now is read at the next call, too."""
        now = time.time_ns()
        listing = _listing(self._folder)
        if listing is not None and listing == self._listing:
            return
        self._listing = None
        self._made.clear()
        self._found = Folder() if listing is None else read_folder(self._folder)
        if listing is not None and all(max(entry[3:5]) < now - SETTLING for entry in listing):
            self._listing = listing


def _listing(folder: Path) -> _Listing | None:
    """Return what a folder lists, by name; None where it is not there."""
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        return tuple(sorted(map(_entry, entries)))


def _entry(entry: os.DirEntry[str]) -> tuple[str, int, int, int, int, int]:
    """Return name, size, device, times of content and of inode (ns), and inode, of the file that a name leads to."""
    try:
        found = entry.stat()
    except OSError:  # a link that leads nowhere, or a file that was just removed
        return (entry.name, -1, 0, 0, 0, 0)
    if not stat.S_ISREG(found.st_mode):
        return (entry.name, -1, found.st_dev, 0, 0, found.st_ino)
    return (entry.name, found.st_size, found.st_dev, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _root_of(item: Collateral) -> bytes:
    """Return the DER of the root that collateral says it ends in; empty where it says none."""
    chain = item.pck_crl_issuer_chain if isinstance(item, IntelCollateral) else getattr(item, "chain", b"")
    try:
        return pem.decode_chain(chain, 2)[1]
    except StrongroomError:
        return b""


def _is_vendors(root: bytes) -> bool:
    return hashlib.sha256(root).digest() in VENDOR_ROOTS
