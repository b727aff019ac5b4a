"""The certificates that trust may end in.

A root is pinned by the SHA-256 of its DER certificate: the copy that travels with evidence or collateral must be the
pinned one, bit for bit.  Whether evidence is simulated follows from the anchor that its chains reach, never from the
evidence: certificates of a simulated platform carry a private extension, which vendor anchors refuse and simulated
anchors require.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode, EvidenceError

SIMULATION_EXTENSION: Final = x509.ObjectIdentifier("2.25.119772707208057421482615936699027391313")
"""A UUID-based identifier (ITU-T X.667) of 5a1b6263-a9a7-5efa-bced-5ebe760f8351.  Its value is DER NULL."""

INTEL_SGX_ROOT: Final = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
"""SHA-256 of "Intel SGX Root CA", serial 22650cd65a9d3489f383b49552bf501b392706ac, valid until 2049-12-31."""

X509_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the X.509 parser raises for certificates and revocation lists that are none."""

_MADE_HERE = object()


@dataclass(frozen=True)
class Anchor:
    """One pinned root: the SHA-256 of its DER certificate, and the class of the platforms below it."""

    fingerprint: bytes
    simulated: bool


class Roots:
    """The anchors of one verification.  Made by `vendor`, `simulated` or `dangerous_replacement` only."""

    def __init__(self, made_here: object, intel: tuple[Anchor, ...]) -> None:
        """Not for callers."""
        if made_here is not _MADE_HERE:
            raise TypeError("use Roots.vendor() or Roots.simulated(certificate)")
        self._intel = intel

    @classmethod
    def vendor(cls) -> Roots:
        """Trust the silicon vendors' own roots, and nothing else."""
        return cls(_MADE_HERE, (Anchor(INTEL_SGX_ROOT, simulated=False),))

    @classmethod
    def simulated(cls, certificate: bytes) -> Roots:
        """Trust one simulated platform, given its root certificate (PEM or DER), and no hardware.

        Raises EvidenceError `certificate-malformed`, or `chain-not-simulated` for a root that is not marked as one.
        """
        return cls.simulated_fingerprint(fingerprint_of_simulated(certificate))

    @classmethod
    def simulated_fingerprint(cls, fingerprint: bytes) -> Roots:
        """Trust one simulated platform, given the SHA-256 of its DER root certificate, and no hardware."""
        if len(fingerprint) != 32:
            raise ValueError("a fingerprint has 32 bytes")
        return cls(_MADE_HERE, (Anchor(bytes(fingerprint), simulated=True),))

    @classmethod
    def dangerous_replacement(cls, certificate: bytes) -> Roots:
        """Trust whoever holds this root's key (PEM or DER) as if they were Intel.  For vendors' test systems only."""
        der = _load(certificate).public_bytes(Encoding.DER)
        return cls(_MADE_HERE, (Anchor(hashlib.sha256(der).digest(), simulated=False),))

    def intel_anchor(self, certificate: bytes) -> Anchor:
        """Return the anchor that pins this DER certificate; raises EvidenceError `chain-root`."""
        fingerprint = hashlib.sha256(certificate).digest()
        for anchor in self._intel:
            if anchor.fingerprint == fingerprint:
                return anchor
        raise EvidenceError(
            EvidenceCode.CHAIN_ROOT,
            "the chain ends in a root that is not pinned",
            expected=[self._name(anchor) for anchor in self._intel],
            found=fingerprint.hex(),
            remedy="evidence of the simulator passes only a policy with simulation = true that names its root",
        )

    @staticmethod
    def _name(anchor: Anchor) -> str:
        return f"{anchor.fingerprint.hex()} ({'simulated' if anchor.simulated else 'hardware'})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roots) and self._intel == other._intel

    def __hash__(self) -> int:
        return hash(self._intel)

    def __repr__(self) -> str:
        return f"Roots({', '.join(self._name(anchor) for anchor in self._intel)})"


def fingerprint_of_simulated(certificate: bytes) -> bytes:
    """Return the SHA-256 by which the root certificate (PEM or DER) of a simulated platform is pinned.

    Raises EvidenceError `certificate-malformed`, or `chain-not-simulated` for a root that is not marked as one.
    """
    root = _load(certificate)
    if not _is_marked(root):
        raise EvidenceError(EvidenceCode.CHAIN_NOT_SIMULATED, "the certificate is no root of a simulated platform")
    return hashlib.sha256(root.public_bytes(Encoding.DER)).digest()


def _is_marked(certificate: x509.Certificate) -> bool:
    return any(extension.oid == SIMULATION_EXTENSION for extension in certificate.extensions)


def _load(certificate: bytes) -> x509.Certificate:
    try:
        is_pem = certificate.lstrip().startswith(b"-----BEGIN")
        load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
        loaded = load(certificate)
        _ = loaded.extensions  # parsed when first asked for
    except X509_ERRORS:
        raise EvidenceError(EvidenceCode.CERTIFICATE_MALFORMED, "the root is no X.509 certificate") from None
    return loaded
