"""Writing a sealed model in one pass: encrypting, hashing and writing overlap, and nothing is written in plain text."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from manifests.errors import ManifestCode, ManifestError
from manifests.files import naming, open_regular, write_atomically
from manifests.sealed import digest as digests
from manifests.sealed import recipients as keys
from manifests.sealed import stream
from manifests.sealed.core import DEFAULT_CHUNK, FORMAT, HASH_SIZE, MAGIC, PREFIX, TAG_SIZE, Core, PartInfo
from manifests.sealed.header import SealedInfo
from manifests.sealed.source import Buffer
from manifests.signing import SIGNATURE_SIZE, Signer

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the content bytes sealed so far and in all."""


class Part(Protocol):
    """A part to seal: its length is known, and its bytes come in pieces."""

    @property
    def name(self) -> str:
        """The part's name in the core."""

    @property
    def size(self) -> int:
        """Plaintext bytes."""

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the bytes in pieces of `size`, the last one shorter, at least one; each is valid until the next."""


@dataclass(frozen=True)
class MemoryPart:
    """A part in memory, encrypted where it lies."""

    name: str
    data: Buffer = field(repr=False)

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return memoryview(self.data).nbytes

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield slices without a copy."""
        view = memoryview(self.data).cast("B")
        for start in range(0, len(view), size) or (0,):
            yield view[start : start + size]


@dataclass(frozen=True)
class FilePart:
    """A part that is read from a file while it is sealed."""

    name: str
    path: Path
    size: int

    @classmethod
    def of(cls, name: str, path: Path) -> FilePart:
        """Take a file as it is now; raises ManifestError `file-unavailable`."""
        with naming(path):
            return cls(name, path, path.stat().st_size)

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Read into one buffer; raises ManifestError `file-unavailable`, or `sealed-part` if the length changed."""
        buffer = memoryview(bytearray(min(size, self.size)))
        with os.fdopen(open_regular(self.path), "rb", buffering=0) as file, naming(self.path):
            for start in range(0, self.size, size) or (0,):
                piece = buffer[: min(size, self.size - start)]
                complete = _fill(file, piece) == len(piece)
                if not complete or (start + len(piece) == self.size and file.read(1)):
                    raise ManifestError(ManifestCode.SEALED_PART, f"{self.path} changed while it was sealed")
                yield piece


def write_sealed(
    destination: Path,
    parts: Sequence[Part],
    *,
    name: str,
    epoch: int,
    owner_key: Signer,
    recipients: Sequence[bytes],
    chunk_size: int = DEFAULT_CHUNK,
    progress: Progress | None = None,
    overwrite: bool = True,
    dangerous_random: Callable[[int], bytes] = os.urandom,
) -> SealedInfo:
    """Seal parts under a fresh data key and salt.

    `parts` begin with the model manifest and the graph; `recipients` are public keys of 1,216 bytes.
    `dangerous_random` exists for test vectors: two sealings that draw the same key and salt share a key stream.
    Raises ManifestError `sealed-recipients`, `key-invalid`, `sealed-malformed`, `disk-full`, `file-exists` without
    `overwrite`, and what the parts raise.  The destination then names what it named before.
    """
    keys.check_count(len({keys.key_id(public) for public in recipients}))
    dek = bytearray(dangerous_random(stream.DEK_SIZE))
    try:
        salt = dangerous_random(HASH_SIZE)
        infos = tuple(PartInfo(part.name, part.size) for part in parts)
        core = Core(name, owner_key.public, epoch, infos, chunk_size, salt, stream.commitment(dek, salt))
        core = Core.decode(core.encode())  # what a reader would refuse is not written
        sealing = _Sealing(core, dek, owner_key, recipients, progress)
        with contextlib.closing(sealing.blocks(parts)) as blocks:
            write_atomically(destination, blocks, replace=overwrite)
        return sealing.info
    finally:
        stream.wipe(dek)


class _Sealing:
    """One pass over the parts; `info` stands when the blocks are through."""

    info: SealedInfo

    def __init__(
        self, core: Core, dek: bytearray, owner_key: Signer, recipients: Sequence[bytes], progress: Progress | None
    ) -> None:
        self._core = core
        self._encoded = core.encode()
        self._dek = dek
        self._owner_key = owner_key
        self._recipients = recipients
        self._progress = progress

    def blocks(self, parts: Sequence[Part]) -> Generator[Buffer, None, None]:
        """Yield the file in blocks; while one is hashed and written, the next is being encrypted."""
        head = PREFIX.pack(MAGIC, FORMAT, len(self._encoded)) + self._encoded
        yield head
        hashes = bytearray()
        done, total = 0, self._core.content_size
        for block in _one_ahead(self._encrypted(parts)):
            hashes += digests.chunk_hash(block)
            yield block
            done += len(block)
            if self._progress:
                self._progress(done, total)
        digest = digests.model_digest(self._core, self._encoded, bytes(hashes))
        yield bytes(hashes) + digests.sign(self._owner_key, digest)
        entries = keys.seal_keys(self._dek, self._recipients, digest)
        section = keys.encode_section(entries, digest)
        yield section
        size = len(head) + total + len(hashes) + SIGNATURE_SIZE + len(section)
        self.info = SealedInfo(self._core, digest, sorted(entries), size)

    def _encrypted(self, parts: Sequence[Part]) -> Iterator[memoryview]:
        """Yield the chunks in the file's order, in two buffers by turns."""
        largest = min(self._core.chunk_size, max(part.size for part in parts)) + TAG_SIZE
        buffers = [memoryview(bytearray(largest)) for _ in range(2)]
        core_digest = digests.core_digest(self._encoded)
        for index, part in enumerate(parts):
            cipher = stream.part_cipher(self._dek, self._core.salt, core_digest, index)
            pieces = part.pieces(self._core.chunk_size)
            for chunk, piece in zip(self._core.chunks(index), pieces, strict=True):
                buffers.reverse()
                block = buffers[0][: chunk.size + TAG_SIZE]
                cipher.encrypt_into(stream.nonce(chunk), piece, None, block)
                yield block


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items while the next one is being made in a thread; an item may be reused two items later."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="seal") as pool:
        upcoming = pool.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, items, end)
            yield item


def _fill(file: Any, view: memoryview) -> int:
    """Read until the view is full or the file ends, and return how many bytes came."""
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            break
        done += count
    return done
