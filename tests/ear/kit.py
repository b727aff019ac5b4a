"""What the tests of tokens share: a verifier, a verdict over hardware and one over a simulated platform."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from attestation.appraise import appraise
from attestation.ear import Token, VerifierId, issue_token, open_token
from attestation.ear.jws import sign
from attestation.findings import Appraisal
from attestation.intel.verified import IntelVerified
from attestation.policy import Policy
from attestation.roots import INTEL_SGX_ROOT
from manifests.signing import Signer
from tests.attestation import kit
from tests.attestation.kit import NOW, REPORT_DATA

VERIFIER = Signer.from_seed(bytes([6]) * 32)
STRANGER = Signer.from_seed(bytes([7]) * 32)
BUILD = VerifierId("strongroom", "strongroom 1")
NONCE = bytes(range(16))
HARDWARE = {"simulation": None, "simulated_root": None}


def hardware() -> IntelVerified:
    """The simulated evidence as if its chains had reached Intel's root."""
    return dataclasses.replace(kit.verify_sim(), simulated=False, root=INTEL_SGX_ROOT)


def policy(**changes: dict[str, Any]) -> Policy:
    """A policy for hardware."""
    return kit.policy(**changes | {"evidence": HARDWARE | changes.get("evidence", {})})


def verdict(verified: IntelVerified, under: Policy) -> Appraisal:
    return appraise(verified, under, NOW, report_data=REPORT_DATA)


def token(verified: IntelVerified | None = None, under: Policy | None = None, **options: Any) -> str:
    """A token over evidence (of hardware, by default) under a policy that accepts it."""
    verified, under = verified or hardware(), under or policy()
    options = {"verifier": BUILD} | options
    return issue_token(verdict(verified, under), verified, VERIFIER, NOW, policy=under, **options)


def simulated_token(**options: Any) -> str:
    return token(kit.verify_sim(), kit.policy(), **options)


def opened(text: str, now: int = NOW, **options: Any) -> Token:
    return open_token(text, [VERIFIER.public], now, **options)


def part(text: str, index: int) -> Any:
    """Header (0) or payload (1) of a token."""
    raw = text.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))


def payload(text: str) -> Any:
    return part(text, 1)


def resigned(change: Callable[[dict[str, Any]], object], text: str | None = None) -> str:
    """A token whose payload was changed before it was signed: the verifier itself is at fault."""
    claims = payload(text or token())
    change(claims)
    return sign(claims, VERIFIER)


def appraisal_of(claims: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = claims["submods"]["sgx"]
    return entry
