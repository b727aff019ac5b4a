"""TPM2B_PUBLIC of an attestation key: what the key is, and what its TPM lets it do.

Source: TCG TPM 2.0 Library, Part 2, sections 8.3 "TPMA_OBJECT" and 12.2 "Public Area Structures"; names of keys:
Part 1, "Names" and "Qualified Name".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import EvidenceError
from attestation.tpm.algorithms import CURVES, NULL, STRONG, Curve, Hash, KeyType, Scheme, known
from attestation.tpm.errors import TpmCode
from attestation.tpm.marshal import U16, U32, Reader, Sized, Structure
from attestation.tpm.signature import MAX_ECC, MAX_RSA, PublicKey, Signature

MAX_PUBLIC = 1024
MIN_RSA_BITS = 2048
"""112 bits of strength, the least that TCG's PC Client profile has."""
MAX_RSA_BITS = 8 * MAX_RSA
_EXPONENT = 65537


class Attributes(IntFlag):
    """TPMA_OBJECT."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


REQUIRED = (
    Attributes.FIXED_TPM
    | Attributes.FIXED_PARENT
    | Attributes.SENSITIVE_DATA_ORIGIN
    | Attributes.RESTRICTED
    | Attributes.SIGN_ENCRYPT
)
"""A key that was made in its TPM, never leaves it, and signs nothing that claims to be the TPM's word and is not."""
FORBIDDEN = Attributes.DECRYPT | Attributes.X509_SIGN | Attributes.ENCRYPTED_DUPLICATION
_KNOWN = sum(Attributes)

_HEAD = Structure(type=U16, name_alg=U16, attributes=U32, auth_policy=Sized("authPolicy", 0, 64), symmetric=U16)
_RSA = Structure(scheme=U16, hash=U16, key_bits=U16, exponent=U32, modulus=Sized("the modulus", 1, MAX_RSA))
_ECC = Structure(
    scheme=U16, hash=U16, curve=U16, kdf=U16, x=Sized("the point's x", 1, MAX_ECC), y=Sized("the point's y", 1, MAX_ECC)
)


