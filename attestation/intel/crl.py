"""Revocation lists of the root CA and of the PCK CAs.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 2; RFC 5280,
section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from attestation.der import INTEGER, SEQUENCE, DerReader
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import ecdsa
from attestation.intel.certificates import Certificate, split_signed
from attestation.roots import X509_ERRORS
from attestation.validity import Validity, crl_dates

MAX_CRL = 8 * 1024 * 1024
"""An entry takes some 40 bytes: room for 200,000 revoked platforms."""

_COMPLETE_LIST = frozenset({x509.AuthorityKeyIdentifier.oid, x509.CRLNumber.oid})
"""Any other extension may mean that the list is a part or a difference of one."""


@dataclass(frozen=True)
class RevocationList:
    """A verified revocation list: serial numbers, and the dates still to be held against a time."""

    issuer: Certificate
    revoked: frozenset[int]
    validity: Validity

    def check(self, certificate: Certificate) -> None:
        """Refuse a revoked certificate of this issuer; raises EvidenceError `certificate-revoked`."""
        if certificate.x509.serial_number in self.revoked:
            raise EvidenceError(
                EvidenceCode.CERTIFICATE_REVOKED,
                f"the {certificate.role.title} certificate was revoked by its issuer",
                expected="a serial number that is not on the list",
                found=f"{certificate.x509.serial_number:x}",
                remedy="do not use this platform; its keys are known to be compromised, or it was withdrawn",
            )


def read_crl(der: bytes, issuer: Certificate) -> RevocationList:
    """Verify and read the list of `issuer`; raises EvidenceError `crl-...`.

    Its nextUpdate is exclusive.  A list from the future is refused later by `validity`.
    """
    if len(der) > MAX_CRL:
        raise _malformed("it is too large")
    tbs, signature = split_signed(der, EvidenceCode.CRL_MALFORMED)
    ecdsa.verify_der(issuer.key, signature, tbs, EvidenceCode.CRL_SIGNATURE)
    try:
        crl = x509.load_der_x509_crl(der)
        extensions = crl.extensions
        revoked = frozenset(entry.serial_number for entry in crl)
        validity = _validity(crl, issuer)
    except X509_ERRORS:
        raise _malformed("it cannot be parsed") from None
    if _issuer_of(tbs) != issuer.subject:
        raise EvidenceError(
            EvidenceCode.CRL_ISSUER,
            "the revocation list names another issuer",
            expected=f"the DER name {issuer.subject.hex()}",
            found=f"the DER name {_issuer_of(tbs).hex()}",
        )
    if any(extension.oid not in _COMPLETE_LIST for extension in extensions):
        raise _malformed("it is not a complete list")
    return RevocationList(issuer, revoked, validity)


def _issuer_of(tbs: bytes) -> bytes:
    """Return the issuer, as a DER name, of a list's to-be-signed part (RFC 5280, 5.1.2)."""
    reader = DerReader(tbs, EvidenceCode.CRL_MALFORMED).inside(SEQUENCE)
    reader.content(INTEGER)
    reader.content(SEQUENCE)
    return reader.element(SEQUENCE)


def _validity(crl: x509.CertificateRevocationList, issuer: Certificate) -> Validity:
    start, end = crl_dates(crl)
    if end is None:
        raise _malformed("it has no next update")
    return Validity(
        f"revocation list of the {issuer.role.title}",
        start,
        end,
        EvidenceCode.CRL_EARLY,
        EvidenceCode.CRL_EXPIRED,
    )


def _malformed(why: str) -> EvidenceError:
    return EvidenceError(EvidenceCode.CRL_MALFORMED, f"the revocation list is not usable: {why}")
