"""RA-TLS certificates around quotes of a simulated platform, as Gramine makes them, or with any part changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.ratls.certificate import LEGACY, TAGGED_EVIDENCE
from attestation.ratls.claims import INTEL_QUOTE
from attestation.types import cbor

Quoter = Callable[[bytes], bytes]
"""Report data (64 bytes) to a quote."""

_NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.COMMON_NAME, "RATLS"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "GramineDevelopers"),
        x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
    ]
)
_SHA256 = 1


@dataclass(frozen=True)
class RatlsProfile:
    """What a certificate says besides its evidence; the defaults are Gramine's.

    signer: signs instead of the certificate's own key.  extensions: added after those of the evidence.
    """

    not_before: int = 978_307_200
    not_after: int = 1_924_991_999
    issuer: x509.Name = _NAME
    signer: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = field(default=None, repr=False)
    extensions: tuple[tuple[x509.ObjectIdentifier, bytes], ...] = ()


def ratls_certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    quote: Quoter,
    *,
    tagged: bool = True,
    legacy: bool = True,
    profile: RatlsProfile | None = None,
) -> bytes:
    """Return a DER certificate for `key` with evidence in either form, or in both."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    evidence: dict[x509.ObjectIdentifier, bytes] = {}
    if legacy:
        evidence[LEGACY[0]] = quote(hashlib.sha256(spki).digest() + bytes(32))
    if tagged:
        evidence[TAGGED_EVIDENCE] = tagged_evidence(quote, claims_of(spki))
    return certificate(key, evidence, profile or RatlsProfile())


def claims_of(spki: bytes, nonce: bytes | None = None) -> bytes:
    """Return the claims of a key (DER SubjectPublicKeyInfo)."""
    claims: dict[int | str, bytes] = {"pubkey-hash": cbor.encode([_SHA256, hashlib.sha256(spki).digest()])}
    return cbor.encode(claims if nonce is None else claims | {"nonce": nonce})


def tagged_evidence(quote: Quoter, claims: bytes, tag: int = INTEL_QUOTE) -> bytes:
    """Return the value of the extension with tagged evidence."""
    return cbor.encode(cbor.Tag(tag, [quote(hashlib.sha256(claims).digest() + bytes(32)), claims]))


def certificate(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    evidence: Mapping[x509.ObjectIdentifier, bytes],
    profile: RatlsProfile,
) -> bytes:
    """Return a DER certificate for `key` with these values of extensions."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(profile.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(profile.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(profile.not_after, UTC))
    )
    for oid, value in (*evidence.items(), *profile.extensions):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    signer = profile.signer or key
    deterministic = True if isinstance(signer, ec.EllipticCurvePrivateKey) else None  # RSA's always is
    return builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=deterministic).public_bytes(Encoding.DER)
