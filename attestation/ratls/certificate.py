"""RA-TLS certificates: bytes to a key, and the evidence that is bound to it.

Source: RFC 5280, section 4; for the extensions see `claims`.

Checked here, beyond what Gramine's own verifier checks: the certificate uses up its bytes and is strict DER; its
signature is that of its own key; no extension comes twice; where both forms of evidence are carried, both are read and
both have to hold; the claims are a closed map with the hash of exactly one key; every byte of the report data counts.
The dates say nothing, because whoever makes the certificate writes them: they are data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.der import SEQUENCE, DerReader
from attestation.errors import EvidenceError
from attestation.ratls.claims import BoundQuote, read_legacy, read_tagged
from attestation.ratls.errors import RatlsCode
from attestation.roots import X509_ERRORS
from attestation.signed_der import TITLE, SignedDer, SigningKey
from attestation.validity import certificate_dates, rfc3339

TAGGED_EVIDENCE: Final = x509.ObjectIdentifier("2.23.133.5.4.9")
"""tcg-dice-TaggedEvidence."""
LEGACY: Final = (
    x509.ObjectIdentifier("0.6.9.42.840.113741.1337.6"),
    x509.ObjectIdentifier("1.2.840.113741.1337.6"),
)
"""Gramine's own extension: as Gramine writes it, with tag and length of the identifier as its first arcs; as meant."""

MAX_CERTIFICATE = 128 * 1024
_MAX_SERIAL = (1 << 160) - 1
"""20 octets (RFC 5280, 4.1.2.2)."""
_VERSION_TAG = 0xA0
_MIN_RSA_BITS = 2048
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_OIDS = (bytes.fromhex("0606678105050409"), bytes.fromhex("2a864886f84d8a3906"))
"""DER of the first identifier, and what both forms of the legacy one end in."""

_Reader = Callable[[bytes, bytes], BoundQuote]
_READERS: dict[x509.ObjectIdentifier, _Reader] = {TAGGED_EVIDENCE: read_tagged, **dict.fromkeys(LEGACY, read_legacy)}


@dataclass(frozen=True)
class RatlsCertificate:
    """A parsed certificate whose signature is its own key's; the evidence inside is not verified.

    key: DER SubjectPublicKeyInfo.  bound: the evidence in it, tagged evidence first.  not_before, not_after: Unix
    seconds, chosen by whoever made the certificate.
    """

    der: bytes = field(repr=False)
    key: bytes = field(repr=False)
    bound: tuple[BoundQuote, ...]
    not_before: int
    not_after: int

    tee: ClassVar[str] = "ratls"
    version: ClassVar[int] = 1

    @property
    def report_data(self) -> bytes:
        """The report data of the evidence, which binds the certificate's key and nothing else."""
        return self.bound[0].quote.report_data

    def serialize(self) -> bytes:
        """Return the certificate."""
        return self.der

    def to_dict(self) -> dict[str, Any]:
        """Return the key, the dates, and every field of the evidence."""
        return {
            "public_key": self.key.hex(),
            "not_before": rfc3339(self.not_before),
            "not_after": rfc3339(self.not_after),
            **{each.form: {"tee": each.quote.tee, "quote": each.quote.to_dict()} for each in self.bound},
        }


def looks_like(data: bytes) -> bool:
    """Tell whether bytes look like a DER certificate that carries evidence."""
    return data[:1] == b"\x30" and any(oid in data[:MAX_CERTIFICATE] for oid in _OIDS)


def parse_certificate(der: bytes) -> RatlsCertificate:
    """Parse a DER certificate.

    Raises EvidenceError with a `ratls-...` or `cbor-malformed` code, or one of the quote inside.
    """
    if len(der) > MAX_CERTIFICATE:
        raise _malformed(f"it is longer than {MAX_CERTIFICATE} bytes")
    signed = SignedDer.split(der, RatlsCode.CERTIFICATE)
    signed.check_algorithm(RatlsCode.KEY_KIND, "the certificate")
    _check_serial(signed.tbs)
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions, key = certificate.extensions, certificate.public_key()
        dates = certificate_dates(certificate)
        own_issuer = certificate.issuer == certificate.subject  # names are parsed when first asked for
    except X509_ERRORS:
        raise _malformed("it cannot be parsed, an extension comes twice, or a date is none") from None
    if not signed.verifies(_check_key(key)) or not own_issuer:
        raise EvidenceError(
            RatlsCode.SIGNATURE, RatlsCode.SIGNATURE.meaning, expected="a self-signed certificate", found="another one"
        )
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RatlsCertificate(
        der=bytes(der),
        key=encoded,
        bound=_evidence(extensions, encoded),
        not_before=dates[0],
        not_after=dates[1],
    )


def _check_serial(tbs: bytes) -> None:
    """Refuse a serial number that is zero, negative or too long (RFC 5280, 4.1.2.2).

    The X.509 parser, which sees these bytes before any signature is checked, only warns of one.
    """
    reader = DerReader(tbs, RatlsCode.CERTIFICATE).inside(SEQUENCE)
    if reader.more and reader.next_tag() == _VERSION_TAG:
        reader.content(_VERSION_TAG)
    if not reader.integer(_MAX_SERIAL):
        raise reader.refuse("the certificate has the serial number 0")


def _check_key(key: object) -> SigningKey:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise EvidenceError(
        RatlsCode.KEY_KIND,
        RatlsCode.KEY_KIND.meaning,
        expected=f"RSA from {_MIN_RSA_BITS} bits or a NIST curve; {TITLE}",
    )


def _evidence(extensions: x509.Extensions, key: bytes) -> tuple[BoundQuote, ...]:
    """Read all evidence that a certificate carries, in the order of preference."""
    carried = {extension.oid: extension.value.public_bytes() for extension in extensions if extension.oid in _READERS}
    if not carried:
        raise EvidenceError(
            RatlsCode.NO_EVIDENCE,
            RatlsCode.NO_EVIDENCE.meaning,
            expected=" or ".join(oid.dotted_string for oid in _READERS),
            found=", ".join(extension.oid.dotted_string for extension in extensions) or "no extension",
        )
    return tuple(read(carried[oid], key) for oid, read in _READERS.items() if oid in carried)


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(RatlsCode.CERTIFICATE, f"the certificate is not usable: {why}")
