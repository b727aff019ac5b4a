r"""The core: the immutable first part of a sealed model, readable by anybody.

    prefix = "STRGROOM" || u32 format version || u32 core length                  (16 bytes, big-endian)
    core   = canonical msgpack map {chunk_size, commitment, epoch, format, name, owner, parts, salt, suite}

Everything after it has lengths that follow from the core; docs/sealed-model.md gives them byte by byte.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError
from manifests.model import check_name

MAGIC = b"STRGROOM"
FORMAT = 1
SUITE = "AES256GCM-STREAM-HKDFSHA512-BLAKE3"
PREFIX = struct.Struct(">8sII")

TAG_SIZE = 16
HASH_SIZE = 32
"""Bytes of a chunk's BLAKE3 hash, and of salt, commitment and keys."""

DEFAULT_CHUNK = 1 << 20
MIN_CHUNK = 1 << 8
MAX_CHUNK = 1 << 24
"""A reader holds one chunk besides its target; 16 MiB is the most it has to."""
MAX_CORE = 1 << 20
MAX_PARTS = 4096
"""External data of the largest public models lies in some hundreds of files; 4,096 names of 200 bytes fit the core."""
MAX_CHUNKS = 1 << 20
"""A tail of 32 MiB at most; a TiB of content at the default chunk size."""
MAX_PART_NAME = 255

MANIFEST_PART = "manifest"
GRAPH_PART = "model.onnx"

_FIELDS = ("chunk_size", "commitment", "epoch", "format", "name", "owner", "parts", "salt", "suite")


@dataclass(frozen=True)
class PartInfo:
    """A part as the core announces it: `size` is its plaintext's length in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Chunk:
    """Where one chunk lies: `offset` counts from the first content byte of the file, `size` is the plaintext's."""

    part: int
    index: int
    last: bool
    start: int
    """Offset of the plaintext within its part."""
    size: int
    offset: int


