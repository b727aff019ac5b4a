"""What the tests of TPM evidence share: simulated TPMs of each scheme, policies for them, and containers to alter."""

from __future__ import annotations

import functools
from typing import Any

from attestation import evidence
from attestation.policy import Policy, load_policy, roots_for
from attestation.roots import Roots
from attestation.sim.tpm import SimulatedTpm
from attestation.tpm.algorithms import Scheme
from attestation.tpm.verified import TpmVerified
from manifests import canonical
from tests.attestation.kit import CREATED, NOW, REPORT_DATA, SEED


@functools.lru_cache(maxsize=8)
def sim(scheme: Scheme = Scheme.ECDSA) -> SimulatedTpm:
    return SimulatedTpm(SEED, CREATED, scheme)


def roots() -> Roots:
    return Roots.simulated(sim().root_pem)


@functools.lru_cache(maxsize=1)
def healthy() -> bytes:
    return sim().evidence(REPORT_DATA)


def verify(data: bytes | None = None, now: int = NOW, under: Roots | None = None) -> TpmVerified:
    verified = evidence.verify(evidence.parse(data or healthy()), None, under or roots(), now)
    assert isinstance(verified, TpmVerified)
    return verified


def opened(data: bytes | None = None) -> dict[str, Any]:
    """The container's map."""
    return canonical.decode(data or healthy(), max_size=1 << 20)


def rebuilt(**changes: Any) -> bytes:
    return canonical.encode(opened() | changes)


def policy(evidence_table: dict[str, Any] | None = None, **tpm: Any) -> Policy:
    """A policy that accepts the simulated TPM's boot; a keyword replaces a field of [tpm], None takes it out."""
    value = verify().quote.pcrs.get("sha256", 7)
    assert value is not None
    table = {"pcrs": {"sha256": {"pcr7": [value.hex()]}}} | tpm
    return load_policy(
        {
            "version": 1,
            "evidence": {
                "tcb_status": ["UpToDate"],
                "simulation": True,
                "simulated_root": sim().root_fingerprint.hex(),
            }
            | (evidence_table or {}),
            "tpm": {name: value for name, value in table.items() if value is not None},
        }
    )


__all__ = ["healthy", "opened", "policy", "rebuilt", "roots", "roots_for", "sim", "verify"]
