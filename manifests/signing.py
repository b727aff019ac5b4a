"""Ed25519 signatures, each under its own label; the only place that verifies one.

libsodium (through pynacl) rejects small-order and non-canonical points, which `cryptography` accepts as keys.
A signed document is the canonical array [body, signature]; the signature covers label || body exactly as
transmitted, and the body is decoded only after the signature has been checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import nacl.bindings
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey, VerifyKey

from manifests import canonical, fields
from manifests.errors import ManifestCode, ManifestError

KEY_SIZE = 32
SIGNATURE_SIZE = 64
MAX_DOCUMENT = 64 * 1024
"""The largest signed document is a policy of some kilobytes."""


def label(name: str) -> bytes:
    r"""Return the domain separation label "strongroom <name> v1\0"."""
    return f"strongroom {name} v1\0".encode("ascii")


@dataclass(frozen=True)
class Signer:
    """An Ed25519 private key.  Its seed never shows in `repr`."""

    _key: SigningKey = field(repr=False)

    @classmethod
    def generate(cls) -> Signer:
        """Make a fresh key from the system's random numbers."""
        return cls(SigningKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Signer:
        """Restore a key from its 32-byte seed; raises ManifestError `key-invalid`."""
        if len(seed) != KEY_SIZE:
            raise ManifestError(ManifestCode.KEY_INVALID, "an Ed25519 seed has 32 bytes", found=len(seed))
        return cls(SigningKey(seed))

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        return bytes(self._key.verify_key)

    def seed(self) -> bytes:
        """Return the 32-byte seed: a secret, for key files alone."""
        return bytes(self._key)

    def sign(self, context: bytes, body: bytes) -> bytes:
        """Return the 64-byte signature over context || body."""
        return self._key.sign(context + body).signature

    def sign_document(self, context: bytes, value: canonical.Value) -> bytes:
        """Return the signed document whose body is the canonical encoding of `value`."""
        body = canonical.encode(value)
        return canonical.encode([body, self.sign(context, body)])


def check_public_key(public: bytes) -> bytes:
    """Return `public` if it is a canonical point of the main subgroup; raises ManifestError `key-invalid`."""
    if len(public) != KEY_SIZE or not nacl.bindings.crypto_core_ed25519_is_valid_point(public):
        raise ManifestError(ManifestCode.KEY_INVALID, "the bytes are not an Ed25519 public key")
    return public


def verify(public: bytes, context: bytes, body: bytes, signature: bytes) -> None:
    """Verify one signature; raises ManifestError `key-invalid` or `signature-invalid`."""
    check_public_key(public)
    try:
        VerifyKey(public).verify(context + body, signature)
    except (BadSignatureError, CryptoError, ValueError, TypeError):
        raise ManifestError(
            ManifestCode.SIGNATURE_INVALID,
            f"the signature over a {context[:-1].decode('ascii', 'replace')!r} does not verify",
        ) from None


def open_document(public: bytes, context: bytes, document: bytes) -> canonical.Value:
    """Verify a signed document, then decode its body; raises ManifestError."""
    body, signature = split_document(document)
    verify(public, context, body, signature)
    return canonical.decode(body, max_size=MAX_DOCUMENT)


def open_versioned(
    public: bytes, context: bytes, document: bytes, names: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Any]:
    """Verify a signed document and return its body: a map of `names`, `version`, which is 1, and what is optional.

    Raises ManifestError, `version-unsupported` for a later version.
    """
    return fields.versioned_map(open_document(public, context, document), "the document", names, optional)


def public_key_field(value: object, name: str) -> bytes:
    """Return a field's value if it is an Ed25519 public key."""
    return check_public_key(fields.fixed_bytes(value, name, KEY_SIZE))


def split_document(document: bytes) -> tuple[bytes, bytes]:
    """Return (body, signature) of a signed document whose signature has NOT been checked."""
    items = fields.list_of(canonical.decode(document, max_size=MAX_DOCUMENT), "signed document", 2)
    if len(items) != 2:
        raise ManifestError(ManifestCode.FIELD_INVALID, "a signed document has two items", found=len(items))
    return fields.of_type(items[0], "body", bytes), fields.fixed_bytes(items[1], "signature", SIGNATURE_SIZE)


def digest(context: bytes, data: bytes) -> bytes:
    """Return SHA-512(context || data), 64 bytes."""
    return hashlib.sha512(context + data).digest()
