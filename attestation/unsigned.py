"""How a signature that does not verify is told, whatever format it stands in."""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import EvidenceError
from manifests.errors import ErrorCode

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_SHOWN: Final = 16
"""Bytes of a signature that tell it from others; one of RSA has 512."""


def fingerprint(key: PublicKey) -> str:
    """Return SHA-256 of a key's SubjectPublicKeyInfo: what `openssl pkey -pubin -outform DER | sha256sum` prints."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def unsigned(code: ErrorCode, key: PublicKey, signature: bytes, what: str | None = None) -> EvidenceError:
    """Return the error for a signature that `key` did not make; what: what is signed, where the code does not say."""
    return EvidenceError(
        code,
        f"{what}: {code.meaning}" if what else code.meaning,
        expected=f"a signature by the key {fingerprint(key)}",
        found=f"the signature {signature[:_SHOWN].hex()}..., which that key did not make over these bytes",
    )
