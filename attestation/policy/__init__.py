"""Policies: what evidence a relying party accepts.  The zero value refuses, and the vacuous is refused.

A policy is data of its own: the root of a simulated platform is read when the policy is loaded, and only its SHA-256
is kept, so that the policy's digest covers it.
"""

from __future__ import annotations

from attestation.policy.load import MAX_POLICY, load_policy, roots_for
from attestation.policy.model import TEE_TABLES, Policy
from attestation.policy.sgx import SgxPolicy
from attestation.policy.tables import EvidencePolicy, ReleasePolicy, ServicePolicy
from attestation.policy.tdx import TdxPolicy

__all__ = [
    "MAX_POLICY",
    "TEE_TABLES",
    "EvidencePolicy",
    "Policy",
    "ReleasePolicy",
    "ServicePolicy",
    "SgxPolicy",
    "TdxPolicy",
    "load_policy",
    "roots_for",
]
