"""A small sealed model, made without a framework, and the tools to take it apart and put it together again."""

from __future__ import annotations

import functools
import hashlib
import random
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests import canonical
from manifests.model import Limits, ModelManifest
from manifests.sealed import BytesSource, RecipientKey, SealedReader
from manifests.sealed import digest as digests
from manifests.sealed import recipients as keys
from manifests.sealed.core import PREFIX, Core
from manifests.sealed.header import load_header
from manifests.sealed.writer import MemoryPart, write_sealed
from manifests.signing import Signer
from manifests.tensors import TensorField

OWNER = Signer.from_seed(b"owner".ljust(32, b"-"))
OTHER_OWNER = Signer.from_seed(b"another owner".ljust(32, b"-"))
RECIPIENT = RecipientKey.from_bytes(b"recipient".ljust(32, b"-"))
OTHER_RECIPIENT = RecipientKey.from_bytes(b"another recipient".ljust(32, b"-"))

GRAPH = bytes(range(256)) + b"the rest of a graph, in a second chunk"
TABLE = b"a table" * 40


def randomness(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def manifest(name: str = "small", owner: Signer = OWNER, epoch: int = 3) -> ModelManifest:
    tensor = TensorField("x", "float32", (4,))
    return ModelManifest(name, "1", epoch, owner.public, (tensor,), (tensor,), Limits(1024, 1024, 100))


@dataclass(frozen=True)
class Small:
    """A sealed model in memory with everything that its parties know."""

    data: bytes
    dek: bytes
    digest: bytes
    parts: tuple[bytes, ...]
    owner: Signer = OWNER

    def reader(self, data: bytes | None = None, **changes: Any) -> SealedReader:
        expected = {"owner": self.owner.public, "digest": self.digest} | changes
        return SealedReader(BytesSource(self.data if data is None else data), **expected)

    def open(self, data: bytes) -> list[bytes]:
        """Open a file as the enclave would: all parts, and the manifest decoded."""
        reader = self.reader(data)
        reader.open(self.dek)
        reader.read_manifest()
        return [bytes(reader.read_part(index)) for index in range(len(reader.core.parts))]


@functools.cache
def small(
    seed: int = 1,
    *,
    owner: Signer = OWNER,
    recipients: Sequence[RecipientKey] = (RECIPIENT,),
    parts: tuple[tuple[str, bytes], ...] = (("model.onnx", GRAPH), ("table", TABLE)),
    chunk_size: int = 256,
) -> Small:
    contents = (("manifest", manifest(owner=owner).encode()), *parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.sealed"
        info = write_sealed(
            path,
            [MemoryPart(name, content) for name, content in contents],
            name="small",
            epoch=3,
            owner_key=owner,
            recipients=[recipient.public for recipient in recipients],
            chunk_size=chunk_size,
            dangerous_random=randomness(seed),
        )
        dek = randomness(seed)(32)
        return Small(path.read_bytes(), dek, info.digest, tuple(content for _, content in contents), owner)


@dataclass
class Pieces:
    """A sealed model in pieces that can be changed before `join`; `sign` plays an owner who signs what it is given."""

    core: bytes
    chunks: list[bytes]
    tail: bytes
    recipients: bytes

    @classmethod
    def of(cls, data: bytes) -> Pieces:
        header = load_header(BytesSource(data))
        start, chunks = header.content_offset, []
        for chunk in header.core.all_chunks():
            chunks.append(data[start + chunk.offset : start + chunk.offset + chunk.size + 16])
        tail = start + header.core.content_size
        return cls(data[16:start], chunks, data[tail : header.recipients_offset], data[header.recipients_offset :])

    def join(self) -> bytes:
        head = PREFIX.pack(b"STRGROOM", 1, len(self.core)) + self.core
        return head + b"".join(self.chunks) + self.tail + self.recipients

    def sign(self, owner: Signer = OWNER) -> bytes:
        """Hash and sign the pieces anew, and return the model digest."""
        hashes = b"".join(map(digests.chunk_hash, self.chunks))
        digest = digests.model_digest(Core.decode(self.core), self.core, hashes)
        self.tail = hashes + digests.sign(owner, digest)
        return digest

    def change_core(self, **changes: Any) -> None:
        value = canonical.decode(self.core, max_size=1 << 20)
        self.core = canonical.encode({**value, **changes})

    def entries(self, digest: bytes) -> dict[bytes, bytes]:
        return keys.decode_section(self.recipients[4:], digest)

    def set_entries(self, entries: Sequence[Sequence[object]], digest: bytes) -> None:
        """Write any recipients, with the checksum that a careful attacker would compute."""
        body = canonical.encode([list(entry) for entry in entries])
        self.recipients = struct.pack(">I", len(body)) + body + keys._checksum(body, digest)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def sha512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()
