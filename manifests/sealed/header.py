"""What a sealed model says without its chunks: the core, the tail with the owner's signature, the recipients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import ManifestCode, ManifestError
from manifests.sealed import digest as digests
from manifests.sealed.core import HASH_SIZE, PREFIX, Chunk, Core, malformed, parse_prefix
from manifests.sealed.recipients import Recipients, decode_section, section_size
from manifests.sealed.source import ByteSource, FileSource, truncated
from manifests.signing import SIGNATURE_SIZE


@dataclass(frozen=True)
class Header:
    """Core and tail of a sealed model, with the owner's signature verified."""

    core: Core
    digest: bytes
    """The model digest, 64 bytes."""
    core_digest: bytes
    hashes: bytes
    """The hash of every chunk in the file's order, 32 bytes each."""
    content_offset: int

    @property
    def recipients_offset(self) -> int:
        """Where the recipients begin."""
        return self.content_offset + self.core.content_size + len(self.hashes) + SIGNATURE_SIZE

    def chunks(self, part: int) -> Iterator[tuple[Chunk, bytes]]:
        """Yield the chunks of one part, each with the hash that the owner signed."""
        first = sum(self.core.chunks_in(index) for index in range(part))
        for chunk in self.core.chunks(part):
            start = (first + chunk.index) * HASH_SIZE
            yield chunk, self.hashes[start : start + HASH_SIZE]


@dataclass(frozen=True)
class SealedInfo:
    """What a sealed model shows to anybody."""

    core: Core
    digest: bytes
    recipients: list[bytes]
    """Key ids of 16 bytes, ascending."""
    file_size: int

    def to_dict(self) -> dict[str, Any]:
        """Return the form that `--json` prints."""
        return {
            "name": self.core.name,
            "owner": self.core.owner.hex(),
            "epoch": self.core.epoch,
            "digest": self.digest.hex(),
            "parts": [{"name": part.name, "size": part.size} for part in self.core.parts],
            "chunk_size": self.core.chunk_size,
            "chunks": self.core.chunk_count,
            "recipients": [key_id.hex() for key_id in self.recipients],
            "file_size": self.file_size,
        }


def load_header(source: ByteSource) -> Header:
    """Read core and tail, each byte once, and verify the signature of the owner whom the core names.

    Whether that owner is the right one is the caller's question.  Raises ManifestError `sealed-malformed`,
    `sealed-version`, `sealed-truncated`, `sealed-signature`, and whatever the source raises.
    """
    length = parse_prefix(read_exactly(source, 0, PREFIX.size))
    encoded = read_exactly(source, PREFIX.size, length)
    core = Core.decode(encoded)
    content_offset = PREFIX.size + length
    tail_size = core.chunk_count * HASH_SIZE + SIGNATURE_SIZE
    tail = read_exactly(source, content_offset + core.content_size, tail_size)
    hashes, signature = tail[:-SIGNATURE_SIZE], tail[-SIGNATURE_SIZE:]
    digest = digests.model_digest(core, encoded, hashes)
    digests.verify(core.owner, digest, signature)
    return Header(core, digest, digests.core_digest(encoded), hashes, content_offset)


def load_recipients(source: ByteSource, header: Header) -> Recipients:
    """Read the recipients and check that the file ends with them.

    Raises ManifestError `sealed-malformed` or `sealed-truncated`.
    """
    offset = header.recipients_offset
    size = section_size(read_exactly(source, offset, 4))
    if source.size > offset + 4 + size:
        raise malformed("bytes follow the recipients")
    return decode_section(read_exactly(source, offset + 4, size), header.digest)


def read_header(source: ByteSource | Path) -> tuple[Core, bytes]:
    """Return core and model digest of a sealed model without reading its chunks; raises as `load_header`."""
    with open_source(source) as opened:
        header = load_header(opened)
    return header.core, header.digest


@contextlib.contextmanager
def open_source(source: ByteSource | Path) -> Iterator[ByteSource]:
    """Give a source for a path; other sources pass through."""
    if isinstance(source, str | Path):
        with FileSource(Path(source)) as opened:
            yield opened
    else:
        yield source


def read_exactly(source: ByteSource, offset: int, length: int) -> bytes:
    """Return a private copy of exactly `length` bytes; nothing is allocated for bytes that the source lacks."""
    if offset + length > source.size:
        raise truncated()
    data = bytes(source.read_at(offset, length))
    if len(data) != length:
        raise ManifestError(ManifestCode.SEALED_TRUNCATED, "the source returned another number of bytes")
    return data
