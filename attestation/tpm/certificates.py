"""The certificates that are packed with a key's quote: that they are the key's own, each issued by the next.

Source: RFC 5280, sections 4 and 6.1.3.  These are files of whoever packs them, and read before anything vouches for
them.  The checks are those of `chain.verify_chain`, as if the last were trusted; before them come those that say which
file is the wrong one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import SIMULATION_EXTENSION, X509_ERRORS, Roots
from attestation.signed_der import SignedDer
from attestation.tpm.chain import verify_chain
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import fingerprint
from attestation.tpm.signature import PublicKey
from attestation.unsigned import unsigned

_PEM = b"-----BEGIN"


def read_certificates(data: bytes, name: str) -> tuple[bytes, ...]:
    """Return the DER certificates of a file, PEM or DER, in its order; name: the file's, for the error.

    Raises EvidenceError `certificate-malformed`.
    """
    try:
        if _PEM in data:
            return tuple(each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(data))
        x509.load_der_x509_certificate(data)
    except X509_ERRORS:
        raise _malformed(name) from None
    return (data,)


def check_certificates(chain: Sequence[bytes], names: Sequence[str], key: PublicKey) -> None:
    """Check that the first of these DER certificates is of `key`, and that each is issued by the next, in its role.

    names: what each is called, its file.  Whether the last is to be trusted, and whether their dates hold, is left to
    whoever verifies.  Raises EvidenceError `certificate-malformed`, `tpm-key-certificate`, or as `verify_chain` does.
    """
    keys = [_key(der, name) for der, name in zip(chain, names, strict=True)]
    if keys and fingerprint(keys[0]) != fingerprint(key):
        raise EvidenceError(
            TpmCode.KEY_CERTIFICATE,
            f"{names[0]}: {TpmCode.KEY_CERTIFICATE.meaning}",
            expected=fingerprint(key).hex(),
            found=fingerprint(keys[0]).hex(),
            remedy="give the certificate of the key that quoted first, and its issuers after it",
        )
    if len(keys) == 1:
        raise EvidenceError(
            EvidenceCode.CHAIN_LENGTH,
            f"{names[0]} is the key's certificate, and its issuer's is missing",
            expected="the certificates up to the root",
            found=1,
            remedy="give the issuers' certificates, too, each with --certificate",
        )
    for der, name, issuer in zip(chain, names, keys[1:], strict=False):
        _check_issued(der, name, issuer)
    if keys:
        verify_chain(tuple(chain), _trusting(chain[-1]))


def _trusting(root: bytes) -> Roots:
    """Return roots under which a chain that ends in this certificate fails for nothing but what it is itself."""
    fingerprint_of_root = hashlib.sha256(root).digest()
    try:
        extensions = x509.load_der_x509_certificate(root).extensions
    except X509_ERRORS:
        raise _malformed("the last certificate") from None
    if any(extension.oid == SIMULATION_EXTENSION for extension in extensions):
        return Roots.simulated_fingerprints(fingerprint_of_root)
    return Roots.vendor().with_tpm([fingerprint_of_root])


def _check_issued(der: bytes, name: str, issuer: PublicKey) -> None:
    signed = SignedDer.split(der, EvidenceCode.CERTIFICATE_MALFORMED)
    signed.check_algorithm(TpmCode.ALGORITHM, name)
    if not signed.verifies(issuer):
        raise unsigned(EvidenceCode.CHAIN_SIGNATURE, issuer, signed.signature, name)


def _key(der: bytes, name: str) -> PublicKey:
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except X509_ERRORS:
        raise _malformed(name) from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise _malformed(name)
    return key


def _malformed(name: str) -> EvidenceError:
    return EvidenceError(
        EvidenceCode.CERTIFICATE_MALFORMED,
        f"{name} is no certificate of an RSA key or one on a curve",
        expected="certificates, PEM or DER",
        remedy="give the key's certificate, and those of its issuers up to the root",
    )
