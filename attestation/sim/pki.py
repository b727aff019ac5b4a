"""The simulated vendor's certificate authority: keys and certificates, all from one 32-byte seed.

The same seed and time of making give the same bytes, so that a platform's folder holds one secret, and golden files
can be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.intel.certificates import SGX_EXTENSION
from attestation.intel.pck import PckExtension
from attestation.roots import SIMULATION_EXTENSION
from attestation.sim.extension import encode_extension
from attestation.sim.signature import sign_raw
from manifests.signing import label

SEED_SIZE = 32
DAY = 86400
YEAR = 365 * DAY

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256's group (FIPS 186-5)."""
_LABEL = label("simulated platform")
_NULL = b"\x05\x00"
_EARLY = -DAY
"""Room for clocks that differ."""
_PREFIX = "Strongroom Simulated SGX"


@dataclass(frozen=True)
class Lifetimes:
    """For how many seconds after the platform was made its certificates are valid.

    begins: by name of a field, how many seconds after the making (before it, if negative) the first of them is; those
    that are not named begin a day before.
    """

    root: int = 30 * YEAR
    pck_ca: int = 15 * YEAR
    tcb_signing: int = 8 * YEAR
    pck: int = 7 * YEAR
    begins: Mapping[str, int] = field(default_factory=dict)

    def span(self, name: str, created: int) -> tuple[int, int]:
        """Return the first and the last second (Unix) of a certificate, for a platform that was made at `created`."""
        last: int = getattr(self, name)
        return created + self.begins.get(name, _EARLY), created + last


@dataclass(frozen=True)
class Authority:
    """A key and the certificate that some issuer gave it."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def sign_raw(self, message: bytes) -> bytes:
        """Return the signature r || s over a message."""
        return sign_raw(self.key, message)


@dataclass(frozen=True)
class Pki:
    """Root, PCK CA, TCB signing and PCK of one simulated platform, and what its PCK says of it."""

    root: Authority
    pck_ca: Authority
    tcb_signing: Authority
    pck: Authority
    extension: PckExtension


@dataclass(frozen=True)
class Profile:
    """What distinguishes one certificate of the hierarchy; `marked` adds the sign of a simulated platform."""

    name: str
    authority: bool = True
    marked: bool = True
    extra: tuple[tuple[x509.ObjectIdentifier, bytes], ...] = ()


def make_pki(seed: bytes, created: int, extension: PckExtension, lifetimes: Lifetimes) -> Pki:
    """Make the hierarchy of a platform that was made at `created` (Unix seconds)."""

    def enrol(name: str, profile: Profile, issuer: Authority | None) -> Authority:
        serial = int.from_bytes(derive(seed, f"serial {profile.name}")[:16], "big") | 1
        start, end = lifetimes.span(name, created)
        return certify(profile, derive_key(seed, profile.name), issuer, serial=serial, start=start, end=end)

    root = enrol("root", Profile("Root CA"), None)
    pck_ca = enrol("pck_ca", Profile("PCK Processor CA"), root)
    signing = enrol("tcb_signing", Profile("TCB Signing", authority=False), root)
    value = encode_extension(extension)
    pck = enrol("pck", Profile("PCK Certificate", authority=False, extra=((SGX_EXTENSION, value),)), pck_ca)
    return Pki(root, pck_ca, signing, pck, extension)


def certify(
    profile: Profile,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority | None,
    *,
    serial: int,
    start: int,
    end: int,
) -> Authority:
    """Issue one certificate for `key`; `issuer` None means self-signed.  Valid from `start` to `end` inclusive."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_PREFIX} {profile.name}")])
    issuer_key = issuer.key if issuer else key
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(start, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
        .add_extension(x509.BasicConstraints(profile.authority, None), critical=True)
        .add_extension(_key_usage(authority=profile.authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    marks = ((SIMULATION_EXTENSION, _NULL),) if profile.marked else ()
    for oid, value in (*marks, *profile.extra):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return Authority(key, builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True))


def revocation_list(issuer: Authority, serials: Iterable[int], start: int, end: int) -> bytes:
    """Issue the DER list of one authority, with thisUpdate `start` and nextUpdate `end`."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(datetime.fromtimestamp(start, UTC))
        .next_update(datetime.fromtimestamp(end, UTC))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial in serials:
        entry = (
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.fromtimestamp(start, UTC))
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def derive(seed: bytes, name: str) -> bytes:
    """Return 64 bytes that belong to `name` under this seed."""
    return hashlib.sha512(_LABEL + seed + name.encode("ascii")).digest()


def derive_key(seed: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that belongs to `name` under this seed; 512 bits leave no bias worth counting."""
    scalar = int.from_bytes(derive(seed, f"key {name}"), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
