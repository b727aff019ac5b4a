r"""The anchor: the newest audit head that the broker remembers outside its database.

A file in the home with two slots of 4,096 bytes, written in turn; the higher count that verifies is in force:

    slot = length (2 bytes, big-endian) || document signed by the broker {version, count, head} || zeros

A database that lacks this head was rolled back or exchanged, and is refused.  The anchor is written after each commit
and before anything leaves the broker, so that a crash leaves it behind and never ahead; the rows between it and the
log's end are verified whenever the database is opened.  A write replaces the older slot in place: it needs no space on
the disk, and one that is cut short leaves the other slot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from attestation.binding import HASH_SIZE
from attestation.broker.audit import Head
from attestation.broker.errors import BrokerCode, BrokerError
from manifests import fields, signing
from manifests.errors import ManifestCode, ManifestError
from manifests.files import naming, read_bounded, write_atomically

ANCHOR = signing.label("audit anchor")
SLOT_SIZE = 4096
"""A block of the file system, so that a write which is cut short cannot reach the other slot."""
FILE_SIZE = 2 * SLOT_SIZE
_LENGTH = struct.Struct(">H")


class Anchor:
    """Reads and writes one anchor file."""

    def __init__(self, path: Path, signer: signing.Signer) -> None:
        """Name the file and the key that signs it; nothing is read yet."""
        self._path = path
        self._signer = signer
        self._known: dict[bytes, Head | None] = {}
        """Slots as this process last saw or wrote them: verifying costs more than writing."""

    def read(self) -> Head:
        """Return the remembered head; raises as `read_anchor`."""
        return read_anchor(self._path, self._signer.public)

    def write(self, head: Head, *, dangerously_lower: bool = False) -> None:
        """Remember a head durably, unless that one or a higher one is remembered already.

        Safe beside other processes, which take turns.  Raises ManifestError `disk-full` or `file-unavailable`, and
        BrokerError `broker-home-version` where a newer program has written: what it remembers is never overwritten.
        """
        document = self._signer.sign_document(ANCHOR, {"version": 1, "count": head.count, "head": head.digest})
        slot = (_LENGTH.pack(len(document)) + document).ljust(SLOT_SIZE, b"\0")
        if not self._is_whole():  # the first anchor, or one that was lost under a running broker
            write_atomically(self._path, slot * 2, mode=0o600)
            return
        with naming(self._path), _locked(self._path) as descriptor:
            counts = [0 if known is None else known.count for known in self._slots(os.pread(descriptor, FILE_SIZE, 0))]
            if dangerously_lower:
                _overwrite(descriptor, slot * 2, 0)
            elif max(counts) < head.count:
                _overwrite(descriptor, slot, SLOT_SIZE * counts.index(min(counts)))
                self._known[slot] = head

    def _is_whole(self) -> bool:
        try:
            return self._path.stat().st_size == FILE_SIZE
        except OSError:
            return False

    def _slots(self, data: bytes) -> list[Head | None]:
        parts = [data[start : start + SLOT_SIZE] for start in (0, SLOT_SIZE)]
        self._known = {part: self._known.get(part) or _head(part, self._signer.public) for part in parts}
        return [self._known[part] for part in parts]


def read_anchor(path: Path, broker: bytes) -> Head:
    """Return the head that an anchor remembers.

    Raises BrokerError `store-rolled-back` if it is lost or altered, `broker-home-version` if a newer program wrote it.
    """
    found = "no slot that the broker signed"
    try:
        data = read_bounded(path, FILE_SIZE)
        heads = [_head(data[start : start + SLOT_SIZE], broker) for start in (0, SLOT_SIZE)]
        known = [head for head in heads if head is not None]
        if known:
            return max(known, key=lambda head: head.count)
    except ManifestError as error:
        found = error.message
    raise BrokerError(
        BrokerCode.STORE_ROLLED_BACK,
        f"the anchor {path} is lost or altered, so nothing shows that the database is the newest",
        found=found,
        remedy="verify the log against a head from elsewhere, then `strongroom broker audit accept`",
    )


def _head(slot: bytes, broker: bytes) -> Head | None:
    """Return what a slot remembers; None for one that does not verify.

    Raises BrokerError `broker-home-version` for one of a later version: it may remember a higher head than any other.
    """
    if len(slot) != SLOT_SIZE:
        return None
    (length,) = _LENGTH.unpack_from(slot)
    try:
        document = slot[_LENGTH.size : _LENGTH.size + length]
        value = signing.open_versioned(broker, ANCHOR, document, ("count", "head"))
        return Head(fields.number(value["count"], "count", 1), fields.fixed_bytes(value["head"], "head", HASH_SIZE))
    except ManifestError as error:
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            raise BrokerError(
                BrokerCode.HOME_VERSION,
                "a newer version of the program wrote the anchor, so this one cannot tell what it remembers",
                expected=error.expected,
                found=error.found,
                remedy="use that release, or a newer one",
            ) from None
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file for the body, alone among all processes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _overwrite(descriptor: int, data: bytes, offset: int) -> None:
    """Write over a part of a file, durably."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    os.fdatasync(descriptor)
