"""Certificates in the roles that AMD's hierarchy gives them.

Source: Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (AMD 57230), section 3 (ARK,
ASK and VCEK), and the published certificates themselves for ASVK and VLEK.

    VCEK <- ASK <- ARK        the chip's own key
    VLEK <- ASVK <- ARK       a key that AMD lends to a cloud provider

Bytes are authenticated before they are read: the root by its pinned fingerprint, every other certificate by its
issuer's signature over the to-be-signed part.  They are read here, by a strict reader of this one profile, because AMD
gives every VCEK the serial number 0; RFC 5280 forbids that, and general X.509 parsers are about to refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.amd.signatures import split_signed, verify_pss
from attestation.amd.tcb import Product
from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import SIMULATION_EXTENSION, Anchor, Hierarchy, Roots
from attestation.strict_x509 import Extensions, Fields, encode_oid, parse_certificate
from attestation.validity import Validity

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_MALFORMED = EvidenceCode.CERTIFICATE_MALFORMED
_RSA_BITS = 4096
_RSA_EXPONENT = 65537


AMD: Final = encode_oid("1.3.6.1.4.1.3704.1")
"""Arc of the extensions that describe an endorsement key."""
SIMULATION: Final = encode_oid(SIMULATION_EXTENSION.dotted_string)
BASIC_CONSTRAINTS: Final = encode_oid("2.5.29.19")
KEY_USAGE: Final = encode_oid("2.5.29.15")
SUBJECT_KEY_ID: Final = encode_oid("2.5.29.14")
AUTHORITY_KEY_ID: Final = encode_oid("2.5.29.35")
CRL_POINTS: Final = encode_oid("2.5.29.31")


@dataclass(frozen=True)
class Role:
    """What a certificate may be used for here.

    name: its common name, with {} for the product.  critical: the values that its critical extensions may have.
    """

    title: str
    name: str
    authority: bool
    critical: Mapping[bytes, frozenset[bytes]]


_ANY_AUTHORITY = frozenset({bytes.fromhex("30030101ff")})
_LAST_AUTHORITY = frozenset({bytes.fromhex("30060101ff020100")})
_SIGNS_BOTH = frozenset({bytes.fromhex("03020106")})
_SIGNS_CERTIFICATES = frozenset(map(bytes.fromhex, ("03020204", "03020104")))
"""keyCertSign alone: as DER has it, and as AMD writes it, with one unused bit too few."""
_BELOW_ROOT = {BASIC_CONSTRAINTS: _LAST_AUTHORITY, KEY_USAGE: _SIGNS_CERTIFICATES}

ARK: Final = Role("ARK", "ARK-{}", authority=True, critical={BASIC_CONSTRAINTS: _ANY_AUTHORITY, KEY_USAGE: _SIGNS_BOTH})
ASK: Final = Role("ASK", "SEV-{}", authority=True, critical=_BELOW_ROOT)
ASVK: Final = Role("ASVK", "SEV-VLEK-{}", authority=True, critical=_BELOW_ROOT)
VCEK: Final = Role("VCEK", "SEV-VCEK", authority=False, critical={})
VLEK: Final = Role("VLEK", "SEV-VLEK", authority=False, critical={})

_OPTIONAL = frozenset({SUBJECT_KEY_ID, AUTHORITY_KEY_ID, CRL_POINTS, SIMULATION})


@dataclass(frozen=True)
class Certificate:
    """A certificate that an anchor vouches for.  Its dates are in `validity`, still to be held against a time.

    issuer, subject: DER names.
    """

    role: Role
    product: Product
    der: bytes
    serial: int
    issuer: bytes
    subject: bytes
    key: PublicKey
    validity: Validity
    extensions: Extensions

    @property
    def rsa_key(self) -> rsa.RSAPublicKey:
        """The key of an authority."""
        if not isinstance(self.key, rsa.RSAPublicKey):
            raise _malformed(self.role, "it is no authority")
        return self.key

    @property
    def ec_key(self) -> ec.EllipticCurvePublicKey:
        """The key of a VCEK or VLEK."""
        if not isinstance(self.key, ec.EllipticCurvePublicKey):
            raise _malformed(self.role, "it is an authority")
        return self.key


def read_root(der: bytes, roots: Roots) -> tuple[Certificate, Anchor]:
    """Return the root of a chain and the anchor that pins it; raises EvidenceError."""
    anchor = roots.anchor(Hierarchy.AMD, der)
    tbs, algorithm, _ = split_signed(der, _MALFORMED)
    fields = parse_certificate(tbs, algorithm)
    for product in Product:
        if fields.name == ARK.name.format(product.label):
            root = _build(der, fields, ARK, product, anchor)
            _check_issuer(root, root)
            return root, anchor
    raise _wrong_role((ARK,), "a product", fields.name)


def read_issued(der: bytes, issuer: Certificate, roles: tuple[Role, ...], anchor: Anchor) -> Certificate:
    """Return a certificate that `issuer` signed for one of `roles`; raises EvidenceError."""
    tbs, algorithm, signature = split_signed(der, _MALFORMED)
    what = f"the {' or '.join(role.title for role in roles)} certificate"
    verify_pss(issuer.rsa_key, signature, tbs, EvidenceCode.CHAIN_SIGNATURE, what)
    fields = parse_certificate(tbs, algorithm)
    for role in roles:
        if fields.name == role.name.format(issuer.product.label):
            certificate = _build(der, fields, role, issuer.product, anchor)
            _check_issuer(certificate, issuer)
            return certificate
    raise _wrong_role(roles, issuer.product.label, fields.name)


def _build(der: bytes, fields: Fields, role: Role, product: Product, anchor: Anchor) -> Certificate:
    _check_mark(fields.extensions, role, anchor)
    _check_extensions(fields.extensions, role)
    return Certificate(
        role=role,
        product=product,
        der=der,
        serial=fields.serial,
        issuer=fields.issuer,
        subject=fields.subject,
        key=_key(fields.key, role),
        validity=Validity(
            f"{role.title} certificate",
            fields.start,
            fields.end + 1,  # RFC 5280, 4.1.2.5: both dates are inclusive
            EvidenceCode.CERTIFICATE_EARLY,
            EvidenceCode.CERTIFICATE_EXPIRED,
        ),
        extensions=fields.extensions,
    )


def _check_mark(extensions: Extensions, role: Role, anchor: Anchor) -> None:
    """Hold the simulator's mark against the anchor: simulated roots require it, vendors' refuse it."""
    anchor.check_mark(f"{role.title} certificate", marked=SIMULATION in extensions)


def _check_extensions(extensions: Extensions, role: Role) -> None:
    """Hold the critical extensions to the role's, and refuse those that nothing here knows."""
    critical = {oid: value for oid, (is_critical, value) in extensions.items() if is_critical}
    if critical.keys() != role.critical.keys() or any(critical[oid] not in role.critical[oid] for oid in critical):
        raise EvidenceError(
            EvidenceCode.CHAIN_ROLE,
            f"the {role.title} certificate has other basic constraints or key usage",
            expected=_listed({oid: min(values) for oid, values in role.critical.items()}),
            found=_listed(critical),
        )
    for oid in extensions.keys() - critical.keys():
        of_amd = oid.startswith(AMD) and not role.authority
        if not of_amd and oid not in _OPTIONAL:
            raise _malformed(role, f"it has an unknown extension {oid.hex()}")


