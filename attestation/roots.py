"""The certificates that trust may end in.

A root is pinned by the SHA-256 of its DER certificate: the copy that travels with evidence or collateral must be the
pinned one, bit for bit.  Whether evidence is simulated follows from the anchor that its chains reach, never from the
evidence: certificates of a simulated platform carry a private extension, which vendor anchors refuse and simulated
anchors require.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceCode, EvidenceError

SIMULATION_EXTENSION: Final = x509.ObjectIdentifier("2.25.119772707208057421482615936699027391313")
"""A UUID-based identifier (ITU-T X.667) of 5a1b6263-a9a7-5efa-bced-5ebe760f8351.  Its value is DER NULL."""

INTEL_SGX_ROOT: Final = bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
"""SHA-256 of "Intel SGX Root CA", serial 22650cd65a9d3489f383b49552bf501b392706ac, valid until 2049-12-31."""

AMD_ROOTS: Final = {
    "milan": bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    "genoa": bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    "turin": bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
}
"""SHA-256 of the AMD root key (ARK) certificates "ARK-Milan", "ARK-Genoa" and "ARK-Turin", self-signed."""

AWS_NITRO_ROOT: Final = bytes.fromhex("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b")
"""SHA-256 of "aws.nitro-enclaves", the AWS Nitro Enclaves root G1, as AWS publishes it."""

NVIDIA_DEVICE_ROOT: Final = bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48")
"""SHA-256 of "NVIDIA Device Identity CA"."""

NVIDIA_RIM_ROOT: Final = bytes.fromhex("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1")
"""SHA-256 of the root under which NVIDIA signs reference values, "NVIDIA Reference Value L1"."""

X509_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the X.509 parser raises for certificates and revocation lists that are none."""

_MARK: Final = bytes.fromhex("06146981b49bb198f59abafbf5bcf6d7d7e7b0be8651")
"""DER of SIMULATION_EXTENSION, as it stands in a certificate that nothing vouches for, and that is not parsed."""
_MADE_HERE = object()


class Hierarchy(StrEnum):
    """The certificate hierarchies that evidence ends in; a root of one is never taken for another's."""

    INTEL = "Intel SGX"
    AMD = "AMD SEV"
    NITRO = "AWS Nitro"
    NVIDIA_DEVICE = "NVIDIA device identity"
    NVIDIA_RIM = "NVIDIA reference values"
    TPM = "TPM"


@dataclass(frozen=True)
class Anchor:
    """One pinned root: the SHA-256 of its DER certificate, and the class of the platforms below it.

    hierarchy: what it is the root of; None for a simulated platform, which plays every vendor under its own roots.
    """

    fingerprint: bytes
    simulated: bool
    hierarchy: Hierarchy | None

    def check_mark(self, title: str, *, marked: bool) -> None:
        """Hold the simulator's mark of a certificate against this root: simulated ones require it, vendors' refuse it.

        title: the certificate's, for people.  Raises EvidenceError `chain-simulated` or `chain-not-simulated`.
        """
        if marked is self.simulated:
            return
        code = EvidenceCode.CHAIN_SIMULATED if marked else EvidenceCode.CHAIN_NOT_SIMULATED
        raise EvidenceError(
            code,
            f"the {title} is marked as simulated" if marked else f"the {title} lacks the simulator's mark",
            expected=f"certificates of {'a simulated platform' if self.simulated else 'hardware'} below {self}",
            found=f"a {title} {'with' if marked else 'without'} the simulator's mark",
        )

    def __str__(self) -> str:
        return f"{self.fingerprint.hex()} ({'simulated' if self.simulated else 'hardware'})"


_VENDORS = (
    Anchor(INTEL_SGX_ROOT, simulated=False, hierarchy=Hierarchy.INTEL),
    *(Anchor(root, simulated=False, hierarchy=Hierarchy.AMD) for root in AMD_ROOTS.values()),
    Anchor(AWS_NITRO_ROOT, simulated=False, hierarchy=Hierarchy.NITRO),
    Anchor(NVIDIA_DEVICE_ROOT, simulated=False, hierarchy=Hierarchy.NVIDIA_DEVICE),
    Anchor(NVIDIA_RIM_ROOT, simulated=False, hierarchy=Hierarchy.NVIDIA_RIM),
)

VENDOR_ROOTS: Final = frozenset(anchor.fingerprint for anchor in _VENDORS)
"""Fingerprints of all roots that `Roots.vendor()` pins."""


