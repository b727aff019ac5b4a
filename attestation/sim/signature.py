"""Deterministic ECDSA (RFC 6979) in the raw form of quotes and collateral."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_ALGORITHM = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return r || s (64 bytes, big-endian) over `message`."""
    r, s = decode_dss_signature(key.sign(message, _ALGORITHM))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key x || y (64 bytes, big-endian)."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
