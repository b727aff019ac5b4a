r"""Recipients: the data key, encrypted to any number of public keys, at the end of the file.

    section = u32 length || canonical msgpack [[key id, sealed key], ...] || checksum
    key id     = SHA-512("strongroom recipient key v1\0" || public key)[:16]
    sealed key = HPKE(MLKEM768-X25519, HKDF-SHA512, AES-256-GCM), base mode, one message without associated data:
                 enc || ciphertext of the 32-byte DEK, info = "strongroom sealed recipient v1\0" || model digest
    checksum   = BLAKE3("strongroom sealed recipients v1\0" || model digest || msgpack)        (32 bytes)

Entries stand in ascending order of their key ids.  The section lies outside digest and signature, so that it can be
rewritten without the owner.  The checksum finds accidents; only a recipient can tell that its entry is genuine.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from blake3 import blake3
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError
from manifests.sealed.core import HASH_SIZE, malformed
from manifests.sealed.source import Buffer
from manifests.sealed.stream import DEK_SIZE

PUBLIC_SIZE = 1216
"""ML-KEM-768 encapsulation key (1,184 bytes), then X25519 public key (32 bytes)."""
SEED_SIZE = 32
KEY_ID_SIZE = 16
SEALED_KEY_SIZE = 1120 + DEK_SIZE + 16
MAX_RECIPIENTS = 64
MAX_SECTION = MAX_RECIPIENTS * (SEALED_KEY_SIZE + 64)
CARD_ENTRY = "strongroom-recipient"

_ML_KEM_PUBLIC = 1184
_KEY_ID = signing.label("recipient key")
_INFO = signing.label("sealed recipient")
_CHECKSUM = signing.label("sealed recipients")

Recipients: TypeAlias = dict[bytes, bytes]
"""Sealed keys by key id."""


def _suite() -> hpke.Suite:
    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA512, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True)
class RecipientKey:
    """A private key for MLKEM768-X25519 (X-Wing, draft-connolly-cfrg-xwing-kem), kept as its 32-byte seed."""

    _seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> RecipientKey:
        """Make a fresh key from the system's random numbers."""
        return cls(os.urandom(SEED_SIZE))

    @classmethod
    def from_bytes(cls, seed: bytes) -> RecipientKey:
        """Restore a key from its 32-byte seed; raises ManifestError `key-invalid`."""
        if len(seed) != SEED_SIZE:
            raise ManifestError(ManifestCode.KEY_INVALID, "a recipient's private key has 32 bytes", found=len(seed))
        return cls(bytes(seed))

    def to_bytes(self) -> bytes:
        """Return the seed: a secret, for key files alone."""
        return self._seed

    @property
    def public(self) -> bytes:
        """The public key, 1,216 bytes."""
        post_quantum, classical = self._expand()
        return post_quantum.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """What names this key in a sealed model, 16 bytes."""
        return key_id(self.public)

    def _expand(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self._seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])

    def unseal(self, sealed_key: bytes, digest: bytes) -> bytearray:
        """Return the data key of the model with this digest; raises ManifestError `sealed-recipient`."""
        private = hpke.MLKEM768X25519PrivateKey(*self._expand())
        try:
            return bytearray(_suite().decrypt(sealed_key, private, info=_INFO + digest))
        except InvalidTag:
            raise ManifestError(
                ManifestCode.SEALED_RECIPIENT,
                "the entry for this key does not open: it was changed, or belongs to another model",
                remedy="fetch the file again, or ask for the model to be rewrapped",
            ) from None


def key_id(public: bytes) -> bytes:
    """Return the 16-byte name of a public key."""
    return signing.digest(_KEY_ID, public)[:KEY_ID_SIZE]


def seal_key(dek: Buffer, public: bytes, digest: bytes) -> bytes:
    """Encrypt the data key of one model to one recipient; raises ManifestError `key-invalid`."""
    if len(public) != PUBLIC_SIZE:
        raise ManifestError(
            ManifestCode.KEY_INVALID, "a recipient's public key has 1216 bytes", expected=PUBLIC_SIZE, found=len(public)
        )
    try:
        key = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:_ML_KEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(public[_ML_KEM_PUBLIC:]),
        )
        return _suite().encrypt(dek, key, info=_INFO + digest)
    except (ValueError, UnsupportedAlgorithm):
        raise ManifestError(ManifestCode.KEY_INVALID, "the bytes are not a recipient's public key") from None


def seal_keys(dek: Buffer, publics: Iterable[bytes], digest: bytes) -> Recipients:
    """Encrypt the data key to each public key; raises ManifestError `key-invalid`."""
    return {key_id(public): seal_key(dek, public, digest) for public in publics}


def check_count(count: int) -> None:
    """Refuse a model that nobody could open, or more recipients than a reader admits."""
    if not 0 < count <= MAX_RECIPIENTS:
        raise ManifestError(
            ManifestCode.SEALED_RECIPIENTS,
            f"a sealed model has between 1 and {MAX_RECIPIENTS} recipients",
            found=count,
        )


def encode_section(recipients: Mapping[bytes, bytes], digest: bytes) -> bytes:
    """Return the section; raises ManifestError `sealed-recipients`."""
    check_count(len(recipients))
    body = canonical.encode([list(entry) for entry in sorted(recipients.items())])
    return struct.pack(">I", len(body)) + body + _checksum(body, digest)


def section_size(length_field: bytes) -> int:
    """Return the bytes that follow the section's length field; raises ManifestError `sealed-malformed`."""
    (length,) = struct.unpack(">I", length_field)
    if not 0 < length <= MAX_SECTION:
        raise malformed(f"the recipients would be {length} bytes long")
    return int(length) + HASH_SIZE


def decode_section(data: bytes, digest: bytes) -> Recipients:
    """Decode what follows the length field; raises ManifestError `sealed-malformed`."""
    body, checksum = data[:-HASH_SIZE], data[-HASH_SIZE:]
    if checksum != _checksum(body, digest):
        raise malformed("the recipients were damaged, or belong to another model")
    try:
        entries = fields.list_of(
            canonical.decode(body, max_size=MAX_SECTION, max_depth=2), "recipients", MAX_RECIPIENTS
        )
        recipients = dict(_entry(entry) for entry in entries)
    except ManifestError as error:
        raise malformed(f"the recipients are malformed: {error.message}") from None
    if not recipients or len(recipients) != len(entries) or list(recipients) != sorted(recipients):
        raise malformed("the recipients are missing, repeated or out of order")
    return recipients


def _entry(entry: object) -> tuple[bytes, bytes]:
    pair = fields.list_of(entry, "recipient", 2)
    if len(pair) != 2:
        raise ManifestError(ManifestCode.FIELD_INVALID, "a recipient is [key id, sealed key]")
    return (
        fields.fixed_bytes(pair[0], "key id", KEY_ID_SIZE),
        fields.fixed_bytes(pair[1], "sealed key", SEALED_KEY_SIZE),
    )


def _checksum(body: bytes, digest: bytes) -> bytes:
    return blake3(_CHECKSUM + digest + body).digest()
