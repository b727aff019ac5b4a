"""The TPM's algorithm identifiers that are handled, and what they stand for here.

Source: TCG Algorithm Registry, tables "TPM_ALG_ID" and "TPM_ECC_CURVE".
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Final, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import EvidenceError
from attestation.tpm.errors import TpmCode

NULL: Final = 0x0010
"""TPM_ALG_NULL."""

E = TypeVar("E", bound=IntEnum)


class Hash(IntEnum):
    """Hash algorithms.  SHA-1 is known for PCR banks alone: nothing that is signed or named may use it."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D

    @property
    def bank(self) -> str:
        """The bank's name in policies and containers."""
        return self.name.lower()

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return hashlib.new(self.bank, usedforsecurity=False).digest_size

    def digest(self, *parts: bytes) -> bytes:
        """Return the digest over the parts, one after the other."""
        return hashlib.new(self.bank, b"".join(parts), usedforsecurity=False).digest()


STRONG: Final = (Hash.SHA256, Hash.SHA384, Hash.SHA512)
"""Hashes that a signature, a name or a policy may rest on."""

SIGNING_HASHES: Final[dict[Hash, hashes.HashAlgorithm]] = {
    Hash.SHA256: hashes.SHA256(),
    Hash.SHA384: hashes.SHA384(),
    Hash.SHA512: hashes.SHA512(),
}


class KeyType(IntEnum):
    """TPMI_ALG_PUBLIC of the keys that sign."""

    RSA = 0x0001
    ECC = 0x0023


class Scheme(IntEnum):
    """Signature schemes."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018


class Curve(IntEnum):
    """TPM_ECC_CURVE of the NIST curves from 256 bits on."""

    NIST_P256 = 0x0003
    NIST_P384 = 0x0004
    NIST_P521 = 0x0005


CURVES: Final[dict[Curve, ec.EllipticCurve]] = {
    Curve.NIST_P256: ec.SECP256R1(),
    Curve.NIST_P384: ec.SECP384R1(),
    Curve.NIST_P521: ec.SECP521R1(),
}


def known(kind: type[E], value: int, what: str, accepted: tuple[E, ...] | None = None) -> E:
    """Return the member of this value; raises EvidenceError `tpm-algorithm` for another, or one not accepted."""
    members = tuple(kind) if accepted is None else accepted
    for member in members:
        if member == value:
            return member
    raise EvidenceError(
        TpmCode.ALGORITHM,
        f"the {what} is not handled",
        expected=" or ".join(member.name for member in members),
        found=f"{value:#06x}",
    )
