"""Certificates of simulated TPMs: an authority, and attestation keys that it vouches for, well-formed or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.roots import SIMULATION_EXTENSION
from attestation.sim.pki import Authority, Lifetimes, derive, derive_key
from attestation.tpm.chain import AIK_CERTIFICATE
from attestation.tpm.signature import PublicKey

_PREFIX = "Strongroom Simulated TPM"


@dataclass(frozen=True)
class TpmProfile:
    """What one certificate says.

    name: of the subject.  authority: of basic constraints and key usage.  path_length: most authorities below it.
    purpose: extended key usage; None leaves it out.  marked: carries the sign of a simulated platform.  start, end:
    Unix seconds, both inclusive.
    """

    name: str
    start: int
    end: int
    authority: bool = False
    path_length: int | None = None
    purpose: x509.ObjectIdentifier | None = None
    marked: bool = True


def authority(seed: bytes, profile: TpmProfile, issuer: Authority | None = None) -> Authority:
    """Issue a certificate for a P-256 key of its own; `issuer` None means self-signed."""
    key = derive_key(seed, f"tpm {profile.name}")
    return Authority(key, _sign(seed, profile, key.public_key(), issuer.key if issuer else key, issuer))


def certify_key(seed: bytes, profile: TpmProfile, key: PublicKey, issuer: Authority) -> bytes:
    """Issue the DER certificate of an attestation key."""
    return _sign(seed, profile, key, issuer.key, issuer).public_bytes(Encoding.DER)


def root_profile(created: int, lifetimes: Lifetimes) -> TpmProfile:
    """Return the profile of a simulated TPM maker's root."""
    return TpmProfile("Root CA", *lifetimes.span("root", created), authority=True)


def key_profile(created: int, lifetimes: Lifetimes) -> TpmProfile:
    """Return the profile of an attestation key's certificate: it lives as long as a PCK."""
    return TpmProfile("AK Certificate", *lifetimes.span("pck", created), purpose=AIK_CERTIFICATE)


def _sign(
    seed: bytes, profile: TpmProfile, public: PublicKey, key: ec.EllipticCurvePrivateKey, issuer: Authority | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_PREFIX} {profile.name}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public)
        .serial_number(int.from_bytes(derive(seed, f"tpm serial {profile.name}")[:16], "big") | 1)
        .not_valid_before(datetime.fromtimestamp(profile.start, UTC))
        .not_valid_after(datetime.fromtimestamp(profile.end, UTC))
        .add_extension(x509.BasicConstraints(profile.authority, profile.path_length), critical=True)
        .add_extension(_usage(profile), critical=True)
    )
    if profile.purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([profile.purpose]), critical=False)
    if profile.marked:
        builder = builder.add_extension(x509.UnrecognizedExtension(SIMULATION_EXTENSION, b"\x05\x00"), critical=False)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def _usage(profile: TpmProfile) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not profile.authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=profile.authority,
        crl_sign=profile.authority,
        encipher_only=False,
        decipher_only=False,
    )
