"""The certificates of its platform's key that evidence carries, read out of it and not verified.

They help to choose among collateral that lies side by side: what a list revokes is looked for by serial number, and
AMD's chains are chosen by whom they sign.  A lie only leads to collateral that does not fit.
"""

from __future__ import annotations

from contextlib import suppress

from attestation.azure.abi import AzureEvidence
from attestation.errors import EvidenceError
from attestation.intel import pem
from attestation.intel.abi import QuoteV3
from attestation.intel.td_abi import TdQuote
from attestation.ratls.certificate import RatlsCertificate
from attestation.verified import Evidence


def carried(evidence: Evidence) -> tuple[bytes, ...]:
    """Return the DER of a platform's certificates in evidence, the key's own first; empty where there are none."""
    if isinstance(evidence, RatlsCertificate):
        return carried(evidence.bound[0].quote)
    if isinstance(evidence, AzureEvidence):
        return (evidence.vcek,) if evidence.vcek else carried(evidence.inner)
    if isinstance(evidence, QuoteV3 | TdQuote):
        with suppress(EvidenceError):
            return tuple(pem.decode_chain(evidence.certification_data, 3))
    return ()