class Roots:
    """The anchors of one verification.  Made by `vendor`, `simulated` or `dangerous_replacement` only."""

    def __init__(self, made_here: object, anchors: tuple[Anchor, ...]) -> None:
        """Not for callers."""
        if made_here is not _MADE_HERE:
            raise TypeError("use Roots.vendor() or Roots.simulated(certificate)")
        self._anchors = anchors

    @classmethod
    def vendor(cls) -> Roots:
        """Trust the silicon vendors' own roots, and nothing else."""
        return cls(_MADE_HERE, _VENDORS)

    @classmethod
    def simulated(cls, *certificates: bytes) -> Roots:
        """Trust one simulated platform, given its root certificates (PEM or DER), and no hardware.

        Raises EvidenceError `certificate-malformed`, or `chain-not-simulated` for a root that is not marked as one.
        """
        return cls.simulated_fingerprints(*(fingerprint_of_simulated(certificate) for certificate in certificates))

    @classmethod
    def simulated_fingerprints(cls, *fingerprints: bytes) -> Roots:
        """Trust one simulated platform, given the SHA-256 of its DER root certificates, and no hardware."""
        if not fingerprints or any(len(fingerprint) != 32 for fingerprint in fingerprints):
            raise ValueError("a fingerprint has 32 bytes, and there is at least one")
        return cls(_MADE_HERE, tuple(Anchor(bytes(each), simulated=True, hierarchy=None) for each in fingerprints))

    @classmethod
    def dangerous_replacement(cls, certificate: bytes, hierarchy: Hierarchy = Hierarchy.INTEL) -> Roots:
        """Trust whoever holds this root's key (PEM or DER) as if they were the vendor.  For test systems only."""
        der = _load(certificate).public_bytes(Encoding.DER)
        return cls(_MADE_HERE, (Anchor(hashlib.sha256(der).digest(), simulated=False, hierarchy=hierarchy),))

    def dangerously_replaced(self, replacements: Mapping[Hierarchy, Iterable[bytes]]) -> Roots:
        """Trust these roots (SHA-256 of DER) in the place of their hierarchies' own, as if they were the vendor's."""
        kept = tuple(anchor for anchor in self._anchors if anchor.hierarchy not in replacements)
        named = [(hierarchy, bytes(each)) for hierarchy, roots in replacements.items() for each in roots]
        return Roots(_MADE_HERE, (*kept, *(Anchor(each, simulated=False, hierarchy=h) for h, each in named)))

    def with_tpm(self, fingerprints: Iterable[bytes]) -> Roots:
        """Trust these TPM keys or authorities, too: no root stands above all makers of TPMs, so a policy names them.

        Beside simulated roots, they stand for simulated platforms.
        """
        simulated = any(anchor.simulated for anchor in self._anchors)
        named = (Anchor(bytes(each), simulated=simulated, hierarchy=Hierarchy.TPM) for each in fingerprints)
        return Roots(_MADE_HERE, (*self._anchors, *named))

    def anchor(self, hierarchy: Hierarchy, certificate: bytes) -> Anchor:
        """Return the anchor that pins this DER certificate as a root of `hierarchy`.

        Raises EvidenceError `chain-root`.
        """
        fingerprint = hashlib.sha256(certificate).digest()
        usable = [anchor for anchor in self._anchors if anchor.hierarchy in {hierarchy, None}]
        for anchor in usable:
            if anchor.fingerprint == fingerprint:
                return anchor
        raise EvidenceError(
            EvidenceCode.CHAIN_ROOT,
            f"the chain of {hierarchy} ends in a root that is not pinned",
            expected=" or ".join(map(str, usable)) or f"a root of {hierarchy} that a policy names; none is named",
            found=fingerprint.hex(),
            remedy=self._remedy(hierarchy, usable, marked=_MARK in certificate),
        )

    def _remedy(self, hierarchy: Hierarchy, usable: list[Anchor], *, marked: bool) -> str:
        """Say what to do about a root that is not pinned; `marked`: it seems to be that of a simulated platform."""
        if marked:
            return "evidence of the simulator passes only a policy with simulation = true that names its root"
        if hierarchy is Hierarchy.TPM:
            return "no vendor stands above all TPMs: name the key in [tpm] ak of a policy, or its maker's root in roots"
        if any(anchor.simulated for anchor in self._anchors):
            return "for evidence of hardware, use a policy without simulation, and no simulated root"
        if any(anchor.fingerprint not in VENDOR_ROOTS for anchor in usable):
            return "for evidence under the vendor's own root, leave dangerous_replacement_roots out of the policy"
        return "treat the evidence as forged, unless you know whose root this is: it is not the vendor's"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roots) and self._anchors == other._anchors

    def __hash__(self) -> int:
        return hash(self._anchors)

    def __repr__(self) -> str:
        return f"Roots({', '.join(map(str, self._anchors))})"


def fingerprint_of_simulated(certificate: bytes) -> bytes:
    """Return the SHA-256 by which the root certificate (PEM or DER) of a simulated platform is pinned.

    Raises EvidenceError `certificate-malformed`, or `chain-not-simulated` for a root that is not marked as one.
    """
    root = _load(certificate)
    if not _is_marked(root):
        raise EvidenceError(EvidenceCode.CHAIN_NOT_SIMULATED, "the certificate is no root of a simulated platform")
    return hashlib.sha256(root.public_bytes(Encoding.DER)).digest()


def fingerprint_of_replacement(certificate: bytes) -> bytes:
    """Return the SHA-256 of a root certificate (PEM or DER) that is to stand in a vendor's place.

    Raises EvidenceError `certificate-malformed`, or `chain-simulated` for the root of a simulated platform.
    """
    root = _load(certificate)
    if _is_marked(root):
        raise EvidenceError(
            EvidenceCode.CHAIN_SIMULATED,
            "the root of a simulated platform takes no vendor's place",
            remedy="name it in [evidence] simulated_root, with simulation = true",
        )
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