@dataclass(frozen=True)
class Core:
    """What the host may know.  Part 0 is the model manifest and part 1 the ONNX graph."""

    name: str
    owner: bytes
    """The owner's Ed25519 public key, 32 bytes."""
    epoch: int
    parts: tuple[PartInfo, ...]
    chunk_size: int
    """Plaintext bytes of every chunk but a part's last; a power of two."""
    salt: bytes
    commitment: bytes

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        parts = [[part.name, part.size] for part in self.parts]
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return canonical.encode({**values, "parts": parts, "format": FORMAT, "suite": SUITE})

    @classmethod
    def decode(cls, data: bytes) -> Core:
        """Decode; raises ManifestError `sealed-version` or `sealed-malformed`."""
        try:
            value = fields.of_type(canonical.decode(data, max_size=MAX_CORE, max_depth=4), "core", dict)
            _check_version(value.get("format"), value.get("suite"))
            return cls._from_map(fields.closed_map(value, "core", _FIELDS))
        except ManifestError as error:
            if error.code is ManifestCode.SEALED_VERSION:
                raise
            raise malformed(f"the core is malformed: {error.message}") from None

    @classmethod
    def _from_map(cls, value: dict[str, Any]) -> Core:
        core = cls(
            name=check_name(value["name"]),
            owner=signing.check_public_key(fields.fixed_bytes(value["owner"], "owner", signing.KEY_SIZE)),
            epoch=fields.number(value["epoch"], "epoch", 0),
            parts=tuple(_part(item) for item in fields.list_of(value["parts"], "parts", MAX_PARTS)),
            chunk_size=fields.number(value["chunk_size"], "chunk_size", MIN_CHUNK, MAX_CHUNK),
            salt=fields.fixed_bytes(value["salt"], "salt", HASH_SIZE),
            commitment=fields.fixed_bytes(value["commitment"], "commitment", HASH_SIZE),
        )
        core.check()
        return core

    def check(self) -> None:
        """Check what single fields cannot show; raises ManifestError `sealed-malformed`."""
        names = [part.name for part in self.parts]
        if names[:2] != [MANIFEST_PART, GRAPH_PART] or len(set(names)) != len(names):
            raise malformed(f"the parts must differ and begin with {MANIFEST_PART!r} and {GRAPH_PART!r}")
        if self.chunk_size & (self.chunk_size - 1):
            raise malformed("the chunk size is not a power of two")
        if self.chunk_count > MAX_CHUNKS:
            raise malformed(f"the model has more than {MAX_CHUNKS} chunks")

    def chunks_in(self, part: int) -> int:
        """Return how many chunks a part has; an empty part has one, of no bytes."""
        return max(1, -(-self.parts[part].size // self.chunk_size))

    @property
    def chunk_count(self) -> int:
        """The chunks of all parts."""
        return sum(self.chunks_in(part) for part in range(len(self.parts)))

    @property
    def plaintext_size(self) -> int:
        """Bytes of all parts before encryption."""
        return sum(part.size for part in self.parts)

    @property
    def content_size(self) -> int:
        """Bytes of all chunks as they lie in the file, each with its tag."""
        return self.plaintext_size + TAG_SIZE * self.chunk_count

    def chunks(self, part: int) -> Iterator[Chunk]:
        """Yield where the chunks of one part lie, in order."""
        count, offset = self.chunks_in(part), self._offsets[part]
        for index in range(count):
            start = index * self.chunk_size
            size = min(self.chunk_size, self.parts[part].size - start)
            yield Chunk(part, index, index == count - 1, start, size, offset)
            offset += size + TAG_SIZE

    @functools.cached_property
    def _offsets(self) -> tuple[int, ...]:
        """Where each part's chunks begin, and where the last part's end."""
        sizes = (part.size + TAG_SIZE * self.chunks_in(index) for index, part in enumerate(self.parts))
        return tuple(itertools.accumulate(sizes, initial=0))

    def all_chunks(self) -> Iterator[Chunk]:
        """Yield where every chunk lies, in the file's order."""
        for part in range(len(self.parts)):
            yield from self.chunks(part)


def malformed(message: str) -> ManifestError:
    """Make the error for bytes that are not a sealed model."""
    return ManifestError(ManifestCode.SEALED_MALFORMED, message)


def parse_prefix(prefix: bytes) -> int:
    """Return the core's length from the 16 bytes of the prefix.

    Raises ManifestError `sealed-malformed` or `sealed-version`.
    """
    magic, version, length = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise malformed("the file does not begin as a sealed model does")
    _check_version(version, SUITE)
    if not 0 < length <= MAX_CORE:
        raise malformed(f"the core would be {length} bytes long")
    return int(length)


def check_part_name(name: str) -> str:
    """Return a part's name if it is a plain relative path; raises ManifestError `field-invalid`.

    The names of external data are paths below the model, so a reader may use them as such without a second thought.
    """
    fields.text(name, "part name", MAX_PART_NAME)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name or name == ".":
        raise ManifestError(ManifestCode.FIELD_INVALID, f"part name {name!r} is not a plain relative path")
    return name


def _part(item: object) -> PartInfo:
    pair = fields.list_of(item, "part", 2)
    if len(pair) != 2:
        raise ManifestError(ManifestCode.FIELD_INVALID, "a part is [name, size]")
    return PartInfo(check_part_name(fields.of_type(pair[0], "part name", str)), fields.number(pair[1], "size", 0))


def _check_version(version: object, suite: object) -> None:
    if version != FORMAT or type(version) is not int or suite != SUITE:
        raise ManifestError(
            ManifestCode.SEALED_VERSION,
            "the sealed model has a format or suite that this program does not know",
            expected=f"{FORMAT} {SUITE}",
            found=f"{str(version)[:16]} {str(suite)[:64]}",
            remedy="update strongroom, or have the owner seal the model for this version",
        )
