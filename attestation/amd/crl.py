"""Revocation lists of AMD's root keys.

Source: AMD 57230, section 4 (the lists of the key distribution service, signed by the ARK with RSASSA-PSS); RFC 5280,
section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from attestation.amd.certificates import Certificate
from attestation.amd.signatures import split_signed, verify_pss
from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import X509_ERRORS
from attestation.validity import Validity, crl_dates

MAX_CRL: Final = 8 * 1024 * 1024
"""As for other vendors; AMD's lists have a few entries."""

_PARTIAL = frozenset({x509.IssuingDistributionPoint.oid, x509.DeltaCRLIndicator.oid})
"""What makes a list a part of one, one of other authorities' certificates, or a difference."""


@dataclass(frozen=True)
class RevocationList:
    """A verified list of the ARK: serial numbers, and the dates still to be held against a time."""

    revoked: frozenset[int]
    validity: Validity

    def check(self, certificate: Certificate) -> None:
        """Refuse a certificate whose serial number is listed; raises EvidenceError `certificate-revoked`."""
        if certificate.serial in self.revoked:
            raise EvidenceError(
                EvidenceCode.CERTIFICATE_REVOKED,
                f"the {certificate.role.title} certificate was revoked",
                expected="a serial number that is not on the list",
                found=f"{certificate.serial:x}",
                remedy="do not use this platform; its keys are known to be compromised, or it was withdrawn",
            )


def read_crl(der: bytes, ark: Certificate) -> RevocationList:
    """Verify and read the list that the ARK signed; raises EvidenceError `crl-...`.

    Its nextUpdate is exclusive.  A list from the future is refused later by `validity`.
    """
    if len(der) > MAX_CRL:
        raise _malformed("it is too large")
    tbs, _, signature = split_signed(der, EvidenceCode.CRL_MALFORMED)
    verify_pss(ark.rsa_key, signature, tbs, EvidenceCode.CRL_SIGNATURE, "the revocation list")
    try:
        crl = x509.load_der_x509_crl(der)
        extensions = crl.extensions
        revoked = frozenset(entry.serial_number for entry in crl)
        validity = _validity(crl)
        found = crl.issuer  # parsed when first asked for
        expected = x509.load_der_x509_certificate(ark.der).subject
    except X509_ERRORS:
        raise _malformed("it cannot be parsed") from None
    if found != expected:
        raise EvidenceError(
            EvidenceCode.CRL_ISSUER,
            "the revocation list names another issuer",
            expected=expected.rfc4514_string(),
            found=found.rfc4514_string(),
        )
    for extension in extensions:
        if extension.critical or extension.oid in _PARTIAL:
            raise _malformed(f"it may not be a complete list: it has the extension {extension.oid.dotted_string}")
    return RevocationList(revoked, validity)


def _validity(crl: x509.CertificateRevocationList) -> Validity:
    start, end = crl_dates(crl)
    if end is None:
        raise _malformed("it has no next update")
    return Validity(
        "revocation list of the ARK",
        start,
        end,
        EvidenceCode.CRL_EARLY,
        EvidenceCode.CRL_EXPIRED,
    )


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.CRL_MALFORMED, f"the revocation list is not usable: {why}")
