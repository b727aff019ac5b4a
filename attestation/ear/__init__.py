"""Verdicts that travel: a signed EAT Attestation Result (EAR), made from an appraisal and checked by anyone.

Sources: RFC 9711 (EAT), draft-ietf-rats-ear-04 (EAR), draft-ietf-rats-ar4si (AR4SI), RFC 7515 (JWS), RFC 7519 (JWT),
RFC 8037 (EdDSA in JOSE).  docs/ear.md describes the token and how findings become claims.
"""

from __future__ import annotations

from attestation.ear.ar4si import Claim, Tier
from attestation.ear.check import open_token
from attestation.ear.errors import EarCode, EarError
from attestation.ear.issue import VerifierId, issue_token
from attestation.ear.token import Token

__all__ = ["Claim", "EarCode", "EarError", "Tier", "Token", "VerifierId", "issue_token", "open_token"]
