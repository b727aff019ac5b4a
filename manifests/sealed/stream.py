r"""Keys and nonces of a sealed model: one key per part, STREAM within it.

    commitment  = HKDF-SHA512(DEK, salt, "strongroom sealed commitment v1\0", 32 bytes)
    part key    = HKDF-SHA512(DEK, salt, "strongroom sealed part v1\0" || SHA-512(core) || u32 part, 32 bytes)
    nonce       = 11-byte big-endian chunk index || 0x01 for a part's last chunk, else 0x00
    chunk       = AES-256-GCM(part key, nonce, no associated data, plaintext) = ciphertext || 16-byte tag

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar 2015) with a fresh key for every part of every
sealing in place of a random nonce prefix.  AES-GCM commits to no key, hence the commitment.
"""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from manifests.errors import ManifestCode, ManifestError
from manifests.sealed.core import Chunk
from manifests.sealed.source import Buffer
from manifests.signing import label

DEK_SIZE = 32
KEY_SIZE = 32

_COMMITMENT = label("sealed commitment")
_PART = label("sealed part")


def commitment(dek: Buffer, salt: bytes) -> bytes:
    """Return the 32 bytes that tie a core to one data key."""
    return HKDF(SHA512(), KEY_SIZE, salt, _COMMITMENT).derive(dek)


def check_commitment(dek: Buffer, salt: bytes, expected: bytes) -> None:
    """Compare in constant time; raises ManifestError `sealed-commitment`."""
    if len(dek) != DEK_SIZE or not hmac.compare_digest(commitment(dek, salt), expected):
        raise ManifestError(
            ManifestCode.SEALED_COMMITMENT, "the data key is not the one that this model was sealed with"
        )


def part_cipher(dek: Buffer, salt: bytes, core_digest: bytes, part: int) -> AESGCM:
    """Return the cipher of one part; our own copy of its key is wiped."""
    key = bytearray(KEY_SIZE)
    try:
        HKDF(SHA512(), KEY_SIZE, salt, _PART + core_digest + struct.pack(">I", part)).derive_into(dek, key)
        return AESGCM(key)
    finally:
        wipe(key)


def nonce(chunk: Chunk) -> bytes:
    """Return the 12-byte nonce of a chunk under its part's key."""
    return chunk.index.to_bytes(11, "big") + bytes([chunk.last])


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a buffer with zeros, in steps that need no second buffer of its size."""
    view = memoryview(buffer).cast("B")
    zeros = bytes(min(len(view), 1 << 20))
    for start in range(0, len(view), 1 << 20):
        piece = view[start : start + (1 << 20)]
        piece[:] = zeros[: len(piece)]
