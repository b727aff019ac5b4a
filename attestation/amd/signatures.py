"""The two signature schemes of AMD's hierarchy.

Sources: AMD 57230, section 3 (RSASSA-PSS on 4096 bits with SHA-384, salt of 48 bytes, for certificates and revocation
lists); AMD 56860, "Format for an ECDSA P-384 with SHA-384 Signature".

The second root of an ECDSA signature, (r, n - s), verifies as well, and AMD does not forbid it: a report's bytes are no
unique name of it.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation import signed_der
from attestation.errors import EvidenceCode
from attestation.unsigned import unsigned
from manifests.errors import ErrorCode

SALT_SIZE: Final = 48

_SHA384 = "300d06096086480165030402020500"
_PSS_PARAMETERS = f"a00f{_SHA384}a11c301a06092a864886f70d010108{_SHA384}a203020130"
PSS_ALGORITHMS: Final = (
    bytes.fromhex(f"304106092a864886f70d01010a3034{_PSS_PARAMETERS}"),
    # The same with the default trailer field spelled out, which DER forbids and AMD's older signer wrote.
    bytes.fromhex(f"304606092a864886f70d01010a3039{_PSS_PARAMETERS}a303020101"),
)
"""AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 with SHA-384, and a salt of 48 bytes: the only one here."""

_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), SALT_SIZE)
_ECDSA = ec.ECDSA(hashes.SHA384())


def split_signed(der: bytes, code: EvidenceCode) -> tuple[bytes, bytes, bytes]:
    """Return (to-be-signed part, algorithm, signature) of a certificate or revocation list.

    Raises EvidenceError `code`.
    """
    return signed_der.split_signed(der, code, PSS_ALGORITHMS, "RSASSA-PSS with SHA-384")


def verify_pss(key: rsa.RSAPublicKey, signature: bytes, message: bytes, code: ErrorCode, what: str) -> None:
    """Verify the signature of a certificate or revocation list; raises EvidenceError `code`."""
    try:
        key.verify(signature, message, _PSS, hashes.SHA384())
    except InvalidSignature:
        raise unsigned(code, key, signature, what) from None


def verify_report(key: ec.EllipticCurvePublicKey, r: int, s: int, message: bytes, code: ErrorCode) -> None:
    """Verify the signature (r, s) of a report; raises EvidenceError `code`."""
    signature = encode_dss_signature(r, s)
    try:
        key.verify(signature, message, _ECDSA)
    except InvalidSignature:
        raise unsigned(code, key, signature) from None
