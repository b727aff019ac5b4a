"""Verification of TPM quotes, step by step.

Sources: TCG TPM 2.0 Library, Part 1 "Architecture" (sections 16 "Names", 17 "PCR Operations", 31 "Attestation"), Part 2
"Structures", Part 3, "TPM2_Quote"; TCG PC Client Platform Firmware Profile, section 10.

  1  container, structures, magic and type; one PCR value for each selected PCR (`abi.parse_evidence`)
  2  attestation key: restricted, signs, made in its TPM and fixed to it; RSA from 2048 bits, or a NIST curve
  3  its trust: a chain of certificates up to a pinned root, the last one for this very key; or the key is pinned itself
  4  dates of the chain contain `now`
  5  signature over the message, by the key's one scheme and hash
  6  qualifiedSigner: the name of this key, attributes and all, under the parent that is carried
  7  pcrDigest: the hash, in the signature's algorithm, over the PCR values that are carried
  8  event log: replayed in every bank; whether it explains the PCRs is data for the policy

Step 6 makes the key's attributes part of what is signed: a genuine TPM names no other key than the one that signs.
Considered and rejected: EK certificates.  An endorsement key decrypts and cannot sign, so that its certificate vouches
for an attestation key only through a conversation with the TPM (TPM2_ActivateCredential), which whoever issues
attestation key certificates has had.
"""

from __future__ import annotations

import hmac

from attestation.errors import EvidenceError
from attestation.roots import Anchor, Hierarchy, Roots
from attestation.tpm.abi import SignedQuote, TpmEvidence
from attestation.tpm.chain import verify_chain
from attestation.tpm.errors import TpmCode
from attestation.tpm.public import fingerprint, spki
from attestation.tpm.signature import PublicKey
from attestation.tpm.verified import TpmVerified, replay_against
from attestation.validity import NO_END, Validity, check_dates

HIERARCHIES = {0x40000001: "owner", 0x4000000B: "endorsement", 0x4000000C: "platform"}
"""Handles of the hierarchies whose primary keys outlive a restart (Part 2, TPM_RH)."""


def verify_evidence(evidence: TpmEvidence, _collateral: object, roots: Roots, now: int) -> TpmVerified:
    """Verify TPM evidence at `now` (Unix seconds), steps 2 to 8.

    `roots` must have been given the keys or authorities that count, by `Roots.with_tpm`.  TPM evidence has no
    collateral.  Raises EvidenceError.
    """
    evidence.key.check_attests()  # 2
    key = evidence.key.key()
    anchor, validities = _trust(evidence, key, roots)  # 3
    check_dates(validities, now)  # 4
    evidence.key.check_made(evidence.quote.signature)  # 5
    check_quote(evidence.quote, key)
    _check_signer(evidence)  # 6
    return TpmVerified(
        simulated=anchor.simulated,
        root=anchor.fingerprint,
        issued=now,  # no document of a vendor says how the platform stands, so none is old
        expires=min((validity.end for validity in validities), default=NO_END),  # of a key that a policy names: never
        validities=validities,
        source=evidence,
        key=fingerprint(key),
        replay=None if evidence.log is None else replay_against(evidence.log, evidence.quote),  # 8
    )


def check_itself(evidence: TpmEvidence) -> None:
    """Check what takes no trust: that the parts of a container are of one quote, steps 2 and 5 to 7.

    Raises EvidenceError.  That the key is a TPM's, and whose, is left open.
    """
    evidence.key.check_attests()  # 2
    evidence.key.check_made(evidence.quote.signature)  # 5
    check_quote(evidence.quote, evidence.key.key())  # 5, 7
    _check_signer(evidence)  # 6


def check_quote(quote: SignedQuote, key: PublicKey) -> None:
    """Check a quote's signature under a key that is trusted, and its PCR values: steps 5 and 7.

    Raises EvidenceError.
    """
    quote.signature.verify(key, quote.attest.serialize())  # 5
    digest = quote.pcrs.digest(quote.signature.hash)  # 7
    if not hmac.compare_digest(digest, quote.attest.pcr_digest):
        raise EvidenceError(
            TpmCode.PCR_DIGEST,
            TpmCode.PCR_DIGEST.meaning,
            expected=quote.attest.pcr_digest.hex(),
            found=digest.hex(),
        )


def _trust(evidence: TpmEvidence, key: PublicKey, roots: Roots) -> tuple[Anchor, tuple[Validity, ...]]:
    """Return what vouches for the attestation key, and until when."""
    if not evidence.key_chain:
        return roots.anchor(Hierarchy.TPM, spki(key)), ()
    chain = verify_chain(evidence.key_chain, roots)
    if spki(chain.key) != spki(key):
        raise EvidenceError(
            TpmCode.KEY_CERTIFICATE,
            TpmCode.KEY_CERTIFICATE.meaning,
            expected=fingerprint(chain.key).hex(),
            found=fingerprint(key).hex(),
        )
    return chain.anchor, chain.validities


def _check_signer(evidence: TpmEvidence) -> None:
    """Refuse a key whose public area is not the one that its TPM quotes under."""
    parent = evidence.parent
    if len(parent) == 4 and int.from_bytes(parent, "big") not in HIERARCHIES:
        raise EvidenceError(
            TpmCode.SIGNER_NAME,
            "the attestation key is under no permanent hierarchy",
            expected=" or ".join(f"{handle:#x} ({title})" for handle, title in HIERARCHIES.items()),
            found=parent.hex(),
        )
    name = evidence.key.qualified_name(parent)
    if not hmac.compare_digest(name, evidence.quote.attest.qualified_signer):
        raise EvidenceError(
            TpmCode.SIGNER_NAME,
            TpmCode.SIGNER_NAME.meaning,
            expected=evidence.quote.attest.qualified_signer.hex(),
            found=name.hex(),
        )
