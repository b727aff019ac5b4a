"""The front door to evidence of every TEE: parse, then verify; `attestation.appraise` judges the result.

    bytes --parse--> Quote --verify(quote, collateral, roots, now)--> Verified --appraise(verified, policy, now)-->

Nothing here reads a clock, a network or a global.  A format of another TEE is one more entry in `_FORMATS`.
"""

from __future__ import annotations

from typing import TypeAlias

from attestation.collateral import Collateral, CollateralKey
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import abi, pck, pem
from attestation.intel.abi import QuoteV3
from attestation.intel.verify import ValidatedCollateral, prepare, verify_quote
from attestation.roots import Roots
from attestation.verified import Verified

__all__ = [
    "Quote",
    "Roots",
    "ValidatedCollateral",
    "Verified",
    "collateral_key",
    "hint",
    "parse",
    "prepare",
    "verify",
]

Quote: TypeAlias = QuoteV3
"""Parsed evidence of any TEE; today SGX quotes of version 3."""

_FORMATS = {abi.VERSION.to_bytes(2, "little"): abi.parse_quote}
"""Parsers by the first two bytes of evidence: Intel's quote version, little-endian."""


def parse(evidence: bytes) -> Quote:
    """Tell the format of evidence and parse it; nothing is verified.

    Raises EvidenceError: `evidence-unknown`, or a `quote-...` code.
    """
    parser = _FORMATS.get(bytes(evidence[:2]))
    if parser is None:
        raise EvidenceError(
            EvidenceCode.EVIDENCE_UNKNOWN,
            EvidenceCode.EVIDENCE_UNKNOWN.meaning,
            expected="an SGX quote of version 3",
            found=f"first bytes {bytes(evidence[:4]).hex() or '(none)'}",
        )
    return parser(bytes(evidence))


def collateral_key(quote: Quote) -> CollateralKey:
    """Return what collateral this evidence needs, as the unverified evidence itself says.

    A lie only leads to collateral that does not fit.  Raises EvidenceError.
    """
    fmspc, ca = pck.peek(pem.decode_chain(quote.certification_data, 3)[0])
    return CollateralKey(quote.tee, fmspc.hex(), ca)


def hint(quote: Quote) -> str:
    """Return the collateral hint that travels with evidence, such as "sgx fmspc=00906ed50000 ca=processor"."""
    key = collateral_key(quote)
    return f"{key.tee} fmspc={key.fmspc} ca={key.ca}"


def verify(quote: Quote, collateral: Collateral | ValidatedCollateral, roots: Roots, now: int) -> Verified:
    """Verify parsed evidence at `now` (Unix seconds).

    Raises EvidenceError at the first signature, chain, date or TCB level that does not hold.  The TCB status and
    everything that the enclave is stay data, for `appraise` to hold against a policy.
    """
    return verify_quote(quote, collateral, roots, now)
