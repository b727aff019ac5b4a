"""Signatures over DER: certificates of authorities that choose among several algorithms.

Source: RFC 5280, section 4.1.1; RFC 8017 (PKCS #1 v1.5); RFC 5758 (ECDSA).
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from attestation.der import BIT_STRING, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from manifests.errors import ErrorCode

SigningKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_RSA = bytes.fromhex("300d06092a864886f70d0101")
_ECDSA = bytes.fromhex("300a06082a8648ce3d0403")
ALGORITHMS: Final[dict[bytes, tuple[type[SigningKey], hashes.HashAlgorithm]]] = {
    _RSA + bytes.fromhex("0b0500"): (rsa.RSAPublicKey, hashes.SHA256()),
    _RSA + bytes.fromhex("0c0500"): (rsa.RSAPublicKey, hashes.SHA384()),
    _RSA + bytes.fromhex("0d0500"): (rsa.RSAPublicKey, hashes.SHA512()),
    _ECDSA + bytes.fromhex("02"): (ec.EllipticCurvePublicKey, hashes.SHA256()),
    _ECDSA + bytes.fromhex("03"): (ec.EllipticCurvePublicKey, hashes.SHA384()),
    _ECDSA + bytes.fromhex("04"): (ec.EllipticCurvePublicKey, hashes.SHA512()),
}
"""By their AlgorithmIdentifier: PKCS #1 v1.5 and ECDSA, from SHA-256 on."""
_VERSION_TAG: Final = 0xA0
_MAX_SERIAL: Final = (1 << 160) - 1
"""Serial numbers have up to 20 octets (RFC 5280, 4.1.2.2)."""
_LOOKED_UP: Final = EvidenceCode.CERTIFICATE_MALFORMED

TITLE: Final = "RSA (PKCS #1 v1.5) or ECDSA with SHA-256, SHA-384 or SHA-512"


def split_signed(
    der: bytes, code: ErrorCode, algorithms: Container[bytes] | None = None, title: str = ""
) -> tuple[bytes, bytes, bytes]:
    """Split a certificate or revocation list that uses up `der` into what is signed, the algorithm, and the signature.

    algorithms: those that are handled, which `title` names; None leaves that to the caller.  Source: RFC 5280, 4.1.1.
    Raises EvidenceError `code`.
    """
    outer = DerReader(der, code)
    reader = outer.inside(SEQUENCE)
    outer.finish()
    tbs, algorithm = reader.element(SEQUENCE), reader.element(SEQUENCE)
    if algorithms is not None and algorithm not in algorithms:
        raise reader.refuse(f"the signature algorithm is not {title}")
    bits = reader.content(BIT_STRING)
    reader.finish()
    if not bits.startswith(b"\0"):
        raise reader.refuse("the signature is not a whole number of bytes")
    return tbs, algorithm, bits[1:]


def serial_of(der: bytes) -> int | None:
    """Return the serial number of a certificate that NOBODY has verified: only good to look it up in lists.

    Source: RFC 5280, 4.1.2.2.  None where there is no certificate of version 3, or its number is negative.
    """
    with suppress(EvidenceError):
        tbs = DerReader(der, _LOOKED_UP).inside(SEQUENCE).inside(SEQUENCE)
        tbs.content(_VERSION_TAG)
        return tbs.integer(_MAX_SERIAL)
    return None


@dataclass(frozen=True)
class SignedDer:
    """The three parts of a certificate: what is signed, the AlgorithmIdentifier, and the signature."""

    tbs: bytes
    algorithm: bytes
    signature: bytes

    @classmethod
    def split(cls, der: bytes, code: ErrorCode) -> SignedDer:
        """Split a certificate that uses up `der`; raises EvidenceError `code`."""
        return cls(*split_signed(der, code))

    def check_algorithm(self, code: ErrorCode, what: str) -> None:
        """Refuse an algorithm that is not in the table; raises EvidenceError `code`."""
        if self.algorithm not in ALGORITHMS:
            raise EvidenceError(
                code,
                f"{what} is signed by an algorithm that is not handled",
                expected=TITLE,
                found=self.algorithm.hex(),
            )

    def verifies(self, key: SigningKey) -> bool:
        """Tell whether the signature is `key`'s, by an algorithm of the table for keys of its kind."""
        kind, hash_ = ALGORITHMS[self.algorithm]
        if not isinstance(key, kind):
            return False
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self.tbs, padding.PKCS1v15(), hash_)
            else:
                key.verify(self.signature, self.tbs, ec.ECDSA(hash_))
        except InvalidSignature:
            return False
        return True
