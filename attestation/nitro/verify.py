"""Verification of Nitro attestation documents, step by step.

Source: AWS Nitro Enclaves, "Nitro Enclaves Attestation Process", section 3.2; RFC 9052, section 4.4.

  1   syntax: COSE_Sign1 under ES384, and every field within its bounds (`document.parse_document`)     3.1, 3.2.2
  2   the bundle's first certificate is the pinned root, bit for bit                                    3.2.3
  3   each certificate of bundle and document is signed by the one before it, which it names as issuer  3.2.4
  4   basic constraints, path lengths and key usage of each, by its place                               3.2.3.2, 3.2.3.3
  5   the document's certificate is of the module that the document names
  6   COSE signature by the document's certificate                                                      3.2.1
  7   the document was made while its certificate was valid, and not after `now`
  8   every certificate is valid at `now`; the document's own lives for three hours                     3.2.3.1

Steps 2 to 4 authenticate each certificate's bytes before an X.509 parser sees them.  AWS publishes revocation lists
of its regional authorities, but says itself (3.2.4) that they play no part: a bundle is renewed within days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from attestation.chains import Chain, Profile, read_chain, verify_raw
from attestation.errors import EvidenceCode, EvidenceError
from attestation.nitro.document import MAX_BUNDLE, NitroDocument
from attestation.nitro.errors import NitroCode
from attestation.roots import Hierarchy, Roots
from attestation.validity import NO_END, Validity, check_dates, rfc3339
from attestation.verified import Verified

RENEWAL: Final = "ask the enclave for a new document: the certificates travel in it, and its own lives for three hours"
PROFILE = Profile("Nitro", Hierarchy.NITRO, shortest=2, longest=MAX_BUNDLE + 1, renewal=RENEWAL)


@dataclass(frozen=True)
class NitroVerified(Verified):
    """A genuine document.  `issued` is its own timestamp: no other document of AWS says how the platform stands."""

    document: NitroDocument
    chain: Chain = field(repr=False)

    @property
    def evidence(self) -> NitroDocument:
        """The document."""
        return self.document

    @property
    def measurement(self) -> bytes:
        """PCR0, 48 bytes: the enclave's image; empty where the document does not show it."""
        return self.document.pcrs.get(0, b"")

    @property
    def platform_ids(self) -> dict[str, str]:
        """The module: an instance with its enclave."""
        return {"module_id": self.document.module_id}

    def details(self) -> dict[str, Any]:
        """Return whether the enclave runs in debug mode."""
        return {"debug": self.document.debug}


def verify_document(document: NitroDocument, known: Chain | None, roots: Roots, now: int) -> NitroVerified:
    """Verify a document at `now` (Unix seconds), steps 2 to 8.

    `known` is the chain of a document that was verified before (`NitroVerified.chain`), or None: certificates that
    both share are not verified again, but their dates are.  Raises EvidenceError at the first step that fails.
    """
    chain = read_chain((*document.cabundle, document.certificate), PROFILE, roots, known)  # 2 to 4
    _check_module(document, chain)  # 5
    verify_raw(chain.leaf.key, document.message.signature, document.message.signed(), NitroCode.SIGNATURE)  # 6
    _check_timestamp(document, chain)  # 7
    made = Validity(
        "attestation document", document.seconds, NO_END, NitroCode.EARLY, EvidenceCode.CERTIFICATE_EXPIRED, RENEWAL
    )
    validities = (made, *chain.validities)
    check_dates(validities, now)  # 7, 8
    return NitroVerified(
        simulated=chain.anchor.simulated,
        root=chain.anchor.fingerprint,
        issued=document.seconds,
        expires=chain.expires,
        validities=validities,
        document=document,
        chain=chain,
    )


def _check_module(document: NitroDocument, chain: Chain) -> None:
    """Hold the module id against the certificate's name, "MODULE.REGION.aws"."""
    name = chain.leaf.common_name
    if name.partition(".")[0] != document.module_id:
        raise EvidenceError(NitroCode.MODULE, NitroCode.MODULE.meaning, expected=name, found=document.module_id)


def _check_timestamp(document: NitroDocument, chain: Chain) -> None:
    """Hold that the document was made while its own certificate was valid."""
    span = chain.leaf.validity
    if not span.start <= document.seconds < span.end:
        raise EvidenceError(
            NitroCode.TIMESTAMP,
            NitroCode.TIMESTAMP.meaning,
            expected=f"from {rfc3339(span.start)} until before {rfc3339(span.end)}",
            found=rfc3339(document.seconds),
        )
