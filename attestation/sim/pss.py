"""RSASSA-PSS signatures that are the same each time: the salt follows from key and message.

Source: RFC 8017, sections 8.1.1 and 9.1.1, with MGF1 in the hash of the signature.  RFC 6979 does the like for ECDSA.
"""

from __future__ import annotations

import hashlib
import math

from cryptography.hazmat.primitives.asymmetric import rsa


def sign_pss(key: rsa.RSAPrivateKey, message: bytes, hash_name: str) -> bytes:
    """Return the signature with a hash of `hashlib`'s, and a salt as long as its digest.

    key: of a whole number of bytes, so that the encoding, which leaves out the highest bit, is as long as the modulus.
    """
    numbers, size = key.private_numbers(), key.key_size // 8
    digest = hashlib.new(hash_name, message).digest()
    salt = hashlib.new(hash_name, numbers.d.to_bytes(size, "big") + digest).digest()
    encoded = int.from_bytes(_encode(digest, salt, hash_name, size), "big")
    p_part, q_part = pow(encoded, numbers.dmp1, numbers.p), pow(encoded, numbers.dmq1, numbers.q)
    power = q_part + numbers.q * (numbers.iqmp * (p_part - q_part) % numbers.p)
    return power.to_bytes(size, "big")


def _encode(digest: bytes, salt: bytes, hash_name: str, size: int) -> bytes:
    """EMSA-PSS-ENCODE (9.1.1) for a modulus of `size` bytes."""
    hashed = hashlib.new(hash_name, bytes(8) + digest + salt).digest()
    block = bytes(size - len(salt) - len(digest) - 2) + b"\x01" + salt
    masked = bytearray(a ^ b for a, b in zip(block, _mgf1(hashed, len(block), hash_name), strict=True))
    masked[0] &= 0x7F
    return bytes(masked) + hashed + b"\xbc"


def _mgf1(seed: bytes, size: int, hash_name: str) -> bytes:
    count = math.ceil(size / hashlib.new(hash_name).digest_size)
    blocks = (hashlib.new(hash_name, seed + index.to_bytes(4, "big")).digest() for index in range(count))
    return b"".join(blocks)[:size]
