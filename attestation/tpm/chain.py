"""Certificate chains of attestation keys: from a root that the policy names down to the key's certificate.

Source: RFC 5280, sections 4 and 6; TCG EK Credential Profile for TPM Family 2.0, and TCG Infrastructure WG "AIK
certificate" (extended key usage tcg-kp-AIKCertificate).

Bytes are authenticated before they reach the X.509 parser: the root by its fingerprint, every other certificate by its
issuer's signature over the to-be-signed part.  There are no revocation lists: makers of TPMs publish none in common,
so a root or key that is no longer trusted is to be taken out of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import SIMULATION_EXTENSION, X509_ERRORS, Anchor, Hierarchy, Roots
from attestation.signed_der import SignedDer
from attestation.tpm.algorithms import CURVES
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import check_rsa_size
from attestation.tpm.signature import PublicKey
from attestation.unsigned import unsigned
from attestation.validity import Validity, certificate_dates

T = TypeVar("T", bound=x509.ExtensionType)

MAX_CHAIN = 6
MAX_CERTIFICATE = 8 * 1024
AIK_CERTIFICATE: Final = x509.ObjectIdentifier("2.23.133.8.3")
"""tcg-kp-AIKCertificate."""

_CURVES = frozenset(curve.name for curve in CURVES.values())

_UNDERSTOOD = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.SubjectAlternativeName.oid,
        x509.CertificatePolicies.oid,
    }
)
"""Extensions that may be critical."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that an anchor vouches for; its dates are still to be held against a time."""

    title: str
    body: x509.Certificate
    extensions: x509.Extensions
    key: PublicKey
    validity: Validity


@dataclass(frozen=True)
class Chain:
    """A verified chain: the attestation key that it certifies, its anchor, and the dates of every certificate."""

    key: PublicKey
    anchor: Anchor
    validities: tuple[Validity, ...]


def verify_chain(chain: tuple[bytes, ...], roots: Roots) -> Chain:
    """Verify DER certificates, the key's first and the root last, under `roots`; raises EvidenceError.

    Dates are left to the caller.
    """
    if not 2 <= len(chain) <= MAX_CHAIN:
        raise EvidenceError(
            EvidenceCode.CHAIN_LENGTH,
            "the chain of the attestation key has another length",
            expected=f"2 to {MAX_CHAIN} certificates",
            found=len(chain),
        )
    *issued, root = chain
    anchor = roots.anchor(Hierarchy.TPM, root)
    certificates = [_load(root, "TPM root certificate", anchor)]
    _check_authority(certificates[0], below=len(issued) - 1)
    for below in range(len(issued) - 1, -1, -1):
        certificates.append(_issued(issued[below], certificates[-1], anchor, below))
    return Chain(certificates[-1].key, anchor, tuple(certificate.validity for certificate in certificates))


def _issued(der: bytes, issuer: Certificate, anchor: Anchor, below: int) -> Certificate:
    """Return a certificate that `issuer` signed, with `below` more under it: none under the key's own."""
    title = "TPM CA certificate" if below else "attestation key's certificate"
    _check_signature(der, issuer, title)
    certificate = _load(der, title, anchor)
    if certificate.body.issuer != issuer.body.subject:
        raise EvidenceError(
            EvidenceCode.CHAIN_NAMES,
            f"the {title} names another issuer",
            expected=issuer.body.subject.rfc4514_string(),
            found=certificate.body.issuer.rfc4514_string(),
        )
    if below:
        _check_authority(certificate, below=below - 1)
    else:
        _check_leaf(certificate)
    return certificate


def _check_signature(der: bytes, issuer: Certificate, title: str) -> None:
    signed = SignedDer.split(der, EvidenceCode.CERTIFICATE_MALFORMED)
    signed.check_algorithm(TpmCode.ALGORITHM, f"the {title}")
    if not signed.verifies(issuer.key):
        raise unsigned(EvidenceCode.CHAIN_SIGNATURE, issuer.key, signed.signature, f"the {title}")


def _load(der: bytes, title: str, anchor: Anchor) -> Certificate:
    """Parse a certificate that is authentic; raises EvidenceError."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions, key = certificate.extensions, certificate.public_key()
        _ = certificate.subject, certificate.issuer  # parsed when first asked for
        start, last = certificate_dates(certificate)
    except X509_ERRORS:
        raise _malformed(title, "it cannot be parsed") from None
    _check_mark(extensions, title, anchor)
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise _malformed(title, f"its critical extension {extension.oid.dotted_string} is unknown")
    if isinstance(key, rsa.RSAPublicKey):
        check_rsa_size(key.key_size)
    elif not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _malformed(title, "its key is neither RSA nor on a NIST curve")
    validity = Validity(title, start, last + 1, EvidenceCode.CERTIFICATE_EARLY, EvidenceCode.CERTIFICATE_EXPIRED)
    return Certificate(title, certificate, extensions, key, validity)


def _check_mark(extensions: x509.Extensions, title: str, anchor: Anchor) -> None:
    """Hold the simulator's mark against the anchor: simulated roots require it, others refuse it."""
    marked = any(extension.oid == SIMULATION_EXTENSION for extension in extensions)
    anchor.check_mark(title, marked=marked)


def _check_authority(certificate: Certificate, *, below: int) -> None:
    """Refuse what may not sign certificates, or not above `below` further authorities (RFC 5280, 6.1.4)."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    longest = constraints.path_length
    if not constraints.ca or not usage.key_cert_sign or (longest is not None and below > longest):
        raise _wrong_role(certificate, "a certificate authority of sufficient path length", "another")


def _check_leaf(certificate: Certificate) -> None:
    """Refuse what does not certify an attestation key: an authority, an endorsement key, a server."""
    usage = _extension(certificate, x509.KeyUsage)
    if not usage.digital_signature or usage.key_cert_sign:
        raise _wrong_role(certificate, "key usage digitalSignature alone", "another key usage")
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise _wrong_role(certificate, "an attestation key", "a certificate authority")
    purposes = [
        purpose
        for extension in certificate.extensions
        if isinstance(extension.value, x509.ExtendedKeyUsage)
        for purpose in extension.value
    ]
    if AIK_CERTIFICATE not in purposes:
        found = ", ".join(purpose.dotted_string for purpose in purposes) or "no extended key usage"
        raise _wrong_role(certificate, f"extended key usage {AIK_CERTIFICATE.dotted_string}", found)


def _extension(certificate: Certificate, kind: type[T]) -> T:
    try:
        value: T = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        raise _malformed(certificate.title, f"it lacks {kind.__name__}") from None
    return value


def _malformed(title: str, why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.CERTIFICATE_MALFORMED, f"the {title} is not usable: {why}")


def _wrong_role(certificate: Certificate, expected: str, found: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.CHAIN_ROLE, f"the {certificate.title} has another role", expected=expected, found=found
    )