def _listed(extensions: Mapping[bytes, bytes]) -> str:
    return ", ".join(f"{oid.hex()} = {value.hex()}" for oid, value in sorted(extensions.items())) or "none"


def _key(spki: bytes, role: Role) -> PublicKey:
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise _malformed(role, "its key cannot be read") from None
    if role.authority:
        if isinstance(key, rsa.RSAPublicKey) and key.key_size == _RSA_BITS and _exponent(key) == _RSA_EXPONENT:
            return key
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise _malformed(role, "its key is not " + ("RSA with 4096 bits" if role.authority else "on P-384"))


def _exponent(key: rsa.RSAPublicKey) -> int:
    return key.public_numbers().e


def _check_issuer(certificate: Certificate, issuer: Certificate) -> None:
    if certificate.issuer != issuer.subject:
        raise EvidenceError(
            EvidenceCode.CHAIN_NAMES,
            f"the {certificate.role.title} certificate names another issuer",
            expected=issuer.subject.hex(),
            found=certificate.issuer.hex(),
        )


def _malformed(role: Role, why: str) -> EvidenceError:
    return EvidenceError(_MALFORMED, f"the {role.title} certificate is not usable: {why}")


def _wrong_role(roles: tuple[Role, ...], product: str, found: str) -> EvidenceError:
    names = " or ".join(role.name.format(product) for role in roles)
    return EvidenceError(
        EvidenceCode.CHAIN_ROLE,
        f"the certificate is none of {' or '.join(role.title for role in roles)}",
        expected=f"the common name {names}",
        found=found or "no common name",
    )
