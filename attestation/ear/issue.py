"""Making a token: the verdict over one piece of evidence, signed."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any, Final

from attestation.ear import jws
from attestation.ear.ar4si import Tier, worst_tier
from attestation.ear.errors import EarCode, EarError
from attestation.ear.mapping import vector
from attestation.ear.token import EXTENSION, EXTENSION_PROFILE, POLICY_PREFIX, PROFILE
from attestation.errors import SessionFinding
from attestation.findings import Appraisal, Finding, Phase
from attestation.lasting import accepted_until
from attestation.policy import Policy
from attestation.validity import rfc3339
from attestation.verified import Verified
from manifests.signing import Signer, label

LIFETIME: Final = 300
MAX_LIFETIME: Final = 86400
"""Whoever holds a token learns of a revocation only when it ends."""
NONCE_SIZES: Final = (8, 64)
"""RFC 9711 section 4.1."""
MAX_AUDIENCE: Final = 256
_COMPOSITE: Final = label("evidence with devices")


@dataclass(frozen=True)
class VerifierId:
    """Which software made the token, and who is responsible for it (AR4SI, "Verifier ID")."""

    developer: str
    build: str

    @classmethod
    def this(cls) -> VerifierId:
        """Return the id of the installed release."""
        return cls("strongroom", f"strongroom {importlib.metadata.version('strongroom')}")


def issue_token(
    appraisal: Appraisal,
    verified: Verified,
    signer: Signer,
    now: int,
    *,
    policy: Policy,
    devices: Verified | None = None,
    nonce: bytes | None = None,
    audience: str | None = None,
    lifetime: int = LIFETIME,
    verifier: VerifierId | None = None,
) -> str:
    """Return the signed token that says what `appraise` found of this evidence under this policy at `now`.

    A refusal makes a token, too: it says contraindicated.  devices: those of the same appraisal, which this evidence
    binds.  nonce (8 to 64 bytes): what whoever asks wants to see again.  audience: for whom alone it is.  lifetime:
    seconds, 1 to 86400; the token ends sooner where the collateral of either part or the list of broken hardware does,
    or gets older than the policy takes.
    Raises EarError `ear-unissuable` where these have ended, the verdict is over other evidence, or nothing ties the
    devices to this evidence; and `ear-request` for a nonce, audience or lifetime that no token can have.
    """
    _check_request(nonce, audience, lifetime)
    parts = (verified,) if devices is None else (verified, devices)
    if not appraisal.findings or appraisal.simulated is not any(part.simulated for part in parts):
        raise EarError(EarCode.UNISSUABLE, "the appraisal is not one of this evidence")
    _check_bound(appraisal, devices)
    expires = min(now + lifetime, accepted_until(parts, policy))
    if expires <= now:
        raise EarError(
            EarCode.UNISSUABLE,
            "the evidence's collateral, or the list of broken hardware, has expired, or is older than the policy takes",
            expected=f"a time after {rfc3339(now)}",
            found=rfc3339(expires),
            remedy="fetch fresh collateral, verify and appraise again",
        )
    verifier = verifier or VerifierId.this()
    entry = _appraisal(appraisal, parts, policy)
    claims: dict[str, Any] = {
        "eat_profile": PROFILE,
        "ear_verifier_id": {"developer": verifier.developer, "build": verifier.build},
        "ear_status": entry["ear_status"],
        "iat": now,
        "nbf": now,
        "exp": expires,
        "submods": {verified.tee: entry},
    }
    optional = {"aud": audience, "eat_nonce": None if nonce is None else jws.encode_base64url(nonce)}
    return jws.sign(claims | {name: value for name, value in optional.items() if value is not None}, signer)


def check_nonce(nonce: bytes | None) -> None:
    """Refuse a nonce that no token can have (RFC 9711, section 4.1); raises EarError `ear-request`."""
    low, high = NONCE_SIZES
    if nonce is not None and not low <= len(nonce) <= high:
        message = f"a nonce has {low} to {high} bytes (RFC 9711, section 4.1)"
        raise EarError(EarCode.REQUEST, message, expected=f"{low} to {high} bytes", found=f"{len(nonce)} bytes")


def _check_request(nonce: bytes | None, audience: str | None, lifetime: int) -> None:
    check_nonce(nonce)
    if audience is not None and not (0 < len(audience) <= MAX_AUDIENCE and audience.isprintable()):
        raise EarError(EarCode.REQUEST, f"an audience is printable text of at most {MAX_AUDIENCE} characters")
    if not 1 <= lifetime <= MAX_LIFETIME:
        raise EarError(EarCode.REQUEST, f"a lifetime is 1 to {MAX_LIFETIME} seconds", found=lifetime)


def _check_bound(appraisal: Appraisal, devices: Verified | None) -> None:
    """Refuse a verdict over parts that nothing ties together, and one over other parts than are given."""
    session = [finding for finding in appraisal.findings if isinstance(finding.code, SessionFinding)]
    loose = [each for each in appraisal.findings if not each.passed and (each in session or each.phase is Phase.VERIFY)]
    if loose:
        raise EarError(
            EarCode.UNISSUABLE,
            f"nothing ties what was given together: {', '.join(_codes(tuple(loose)))}",
            expected="; ".join(finding.expected for finding in loose),
            found="; ".join(finding.found for finding in loose),
            remedy=loose[0].remedy,
        )
    judged = {finding.code for finding in session}
    if (SessionFinding.DEVICE_CLASS in judged) is not (devices is not None) or (devices and len(judged) < 2):
        raise EarError(
            EarCode.UNISSUABLE,
            "the appraisal is not one of this evidence",
            expected="the devices that were appraised, and their binding",
            found="no devices" if devices is None else "devices that were not appraised with it",
        )


def _digest(parts: tuple[Verified, ...]) -> str:
    """Return SHA-512 of the evidence in hex; with devices: of the label, and of the digests of both."""
    digests = [hashlib.sha512(part.evidence.serialize()) for part in parts]
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha512(_COMPOSITE + b"".join(digest.digest() for digest in digests)).hexdigest()


def _appraisal(appraisal: Appraisal, parts: tuple[Verified, ...], policy: Policy) -> dict[str, Any]:
    """Return the EAR appraisal (section 3.1): status and vector, and what a relying party needs besides."""
    verified = parts[0]
    values = vector(appraisal.findings, simulated=appraisal.simulated)
    status = worst_tier(values) if appraisal.accepted else Tier.CONTRAINDICATED
    return {
        "eat_profile": EXTENSION_PROFILE,
        "ear_status": status.value,
        "ear_trustworthiness_vector": {str(claim): value for claim, value in values.items()},
        "ear_appraisal_policy_ids": [POLICY_PREFIX + policy.digest.hex()],
        EXTENSION: {
            "accepted": appraisal.accepted,
            "platform": appraisal.platform,
            "version": verified.version,
            "evidence": _digest(parts),
            "root": verified.root.hex(),
            "measurement": verified.measurement.hex(),
            "report_data": verified.report_data.hex(),
            "tcb_status": verified.tcb_status or "",
            "advisories": list(verified.advisories),
            "failed": _codes(appraisal.failed),
            "warned": _codes(appraisal.warnings),
        },
    }


def _codes(findings: tuple[Finding, ...]) -> list[str]:
    """Return the codes of some findings, each once, in order."""
    return list(dict.fromkeys(str(finding.code) for finding in findings))
