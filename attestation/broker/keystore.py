r"""Where the broker's own keys rest, and the only code that wraps and unwraps a model's data key.

The key-encryption key (KEK) never leaves a key store: callers hand in keys to wrap, and get wrapped keys back.

    wrapped = nonce (12 bytes) || AES-256-GCM(KEK, nonce, data key, AAD)              60 bytes for a 32-byte key
    AAD     = "strongroom wrapped key v1\0" || owner (32) || model digest (64) || policy lineage (64)

Plain AES key wrapping would let whoever writes the database swap two rows; here each key opens only in its place.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from attestation.binding import HASH_SIZE
from attestation.broker.errors import BrokerCode, BrokerError
from manifests import canonical, fields, keyfile, signing
from manifests.errors import ManifestCode, ManifestError
from manifests.keyfile import RECOMMENDED, Cost
from manifests.sealed.recipients import RecipientKey

KEY_FILE_KIND = "broker"
CARD_SIGNING = "strongroom-broker-signing"
CARD_RECIPIENT = "strongroom-recipient"
KEY_SIZE = 32
NONCE_SIZE = 12
WRAPPED_SIZE = NONCE_SIZE + KEY_SIZE + 16

_WRAPPED = signing.label("wrapped key")
_SECRETS = ("kek", "rows", "signing", "recipient")


@dataclass(frozen=True)
class KeyContext:
    """What a wrapped key is bound to: the owner (32 bytes), the model's digest and the policy lineage (64 each)."""

    owner: bytes
    model: bytes
    lineage: bytes

    def associated_data(self) -> bytes:
        """Return the AAD; every part has a fixed length, so that no two contexts share one."""
        if (len(self.owner), len(self.model), len(self.lineage)) != (signing.KEY_SIZE, HASH_SIZE, HASH_SIZE):
            raise ValueError("a key context has parts of 32, 64 and 64 bytes")
        return _WRAPPED + self.owner + self.model + self.lineage


class KeyStore(Protocol):
    """Holds the key-encryption key and the key that authenticates rows; neither can be read out."""

    def wrap(self, key: bytes | bytearray, context: KeyContext) -> bytes:
        """Return a 32-byte key wrapped for its context: 60 bytes."""

    def unwrap(self, wrapped: bytes, context: KeyContext) -> bytearray:
        """Return the key for the caller to wipe; raises BrokerError `key-unwrap-failed`."""

    def authenticate(self, data: bytes) -> bytes:
        """Return HMAC-SHA-512 of the data under a key of its own: 64 bytes."""


class FileKeyStore:
    """A key store whose keys came from a passphrase-protected file and live in this process."""

    __slots__ = ("_kek", "_rows")

    def __init__(self, kek: bytes, rows: bytes) -> None:
        """Take the two 32-byte keys."""
        self._kek = AESGCM(fields.fixed_bytes(kek, "kek", KEY_SIZE))
        self._rows = fields.fixed_bytes(rows, "rows", KEY_SIZE)

    def __repr__(self) -> str:
        return "FileKeyStore()"

    def wrap(self, key: bytes | bytearray, context: KeyContext) -> bytes:
        """Wrap a key under a random nonce: one KEK wraps far fewer than the 2**32 keys that this is safe for."""
        if len(key) != KEY_SIZE:
            raise ValueError("a data key has 32 bytes")
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._kek.encrypt(nonce, key, context.associated_data())

    def unwrap(self, wrapped: bytes, context: KeyContext) -> bytearray:
        """Unwrap a key in its place; raises BrokerError `key-unwrap-failed`."""
        key = bytearray(KEY_SIZE)
        try:
            if len(wrapped) != WRAPPED_SIZE:
                raise InvalidTag  # noqa: TRY301 - a wrong length is refused as a wrong tag is
            self._kek.decrypt_into(wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:], context.associated_data(), key)
        except InvalidTag:
            wipe(key)
            raise BrokerError(
                BrokerCode.KEY_UNWRAP_FAILED,
                "the wrapped key does not belong to this owner, model and policy lineage",
                remedy="restore the database from a backup, or add the sealed model again",
            ) from None
        return key

    def authenticate(self, data: bytes) -> bytes:
        """Return the 64-byte MAC of the data."""
        return hmac.digest(self._rows, data, hashlib.sha512)


@dataclass(frozen=True)
class BrokerKeys:
    """Everything secret that a broker has: it signs, it receives sealed models, it wraps.  Hidden from `repr`."""

    signer: signing.Signer
    recipient: RecipientKey
    store: KeyStore

    def card(self) -> dict[str, bytes]:
        """Return the public keys under the names that a card gives them."""
        return {CARD_SIGNING: self.signer.public, CARD_RECIPIENT: self.recipient.public}


def create_keys(path: Path, passphrase: bytes, *, cost: Cost = RECOMMENDED) -> BrokerKeys:
    """Draw fresh keys and write them to a new key file; raises ManifestError as `write_key_file` does."""
    recipient = RecipientKey.generate()
    secrets = {
        "version": 1,
        "kek": os.urandom(KEY_SIZE),
        "rows": os.urandom(KEY_SIZE),
        "signing": signing.Signer.generate().seed(),
        "recipient": recipient.to_bytes(),
    }
    keys = _assemble(secrets)
    keyfile.write_key_file(path, KEY_FILE_KIND, canonical.encode(secrets), passphrase, public=keys.card(), cost=cost)
    return keys


def load_keys(path: Path, passphrase: bytes) -> BrokerKeys:
    """Open a key file.

    Raises ManifestError `passphrase-wrong`, `file-unavailable`, `key-invalid` or `version-unsupported`.
    """
    secret = keyfile.read_key_file(path, KEY_FILE_KIND, passphrase)
    try:
        secrets = fields.versioned_map(canonical.decode(secret, max_size=64 * 1024), "broker's keys", _SECRETS)
        return _assemble(secrets)
    except ManifestError as error:
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            raise
        raise ManifestError(ManifestCode.KEY_INVALID, f"{path} holds no broker's keys: {error.message}") from None


def _assemble(secrets: Mapping[str, object]) -> BrokerKeys:
    kek, rows, seed, recipient = (fields.of_type(secrets[name], name, bytes) for name in _SECRETS)
    return BrokerKeys(
        signer=signing.Signer.from_seed(seed),
        recipient=RecipientKey.from_bytes(recipient),
        store=FileKeyStore(kek, rows),
    )


def wipe(key: bytearray) -> None:
    """Overwrite a key in place; copies that the interpreter made are beyond reach (LIMITATIONS.md)."""
    key[:] = bytes(len(key))
