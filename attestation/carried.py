"""The certificates of its platform's key that evidence carries, read out of it and not verified.

They help to choose among collateral that lies side by side: what a list revokes is looked for by serial number, and
AMD's chains are chosen by whom they sign.  A lie only leads to collateral that does not fit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress

from attestation.amd.abi import Report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.verify import is_signed_by
from attestation.azure.abi import AzureEvidence
from attestation.collateral.document import Collateral
from attestation.errors import EvidenceError
from attestation.intel import pem
from attestation.intel.abi import QuoteV3
from attestation.intel.td_abi import TdQuote
from attestation.ratls.certificate import RatlsCertificate
from attestation.verified import Evidence


def carried(evidence: Evidence) -> tuple[bytes, ...]:
    """Return the DER of a platform's certificates in evidence, the key's own first; empty where there are none.

    Of evidence with several quotes, those of all: each is verified, and has a key of its own.
    """
    if isinstance(evidence, RatlsCertificate):
        return tuple(der for each in evidence.bound for der in carried(each.quote))
    if isinstance(evidence, AzureEvidence):
        return (evidence.vcek,) if evidence.vcek else carried(evidence.inner)
    if isinstance(evidence, QuoteV3 | TdQuote):
        with suppress(EvidenceError):
            return tuple(pem.decode_chain(evidence.certification_data, 3))
    return ()


def signer_test(evidence: Evidence) -> Callable[[Collateral], bool] | None:
    """Return what tells whether the key that collateral is of signed evidence; None where it has no such key."""
    if isinstance(evidence, AzureEvidence):
        return None if evidence.vcek else signer_test(evidence.inner)
    return functools.partial(_signed, evidence) if isinstance(evidence, Report) else None


def _signed(report: Report, collateral: Collateral) -> bool:
    return isinstance(collateral, SnpCollateral) and is_signed_by(report, collateral.vek)
