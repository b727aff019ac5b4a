"""Certificates in the roles that Intel's hierarchy gives them.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, sections 1.3 and 2.

Bytes are authenticated before they reach the X.509 parser: the root by its pinned fingerprint, every other
certificate by its issuer's signature over the to-be-signed part.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import signed_der
from attestation.der import INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import ecdsa
from attestation.roots import SIMULATION_EXTENSION, X509_ERRORS, Anchor, Hierarchy, Roots
from attestation.validity import Validity, certificate_dates

SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier of ecdsa-with-SHA256, the only one in this hierarchy."""

_VERSION_TAG = 0xA0
_COMMON_NAME = re.compile(rb"\x06\x03\x55\x04\x03[\x0c\x13][\x00-\x7f]")
"""Object identifier 2.5.4.3, then tag and length of a UTF8String or PrintableString."""

_KNOWN_EXTENSIONS = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.AuthorityKeyIdentifier.oid,
        x509.SubjectKeyIdentifier.oid,
        x509.CRLDistributionPoints.oid,
        SGX_EXTENSION,
        SIMULATION_EXTENSION,
    }
)


Extensions: TypeAlias = Mapping[x509.ObjectIdentifier, x509.Extension[Any]]


@dataclass(frozen=True)
class Role:
    """What a certificate may be used for here; `names` are how its common name must end."""

    title: str
    names: tuple[str, ...]
    authority: bool


ROOT = Role("root CA", ("SGX Root CA",), authority=True)
PCK_CA = Role("PCK CA", ("SGX PCK Processor CA", "SGX PCK Platform CA"), authority=True)
PCK = Role("PCK", ("SGX PCK Certificate",), authority=False)
TCB_SIGNING = Role("TCB signing", ("SGX TCB Signing",), authority=False)


@dataclass(frozen=True)
class Certificate:
    """A certificate that an anchor vouches for.  Its dates are in `validity`, still to be held against a time."""

    role: Role
    der: bytes
    x509: x509.Certificate
    key: ec.EllipticCurvePublicKey
    validity: Validity
    issuer: bytes
    subject: bytes
    """Issuer and subject as DER names: a CA writes its name in one way (RFC 5280, 7.1)."""

    @property
    def common_name(self) -> str:
        """Common name of the subject."""
        return _common_name(self.subject)


@functools.lru_cache(maxsize=8)
def read_root(der: bytes, roots: Roots) -> tuple[Certificate, Anchor]:
    """Return the root of a chain and the anchor that pins it; raises EvidenceError.

    The few that are pinned are read once: nothing of them changes but the time, against which their dates are held.
    """
    anchor = roots.anchor(Hierarchy.INTEL, der)
    root = _read(der, split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)[0], ROOT, anchor)
    _check_issuer(root, root)
    return root, anchor


def read_issued(der: bytes, issuer: Certificate, role: Role, anchor: Anchor) -> Certificate:
    """Return a certificate that `issuer` signed for `role`; raises EvidenceError."""
    tbs, signature = split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)
    ecdsa.verify_der(issuer.key, signature, tbs, EvidenceCode.CHAIN_SIGNATURE)
    certificate = _read(der, tbs, role, anchor)
    _check_issuer(certificate, issuer)
    return certificate


def split_signed(der: bytes, code: EvidenceCode) -> tuple[bytes, bytes]:
    """Return (to-be-signed part, DER signature) of a certificate or revocation list; raises EvidenceError `code`."""
    tbs, _, signature = signed_der.split_signed(der, code, (_ECDSA_SHA256,), "ECDSA with SHA-256")
    return tbs, signature


def names_of(tbs: bytes) -> tuple[bytes, bytes]:
    """Return issuer and subject, as DER names, of a certificate's to-be-signed part (RFC 5280, 4.1).

    Raises EvidenceError `certificate-malformed`.
    """
    reader = DerReader(tbs, EvidenceCode.CERTIFICATE_MALFORMED).inside(SEQUENCE)
    reader.content(_VERSION_TAG)
    reader.content(INTEGER)
    reader.content(SEQUENCE)
    issuer = reader.element(SEQUENCE)
    reader.content(SEQUENCE)
    return issuer, reader.element(SEQUENCE)


def _read(der: bytes, tbs: bytes, role: Role, anchor: Anchor) -> Certificate:
    issuer, subject = names_of(tbs)
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = {extension.oid: extension for extension in certificate.extensions}
        key = certificate.public_key()
        validity = _validity(certificate, role)
    except X509_ERRORS:
        raise _malformed(role, "it cannot be parsed") from None
    _check_mark(extensions, role, anchor)
    if unknown := extensions.keys() - _KNOWN_EXTENSIONS:
        raise _malformed(role, f"it has an unknown extension {min(oid.dotted_string for oid in unknown)}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _malformed(role, "its key is not on P-256")
    _check_role(subject, extensions, role)
    return Certificate(role, der, certificate, key, validity, issuer, subject)


def _check_mark(extensions: Extensions, role: Role, anchor: Anchor) -> None:
    """Hold the simulator's mark against the anchor: simulated roots require it, vendors' refuse it."""
    anchor.check_mark(f"{role.title} certificate", marked=SIMULATION_EXTENSION in extensions)


def _check_role(subject: bytes, extensions: Extensions, role: Role) -> None:
    constraints = extensions.get(x509.BasicConstraints.oid)
    usage = extensions.get(x509.KeyUsage.oid)
    if constraints is None or usage is None:
        raise _malformed(role, "it lacks basic constraints or key usage")
    usable = usage.value.key_cert_sign and usage.value.crl_sign
    if not role.authority:
        usable = usage.value.digital_signature and not usage.value.key_cert_sign and not usage.value.crl_sign
    critical = constraints.critical and usage.critical
    if constraints.value.ca != role.authority or not usable or not critical:
        raise _wrong_role(role, "constraints and key usage", "other constraints or key usage")
    name = _common_name(subject)
    if not name.endswith(role.names):
        raise _wrong_role(role, f"a common name ending in {' or '.join(role.names)}", name)


def _check_issuer(certificate: Certificate, issuer: Certificate) -> None:
    if certificate.issuer != issuer.subject:
        raise EvidenceError(
            EvidenceCode.CHAIN_NAMES,
            f"the {certificate.role.title} certificate names another issuer",
            expected=_readable(lambda: issuer.x509.subject),
            found=_readable(lambda: certificate.x509.issuer),
        )


def _readable(name: Callable[[], x509.Name]) -> str:
    """Return a name as text; certificates parse theirs when first asked, and it may be none."""
    try:
        return name().rfc4514_string()
    except X509_ERRORS:
        return "a name that cannot be parsed"


def _validity(certificate: x509.Certificate, role: Role) -> Validity:
    start, last = certificate_dates(certificate)
    return Validity(
        f"{role.title} certificate",
        start,
        last + 1,
        EvidenceCode.CERTIFICATE_EARLY,
        EvidenceCode.CERTIFICATE_EXPIRED,
    )


def _common_name(subject: bytes) -> str:
    """Return a DER name's one common name, in UTF-8 or of printable characters; else an empty text."""
    found = _COMMON_NAME.findall(subject)
    if len(found) != 1:
        return ""
    start = subject.index(found[0]) + len(found[0])
    return subject[start : start + found[0][-1]].decode("utf-8", "replace")


def _malformed(role: Role, why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.CERTIFICATE_MALFORMED, f"the {role.title} certificate is not usable: {why}")


def _wrong_role(role: Role, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.CHAIN_ROLE, f"the certificate is none of a {role.title}", expected=expected, found=found
    )
