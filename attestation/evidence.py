"""The front door to evidence of every TEE: parse, then verify; `attestation.appraise` judges the result.

    bytes --parse--> Evidence --verify(collateral, roots, now)--> Verified --appraise(policy, now)--> Appraisal

Nothing here reads a clock, a network or a global.  `attestation.tees` lists what is handled.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from attestation import unhandled
from attestation.amd import verify as amd
from attestation.amd.collateral import SnpCollateral
from attestation.azure.abi import AzureEvidence
from attestation.carried import carried, signer_test
from attestation.collateral import Collateral, CollateralKey, CollateralSource
from attestation.errors import EvidenceCode, EvidenceError
from attestation.intel import verify as intel
from attestation.intel.collateral import IntelCollateral
from attestation.intel.verify import ValidatedCollateral, prepare
from attestation.roots import Roots
from attestation.tees import BY_NAME, TEES, Tee
from attestation.tpm.attest import bare_attest, is_attest
from attestation.verified import Evidence, Verified

__all__ = [
    "Evidence",
    "Roots",
    "ValidatedCollateral",
    "Verified",
    "authenticate",
    "collateral_for",
    "collateral_key",
    "completed",
    "parse",
    "prepare",
    "recognised",
    "verify",
]


def parse(data: bytes) -> Evidence:
    """Tell the format of evidence and parse it; nothing is verified.

    Raises EvidenceError: `evidence-unknown`, or a code of the format that was recognised.
    """
    data = bytes(data)
    tee = recognised(data)
    if tee is not None:
        return tee.parse(data)
    if is_attest(data):
        raise bare_attest()
    known = unhandled.describe(data)
    raise EvidenceError(
        EvidenceCode.EVIDENCE_UNKNOWN,
        EvidenceCode.EVIDENCE_UNKNOWN.meaning,
        expected=" or ".join(tee.title for tee in TEES),
        found=known.title if known else f"first bytes {data[:4].hex() or '(none)'}",
        remedy=known.remedy if known else None,
    )


def recognised(data: bytes) -> Tee | None:
    """Return the TEE whose evidence bytes begin as, by a few fixed bytes; None where they are none's."""
    return next((tee for tee in TEES if tee.recognise(data)), None)


def collateral_key(evidence: Evidence) -> CollateralKey | None:
    """Return what collateral this evidence needs, as the unverified evidence itself says; None where it needs none.

    A lie only leads to collateral that does not fit.  Raises EvidenceError.
    """
    return BY_NAME[evidence.tee].collateral_key(evidence)


def collateral_for(
    evidence: Evidence, source: CollateralSource, now: int | None = None, roots: Roots | None = None
) -> Collateral | None:
    """Fetch the collateral that evidence needs; raises EvidenceError `collateral-missing` and others.

    now: Unix seconds at which the evidence will be verified, where that is in the past: of several documents of a kind
    that a source has, those that were issued by then are preferred.  roots: those that the evidence will be verified
    under, and that the documents to choose among are signed below; None for the vendors', or those of a simulated
    platform that is filed.
    """
    key = collateral_key(evidence)
    if key is None:
        return None
    chosen = source if roots is None else source.under(roots)
    return chosen.fetch_for(key, carried(evidence), now, signer_test(evidence))


def authenticate(collateral: Collateral | None, roots: Roots) -> Any:
    """Verify signatures and chains of collateral once, for many pieces of evidence; give the result to `verify`.

    Its dates are checked at each use.  Raises EvidenceError.
    """
    match collateral:
        case IntelCollateral():
            return intel.authenticate(collateral, roots)
        case SnpCollateral():
            return amd.authenticate(collateral, roots)
    return collateral


def completed(evidence: Evidence, collateral: Collateral) -> Collateral:
    """Return collateral with what the evidence carries of it: Azure's has the certificate of the processor's key."""
    if isinstance(evidence, AzureEvidence) and isinstance(collateral, SnpCollateral):
        return SnpCollateral(vek=evidence.vcek or b"", chain=collateral.chain, crl=collateral.crl)
    return collateral


def verify(evidence: Evidence, collateral: Collateral | ValidatedCollateral | None, roots: Roots, now: int) -> Verified:
    """Verify parsed evidence at `now` (Unix seconds).

    Raises EvidenceError at the first signature, chain, date or TCB level that does not hold, and `collateral-missing`
    for a source or a path in the place of collateral.  The TCB status and everything that the enclave is stay data, for
    `appraise` to hold against a policy.
    """
    _check_fetched(collateral)
    return BY_NAME[evidence.tee].verify(evidence, collateral, roots, now)


def _check_fetched(collateral: object) -> None:
    """Refuse where collateral is kept in the place of collateral: verification reads no file."""
    if isinstance(collateral, CollateralSource | PurePath | str):
        fetch = "collateral_for(evidence, source)"
        opened = fetch if isinstance(collateral, CollateralSource) else fetch.replace("source", "open_source(path)")
        raise EvidenceError(
            EvidenceCode.COLLATERAL_MISSING,
            "what was given is where collateral is kept, and not collateral",
            expected="collateral, or None for evidence that needs none",
            found=type(collateral).__name__,
            remedy=f"fetch it first, and give what comes: {opened}; or call `examine`, which takes a source",
        )
