"""The primitives that Noise names stand for (revision 34, section 12), over `cryptography` and `hashlib`."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY_SIZE = 32
"""Public keys of 25519, and keys of both ciphers."""
TAG_SIZE = 16
MAX_NONCE = (1 << 64) - 1
"""Reserved for Rekey (section 5.1)."""


class CryptoRefusal(Exception):  # noqa: N818 - it never leaves the Noise core, which names it anew
    """A key, tag or ciphertext is no good."""


class Aead(Protocol):
    """What both ciphers of `cryptography` offer."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return ciphertext || tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Return the plaintext, or raise InvalidTag."""


@dataclass(frozen=True)
class Cipher:
    """An AEAD by its Noise name: how a key becomes one, and how a counter becomes a nonce."""

    name: str
    make: Callable[[bytes], Aead]
    nonce_format: str

    def nonce(self, counter: int) -> bytes:
        """Return the 12-byte nonce for a 64-bit counter (section 12.3 and 12.4)."""
        return struct.pack(self.nonce_format, counter)


@dataclass(frozen=True)
class Hash:
    """A hash function by its Noise name (sections 12.5 to 12.8)."""

    name: str
    algorithm: str
    size: int

    def digest(self, *parts: bytes) -> bytes:
        """Return HASH of the parts' concatenation."""
        return hashlib.new(self.algorithm, b"".join(parts)).digest()

    def hkdf(self, chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
        """Return 2 or 3 outputs of Noise's HKDF (section 4.3)."""
        secret = hmac.digest(chaining_key, material, self.algorithm)
        outputs: list[bytes] = []
        previous = b""
        for index in range(1, count + 1):
            previous = hmac.digest(secret, previous + bytes([index]), self.algorithm)
            outputs.append(previous)
        return outputs


class Kem(Protocol):
    """A key encapsulation mechanism, as an object so that recorded results can replay a handshake."""

    public_size: int
    ciphertext_size: int

    def generate(self) -> tuple[Callable[[bytes], bytes], bytes]:
        """Return (decapsulate, public key) of a fresh key pair."""

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return (shared secret, ciphertext); raises CryptoRefusal."""


class MlKem768:
    """ML-KEM-768 (FIPS 203): public keys of 1,184 bytes, ciphertexts of 1,088, secrets of 32."""

    public_size = 1184
    ciphertext_size = 1088

    def generate(self) -> tuple[Callable[[bytes], bytes], bytes]:
        """Return (decapsulate, public key) of a fresh key pair."""
        return kem_pair(MLKEM768PrivateKey.generate())

    def encapsulate(self, public: bytes) -> tuple[bytes, bytes]:
        """Return (shared secret, ciphertext); raises CryptoRefusal for a key that FIPS 203 section 7.2 refuses."""
        try:
            return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
        except ValueError:
            raise CryptoRefusal("not an ML-KEM-768 public key") from None


def kem_pair(private: MLKEM768PrivateKey) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return (decapsulate, public key) for an ML-KEM-768 private key."""
    return private.decapsulate, private.public_key().public_bytes_raw()


def dh(private: X25519PrivateKey, public: bytes) -> bytes:
    """Return the X25519 shared secret; raises CryptoRefusal if it is all zeros (RFC 7748 section 6.1)."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise CryptoRefusal("the X25519 output is zero, or the key has not 32 bytes") from None


def open_sealed(aead: Aead, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext; raises CryptoRefusal."""
    try:
        return aead.decrypt(nonce, data, associated_data)
    except InvalidTag:
        raise CryptoRefusal("a tag does not verify") from None


CIPHERS = {
    "AESGCM": Cipher("AESGCM", AESGCM, ">4xQ"),
    "ChaChaPoly": Cipher("ChaChaPoly", ChaCha20Poly1305, "<4xQ"),
}
HASHES = {
    "SHA256": Hash("SHA256", "sha256", 32),
    "SHA512": Hash("SHA512", "sha512", 64),
    "BLAKE2s": Hash("BLAKE2s", "blake2s", 32),
    "BLAKE2b": Hash("BLAKE2b", "blake2b", 64),
}
DHS = frozenset({"25519", "25519+MLKEM768"})
"""448 is not covered: no format of ours uses it."""
