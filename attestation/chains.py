"""Certificate chains of hierarchies that use ECDSA on P-384 throughout: those of AWS Nitro and of NVIDIA.

Source: RFC 5280, sections 4.1, 4.2.1.3, 4.2.1.9 and 6.1.

Bytes are authenticated before they reach the X.509 parser: the root by its pinned fingerprint, every other
certificate by its issuer's signature over the to-be-signed part.  Dates are data at first; `check_dates` holds them
against a time, so that a chain that was read once can serve again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from attestation import signed_der
from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import SIMULATION_EXTENSION, X509_ERRORS, Anchor, Hierarchy, Roots
from attestation.unsigned import unsigned
from attestation.validity import FETCH, Validity, certificate_dates, check_dates
from manifests.errors import ErrorCode

T = TypeVar("T", bound=x509.ExtensionType)

RAW_SIGNATURE = 96
"""r || s, 48 bytes each."""

_HALF = RAW_SIGNATURE // 2
_ALGORITHM = ec.ECDSA(hashes.SHA384())
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
"""AlgorithmIdentifier of ecdsa-with-SHA384."""

_USUAL = frozenset(
    {
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.AuthorityKeyIdentifier.oid,
        x509.SubjectKeyIdentifier.oid,
        x509.CRLDistributionPoints.oid,
        SIMULATION_EXTENSION,
    }
)


@dataclass(frozen=True)
class Profile:
    """What the chains of one hierarchy look like.

    shortest, longest: certificates, root and leaf included.  extensions: those that are known besides the usual ones.
    renewal: what to do when a certificate has expired.
    """

    title: str
    hierarchy: Hierarchy
    shortest: int
    longest: int
    extensions: frozenset[x509.ObjectIdentifier] = frozenset()
    renewal: str = FETCH


@dataclass(frozen=True)
class Certificate:
    """A certificate that an anchor vouches for."""

    title: str
    der: bytes
    x509: x509.Certificate
    key: ec.EllipticCurvePublicKey
    validity: Validity

    @property
    def common_name(self) -> str:
        """Common name of the subject; empty where there is not exactly one."""
        names = self.x509.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if len(names) == 1 else ""


@dataclass(frozen=True)
class Chain:
    """A chain whose signatures, names and roles hold under an anchor: root first, leaf last."""

    anchor: Anchor
    certificates: tuple[Certificate, ...] = field(repr=False)

    @property
    def leaf(self) -> Certificate:
        """The certificate of the key that signs."""
        return self.certificates[-1]

    @property
    def expires(self) -> int:
        """The first Unix second at which a certificate of the chain is no longer valid."""
        return min(certificate.validity.end for certificate in self.certificates)

    @property
    def validities(self) -> tuple[Validity, ...]:
        """The dates of every certificate."""
        return tuple(certificate.validity for certificate in self.certificates)

    def check_dates(self, now: int) -> None:
        """Raise DateError `certificate-early` or `certificate-expired`, which names all that fail."""
        check_dates(self.validities, now)


def read_chain(ders: Sequence[bytes], profile: Profile, roots: Roots, known: Chain | None = None) -> Chain:
    """Read a chain, root first; raises EvidenceError `chain-...` or `certificate-malformed`.

    `known` is a chain that was read before: certificates that both have in the same places are not verified again.
    """
    if not profile.shortest <= len(ders) <= profile.longest:
        raise EvidenceError(
            EvidenceCode.CHAIN_LENGTH,
            f"the {profile.title} chain has another length",
            expected=f"{profile.shortest} to {profile.longest} certificates",
            found=len(ders),
        )
    anchor = roots.anchor(profile.hierarchy, ders[0])
    certificates = _shared(known, ders, anchor)
    for index in range(len(certificates), len(ders)):
        place = _Place(profile, index, below=len(ders) - index - 1)
        certificates.append(_read(ders[index], place, certificates[-1] if certificates else None, anchor))
    return Chain(anchor, tuple(certificates))


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, code: ErrorCode) -> None:
    """Verify a signature r || s (96 bytes, big-endian) with SHA-384; raises EvidenceError `code`."""
    if len(signature) != RAW_SIGNATURE:
        raise EvidenceError(code, "the signature does not have 96 bytes", expected=RAW_SIGNATURE, found=len(signature))
    r, s = (int.from_bytes(part, "big") for part in (signature[:_HALF], signature[_HALF:]))
    verify_der(key, encode_dss_signature(r, s), message, code)


def verify_der(
    key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, code: ErrorCode, what: str | None = None
) -> None:
    """Verify a DER signature with SHA-384; raises EvidenceError `code`."""
    try:
        key.verify(signature, message, _ALGORITHM)
    except InvalidSignature:
        raise unsigned(code, key, signature, what) from None


@dataclass(frozen=True)
class _Place:
    """Where a certificate stands: `index` from the root, with `below` certificates under it."""

    profile: Profile
    index: int
    below: int

    @property
    def authority(self) -> bool:
        return self.below > 0

    def __str__(self) -> str:
        name = f"CA {self.index}" if self.authority else "leaf"
        return f"{self.profile.title} {'root' if self.index == 0 else name}"


def _shared(known: Chain | None, ders: Sequence[bytes], anchor: Anchor) -> list[Certificate]:
    """Return the first certificates of a known chain of the same length, as far as this one has the same."""
    if known is None or known.anchor != anchor or len(known.certificates) != len(ders):
        return []
    pairs = zip(known.certificates, ders, strict=True)
    return [certificate for certificate, _ in itertools.takewhile(lambda pair: pair[0].der == pair[1], pairs)]


def _read(der: bytes, place: _Place, issuer: Certificate | None, anchor: Anchor) -> Certificate:
    """Return a certificate that its issuer signed; the root has none, and is the one that the anchor pins."""
    if issuer is not None:
        tbs, signature = split_signed(der, EvidenceCode.CERTIFICATE_MALFORMED)
        verify_der(issuer.key, signature, tbs, EvidenceCode.CHAIN_SIGNATURE, f"the {place} certificate")
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        key = certificate.public_key()
        _ = certificate.subject, certificate.issuer  # parsed when first asked for, as dates are
        validity = _validity(certificate, place)
    except X509_ERRORS:
        raise _malformed(place, "it cannot be parsed") from None
    _check_mark(extensions, place, anchor)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _malformed(place, "its key is not on P-384")
    unknown = {extension.oid for extension in extensions} - _USUAL - place.profile.extensions
    if unknown:
        raise _malformed(place, f"it has an unknown extension {min(oid.dotted_string for oid in unknown)}")
    _check_role(extensions, place)
    _check_names(certificate, certificate if issuer is None else issuer.x509, place)
    return Certificate(str(place), der, certificate, key, validity)


def split_signed(der: bytes, code: EvidenceCode) -> tuple[bytes, bytes]:
    """Return (to-be-signed part, DER signature) of a certificate or revocation list; raises EvidenceError `code`."""
    tbs, _, signature = signed_der.split_signed(der, code, (_ECDSA_SHA384,), "ECDSA with SHA-384")
    return tbs, signature


def _check_mark(extensions: x509.Extensions, place: _Place, anchor: Anchor) -> None:
    """Hold the simulator's mark against the anchor: simulated roots require it, vendors' refuse it."""
    marked = any(extension.oid == SIMULATION_EXTENSION for extension in extensions)
    anchor.check_mark(f"{place} certificate", marked=marked)


def _check_role(extensions: x509.Extensions, place: _Place) -> None:
    """Hold basic constraints, path length and key usage against the place (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    usage = _value(extensions, x509.KeyUsage)
    constraints = _value(extensions, x509.BasicConstraints)
    if usage is None:
        raise _malformed(place, "it lacks key usage")
    if not place.authority:
        if (constraints is not None and constraints.value.ca) or usage.value.key_cert_sign or usage.value.crl_sign:
            raise _wrong_role(place, "no authority", "an authority")
        if not usage.value.digital_signature:
            raise _wrong_role(place, "the use digitalSignature", "other uses")
        return
    if constraints is None or not constraints.critical or not constraints.value.ca or not usage.value.key_cert_sign:
        raise _wrong_role(place, "an authority that signs certificates", "none")
    most = constraints.value.path_length
    if most is not None and place.below - 1 > most:
        raise _wrong_role(place, f"at most {most} authorities below", place.below - 1)


def _value(extensions: x509.Extensions, kind: type[T]) -> x509.Extension[T] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _check_names(certificate: x509.Certificate, issuer: x509.Certificate, place: _Place) -> None:
    if certificate.issuer != issuer.subject:
        raise EvidenceError(
            EvidenceCode.CHAIN_NAMES,
            f"the {place} certificate names another issuer",
            expected=issuer.subject.rfc4514_string(),
            found=certificate.issuer.rfc4514_string(),
        )


def _validity(certificate: x509.Certificate, place: _Place) -> Validity:
    start, last = certificate_dates(certificate)
    return Validity(
        f"{place} certificate",
        start,
        last + 1,
        EvidenceCode.CERTIFICATE_EARLY,
        EvidenceCode.CERTIFICATE_EXPIRED,
        place.profile.renewal,
    )


def _malformed(place: _Place, why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.CERTIFICATE_MALFORMED, f"the {place} certificate is not usable: {why}")


def _wrong_role(place: _Place, expected: str, found: object) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.CHAIN_ROLE, f"the {place} certificate is not one for its place", expected=expected, found=found
    )
