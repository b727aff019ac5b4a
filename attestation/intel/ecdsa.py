"""ECDSA with P-256 and SHA-256, over the raw forms that Intel's structures use.

The second root of a signature, (r, n - s), verifies as well; no format of Intel's forbids it, so a quote's bytes are
no unique name of it.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.errors import EvidenceCode, EvidenceError
from attestation.unsigned import unsigned

RAW_SIZE = 64
_ALGORITHM = ec.ECDSA(hashes.SHA256())


def load_point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key x || y (64 bytes, big-endian); raises EvidenceError `attestation-key`."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + raw)
    except ValueError:
        raise EvidenceError(
            EvidenceCode.ATTESTATION_KEY,
            EvidenceCode.ATTESTATION_KEY.meaning,
            expected="x and y of a point on P-256",
            found=raw.hex(),
        ) from None


def verify_der(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, code: EvidenceCode) -> None:
    """Verify a DER signature, as X.509 has it; raises EvidenceError `code`."""
    try:
        key.verify(signature, message, _ALGORITHM)
    except InvalidSignature:
        raise unsigned(code, key, signature) from None


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, code: EvidenceCode) -> None:
    """Verify a signature r || s (64 bytes, big-endian); raises EvidenceError `code`."""
    if len(signature) != RAW_SIZE:
        raise EvidenceError(code, "the signature does not have 64 bytes", expected=RAW_SIZE, found=len(signature))
    half = RAW_SIZE // 2
    der = encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    verify_der(key, der, message, code)