@dataclass(frozen=True)
class Public:
    """The public area of a key that signs.

    area: TPMT_PUBLIC as it was parsed; name_alg: of the key's name; scheme, hash: the only ones that it signs with;
    unique: modulus, or x and y, big-endian.  curve is None for RSA, exponent for ECC.
    """

    area: bytes
    name_alg: Hash
    attributes: Attributes
    scheme: Scheme
    hash: Hash
    unique: tuple[bytes, ...]
    curve: Curve | None

    @classmethod
    def parse(cls, data: bytes) -> Public:
        """Decode a TPM2B_PUBLIC that uses up `data` exactly; raises EvidenceError with a `tpm-...` code."""
        outer = Reader(data, "TPM2B_PUBLIC")
        area = Sized("the public area", 1, MAX_PUBLIC).read(outer)
        outer.finish()
        reader = Reader(area, "TPMT_PUBLIC")
        head = _HEAD.read(reader)
        values = _read_tail(head, reader)
        reader.finish()
        return cls(
            area=area,
            name_alg=known(Hash, head["name_alg"], "hash of the key's name", STRONG),
            attributes=_attributes(head["attributes"]),
            scheme=values["scheme"],
            hash=known(Hash, values["hash"], "hash of the key's scheme", STRONG),
            unique=(values["x"], values["y"]) if values["curve"] else (values["modulus"],),
            curve=values["curve"],
        )

    def serialize(self) -> bytes:
        """Return the TPM2B_PUBLIC."""
        return U16.write(len(self.area)) + self.area

    @property
    def name(self) -> bytes:
        """The key's Name: the hash over its public area, behind the algorithm's two bytes."""
        return U16.write(self.name_alg) + self.name_alg.digest(self.area)

    def qualified_name(self, parent: bytes) -> bytes:
        """Return the qualified name under a parent: its qualified name, or the handle of a hierarchy (4 bytes)."""
        return U16.write(self.name_alg) + self.name_alg.digest(parent, self.name)

    def key(self) -> PublicKey:
        """Return the key; raises EvidenceError `tpm-key-invalid`."""
        try:
            if self.curve is None:
                return rsa.RSAPublicNumbers(_EXPONENT, int.from_bytes(self.unique[0], "big")).public_key()
            x, y = (int.from_bytes(number, "big") for number in self.unique)
            return ec.EllipticCurvePublicNumbers(x, y, CURVES[self.curve]).public_key()
        except ValueError:
            raise EvidenceError(
                TpmCode.KEY_INVALID,
                TpmCode.KEY_INVALID.meaning,
                expected="an RSA modulus" if self.curve is None else f"x and y of a point on {CURVES[self.curve].name}",
                found=self.unique,
            ) from None

    def check_attests(self) -> None:
        """Return if the key can sign nothing but what its TPM attests; raises EvidenceError `tpm-key-attributes`."""
        if self.attributes & REQUIRED != REQUIRED or self.attributes & FORBIDDEN:
            raise EvidenceError(
                TpmCode.KEY_ATTRIBUTES,
                TpmCode.KEY_ATTRIBUTES.meaning,
                expected=f"{_words(REQUIRED)}; none of {_words(FORBIDDEN)}",
                found=_words(self.attributes),
            )

    def check_made(self, signature: Signature) -> None:
        """Return if a signature is of the key's one scheme and hash; raises EvidenceError `tpm-scheme`."""
        if (signature.scheme, signature.hash) != (self.scheme, self.hash):
            raise EvidenceError(
                TpmCode.SCHEME,
                TpmCode.SCHEME.meaning,
                expected=f"{self.scheme.name} with {self.hash.name}",
                found=f"{signature.scheme.name} with {signature.hash.name}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for people and programs."""
        return {
            "name": self.name.hex(),
            "attributes": _words(self.attributes),
            "scheme": f"{self.scheme.name} {self.hash.name}",
            "curve": self.curve.name if self.curve else None,
            "unique": [value.hex() for value in self.unique],
        }


def fingerprint(key: PublicKey) -> bytes:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo, by which policies name it."""
    return Hash.SHA256.digest(spki(key))


def spki(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_rsa_size(bits: int) -> None:
    """Refuse RSA keys outside 2048 to 4096 bits; raises EvidenceError `tpm-key-size`."""
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise EvidenceError(
            TpmCode.KEY_SIZE,
            "the attestation key is too small, or larger than any TPM's",
            expected=f"{MIN_RSA_BITS} to {MAX_RSA_BITS} bits",
            found=f"{bits} bits",
        )


def _read_tail(head: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """Return what follows the common fields; a storage key has a symmetric algorithm there, and is none of ours."""
    if head["type"] not in set(KeyType) or head["symmetric"] != NULL:
        raise _kind("a key that signs with RSA or ECDSA", f"type {head['type']:#x}, symmetric {head['symmetric']:#x}")
    if head["type"] == KeyType.RSA:
        return _rsa(_RSA.read(reader))
    return _ecc(_ECC.read(reader))


def _rsa(values: dict[str, Any]) -> dict[str, Any]:
    values["scheme"] = known(Scheme, values["scheme"], "scheme of the key", (Scheme.RSASSA, Scheme.RSAPSS))
    if values["exponent"] not in {0, _EXPONENT}:  # 0 stands for 65537 (12.2.3.5)
        raise _kind(f"exponent {_EXPONENT}", values["exponent"])
    bits = int.from_bytes(values["modulus"], "big").bit_length()
    check_rsa_size(bits)
    if bits != values["key_bits"] or len(values["modulus"]) != bits // 8:
        raise EvidenceError(TpmCode.SIZE, "the modulus has another size than keyBits", expected=values["key_bits"])
    return values | {"curve": None}


def _ecc(values: dict[str, Any]) -> dict[str, Any]:
    values["scheme"] = known(Scheme, values["scheme"], "scheme of the key", (Scheme.ECDSA,))
    values["curve"] = known(Curve, values["curve"], "curve")
    if values["kdf"] != NULL:
        raise _kind("no key derivation", f"{values['kdf']:#x}")
    return values


def _attributes(value: int) -> Attributes:
    if value & ~_KNOWN:
        raise EvidenceError(
            TpmCode.RESERVED, "reserved bits of objectAttributes are set", expected="0", found=f"{value & ~_KNOWN:#x}"
        )
    return Attributes(value)


def _kind(expected: object, found: object) -> EvidenceError:
    return EvidenceError(TpmCode.KEY_KIND, TpmCode.KEY_KIND.meaning, expected=expected, found=found)


def _words(attributes: Attributes) -> str:
    return ", ".join(str(each.name).lower().replace("_", "") for each in Attributes if each & attributes) or "none"
