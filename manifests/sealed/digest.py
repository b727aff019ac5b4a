r"""The model digest, which names every content byte of a sealed model, and the owner's signature over it.

    chunk hash   = BLAKE3(ciphertext || tag)                                                   (32 bytes)
    leaf         = SHA-512(0x00 || "strongroom leaf sealed v1\0" || u32 part || u64 index || u8 last || chunk hash)
    node         = SHA-512(0x01 || left || right)                      (RFC 9162 section 2.1, with SHA-512)
    model digest = SHA-512("strongroom sealed model v1\0" || SHA-512(core) || root)            (64 bytes)
    signature    = Ed25519(owner, "strongroom sealed signature v1\0" || model digest)

The leaves are the chunks in the file's order; the core fixes how many there are.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from blake3 import blake3

from manifests import signing
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed.core import HASH_SIZE, Chunk, Core
from manifests.sealed.source import Buffer

DIGEST_SIZE = 64

_LEAF = b"\x00" + signing.label("leaf sealed")
_MODEL = signing.label("sealed model")
_SIGNATURE = signing.label("sealed signature")
_PLACE = struct.Struct(">IQB")


def core_digest(encoded: bytes) -> bytes:
    """Return SHA-512(core), 64 bytes."""
    return hashlib.sha512(encoded).digest()


def chunk_hash(ciphertext: Buffer) -> bytes:
    """Return the 32-byte BLAKE3 hash of a chunk as it lies in the file."""
    return blake3(ciphertext).digest()


def model_digest(core: Core, encoded: bytes, hashes: bytes) -> bytes:
    """Return the 64-byte model digest; `hashes` are the chunk hashes in the file's order, 32 bytes each."""
    pieces = (hashes[start : start + HASH_SIZE] for start in range(0, len(hashes), HASH_SIZE))
    leaves = (_leaf(chunk, piece) for chunk, piece in zip(core.all_chunks(), pieces, strict=True))
    return signing.digest(_MODEL, core_digest(encoded) + _root(leaves))


def sign(owner: signing.Signer, digest: bytes) -> bytes:
    """Return the owner's 64-byte signature over a model digest."""
    return owner.sign(_SIGNATURE, digest)


def verify(owner: bytes, digest: bytes, signature: bytes) -> None:
    """Verify the owner's signature; raises ManifestError `sealed-signature`."""
    try:
        signing.verify(owner, _SIGNATURE, digest, signature)
    except ManifestError:
        raise ManifestError(
            ManifestCode.SEALED_SIGNATURE,
            "the owner's signature does not cover this sealed model",
            remedy="fetch the file again; if that does not help, ask the owner for it",
        ) from None


def _leaf(chunk: Chunk, hashed: bytes) -> bytes:
    return hashlib.sha512(_LEAF + _PLACE.pack(chunk.part, chunk.index, chunk.last) + hashed).digest()


def _root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over at least one leaf.

    Subtrees of equal size are joined as they complete, then the rest from the right: the same tree as RFC 9162's
    split at the largest power of two, without recursion.
    """
    stack: list[tuple[int, bytes]] = []
    for leaf in leaves:
        size, node = 1, leaf
        while stack and stack[-1][0] == size:
            size, node = 2 * size, _node(stack.pop()[1], node)
        stack.append((size, node))
    _, root = stack.pop()
    while stack:
        root = _node(stack.pop()[1], root)
    return root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha512(b"\x01" + left + right).digest()
