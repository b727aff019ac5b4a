"""Authorities of the simulated hierarchies that use ECDSA on P-384: those of Nitro and of NVIDIA.

Everything follows from a seed, so that the same seed and dates give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attestation.roots import SIMULATION_EXTENSION
from attestation.sim.pki import derive

_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
"""Order of P-384's group (FIPS 186-5)."""
_NULL = b"\x05\x00"
_DETERMINISTIC = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Authority384:
    """A key on P-384 and the certificate that some issuer gave it."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def sign_raw(self, message: bytes) -> bytes:
        """Return the signature r || s (96 bytes, big-endian) over `message`, with SHA-384."""
        return sign_raw(self.key, message)


@dataclass(frozen=True)
class Profile384:
    """What distinguishes one certificate; the defaults are those of an authority of a simulated platform.

    usages: names of x509.KeyUsage; None: the usual ones of an authority, or of a key that signs; an empty tuple leaves
    the extension out.  constrained: whether it has basic constraints.  marked: whether it has the sign of a simulated
    platform.  extra: further extensions.
    """

    name: str
    authority: bool = True
    path_length: int | None = None
    usages: tuple[str, ...] | None = None
    constrained: bool = True
    marked: bool = True
    serial_number: str | None = None
    extra: tuple[tuple[x509.ObjectIdentifier, bytes], ...] = ()


def derive_key(seed: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key that belongs to `name` under this seed; 512 bits leave no bias worth counting."""
    scalar = int.from_bytes(derive(seed, f"key384 {name}"), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP384R1())


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the deterministic signature r || s (96 bytes, big-endian) over `message`, with SHA-384."""
    r, s = decode_dss_signature(key.sign(message, _DETERMINISTIC))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def enrol(seed: bytes, profile: Profile384, issuer: Authority384 | None, start: int, end: int) -> Authority384:
    """Issue a certificate for the key of that name under the seed, with a serial number that follows from it."""
    serial = int.from_bytes(derive(seed, f"serial384 {profile.name}")[:16], "big") | 1
    return certify(profile, derive_key(seed, profile.name), issuer, serial=serial, start=start, end=end)


def certify(
    profile: Profile384,
    key: ec.EllipticCurvePrivateKey,
    issuer: Authority384 | None,
    *,
    serial: int,
    start: int,
    end: int,
) -> Authority384:
    """Issue one certificate for `key`; `issuer` None means self-signed.  Valid from `start` to `end` inclusive."""
    subject = _name(profile)
    issuer_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(start, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
    )
    if profile.usages != ():
        builder = builder.add_extension(_key_usage(profile), critical=True)
    if profile.constrained:
        builder = builder.add_extension(x509.BasicConstraints(profile.authority, profile.path_length), critical=True)
    marks = ((SIMULATION_EXTENSION, _NULL),) if profile.marked else ()
    for oid, value in (*marks, *profile.extra):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    return Authority384(key, builder.sign(issuer_key, hashes.SHA384(), ecdsa_deterministic=True))


def _name(profile: Profile384) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, profile.name)]
    if profile.serial_number is not None:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, profile.serial_number))
    return x509.Name(attributes)


def _key_usage(profile: Profile384) -> x509.KeyUsage:
    usages: Iterable[str] = ("key_cert_sign", "crl_sign") if profile.authority else ("digital_signature",)
    if profile.usages is not None:
        usages = profile.usages
    return x509.KeyUsage(**{name: name in usages for name in _USAGES})
