"""TPMT_SIGNATURE: the signature over a quote, in the schemes of keys that attest.

Source: TCG TPM 2.0 Library, Part 2, section 11.3 "Signatures"; Part 1, annexes B "RSA" and C "ECC".
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.errors import EvidenceError
from attestation.tpm.algorithms import SIGNING_HASHES, STRONG, Hash, Scheme, known
from attestation.tpm.errors import TpmCode
from attestation.tpm.marshal import U16, Reader, Sized, Structure

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MAX_SIGNATURE = 1024
MAX_RSA = 512
"""Bytes of a signature under RSA with 4096 bits."""
MAX_ECC = 66
"""Bytes of a coordinate on P-521."""

_HEAD = Structure(scheme=U16, hash=U16)
_RSA = Structure(signature=Sized("the RSA signature", 1, MAX_RSA))
_ECC = Structure(r=Sized("signatureR", 1, MAX_ECC), s=Sized("signatureS", 1, MAX_ECC))


@dataclass(frozen=True)
class Signature:
    """TPMT_SIGNATURE.  value: the RSA signature, or r and s of ECDSA, big-endian."""

    scheme: Scheme
    hash: Hash
    value: tuple[bytes, ...]

    @classmethod
    def parse(cls, data: bytes) -> Signature:
        """Decode a signature that uses up `data` exactly; raises EvidenceError with a `tpm-...` code."""
        reader = Reader(data, "TPMT_SIGNATURE")
        head = _HEAD.read(reader)
        scheme = known(Scheme, head["scheme"], "signature scheme")
        hash_ = known(Hash, head["hash"], "hash of the signature", STRONG)
        values = (_ECC if scheme is Scheme.ECDSA else _RSA).read(reader)
        reader.finish()
        return cls(scheme, hash_, tuple(values.values()))

    def serialize(self) -> bytes:
        """Return the bytes of the structure."""
        tail = _ECC if self.scheme is Scheme.ECDSA else _RSA
        return _HEAD.write(vars(self)) + tail.write(dict(zip(tail.fields, self.value, strict=True)))

    def verify(self, key: PublicKey, message: bytes) -> None:
        """Return if this is `key`'s signature over a message; raises EvidenceError `tpm-scheme` or `tpm-signature`."""
        if isinstance(key, rsa.RSAPublicKey) == (self.scheme is Scheme.ECDSA):
            found = "an RSA key" if self.scheme is Scheme.ECDSA else "an ECC key"
            raise EvidenceError(TpmCode.SCHEME, TpmCode.SCHEME.meaning, expected=self.scheme.name, found=found)
        try:
            if isinstance(key, rsa.RSAPublicKey):
                self._verify_rsa(key, message)
            else:
                self._verify_ecdsa(key, message)
        except InvalidSignature:
            raise EvidenceError(
                TpmCode.SIGNATURE,
                TpmCode.SIGNATURE.meaning,
                expected=f"a signature ({self.scheme.name}, {self.hash.name}) of the attestation key over the quote",
                found="a signature that does not verify",
            ) from None

    def _verify_rsa(self, key: rsa.RSAPublicKey, message: bytes) -> None:
        """PSS salts have any length: TPMs differ, and the verifier gains nothing from a fixed one."""
        algorithm = SIGNING_HASHES[self.hash]
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if self.scheme is Scheme.RSAPSS:
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
        key.verify(self.value[0], message, scheme, algorithm)

    def _verify_ecdsa(self, key: ec.EllipticCurvePublicKey, message: bytes) -> None:
        r, s = (int.from_bytes(number, "big") for number in self.value)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SIGNING_HASHES[self.hash]))
