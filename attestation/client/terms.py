"""On which terms a client connects: gathered once, checked once, and kept for a session that is resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from attestation.client.call import PATIENT, Call, Timeouts
from attestation.client.conversation import Identity
from attestation.client.epochs import EpochMemory
from attestation.client.errors import ClientCode, ClientError
from attestation.client.freshness import Freshness
from attestation.client.retries import Retries
from attestation.client.trust import RelyingParty
from attestation.collateral import CollateralSource, open_source
from attestation.evidence import Roots
from attestation.policy import Policy, load_policy, roots_for
from manifests.signing import Signer


@dataclass(frozen=True)
class Terms:
    """How to open connections, and what to hold the answers against."""

    call: Call
    freshness: Freshness
    retries: Retries | None = None


class Options(TypedDict, total=False):
    """What may be said beside address, policy and collateral; `Session.connect` explains it."""

    route: str
    key: Signer | None
    credential: bytes
    roots: Roots | None
    memory: EpochMemory | None
    timeouts: Timeouts
    retries: Retries | None
    now: Callable[[], float]


def make_terms(
    address: str,
    policy: Policy | Path | str,
    collateral: CollateralSource | Path | str | None,
    *,
    route: str = "default",
    key: Signer | None = None,
    credential: bytes = b"",
    roots: Roots | None = None,
    memory: EpochMemory | None = None,
    timeouts: Timeouts = PATIENT,
    retries: Retries | None = None,
    now: Callable[[], float] = time.time,
) -> Terms:
    """Load what is given as a path and check that all is there; raises StrongroomError with what to do."""
    loaded = _policy(policy)
    if loaded.service is None:
        raise ClientError(
            ClientCode.POLICY_UNSUITABLE,
            "the policy says nothing of whom a client is served by",
            remedy="add a [service] table that names the owners",
        )
    party = RelyingParty(loaded, _source(collateral), roots or roots_for(loaded), now)
    identity = None if key is None else Identity(key, credential)
    call = Call(address, party, route=route, identity=identity, timeouts=timeouts)
    return Terms(call, Freshness(loaded.service, memory or EpochMemory(), now), retries)


def _policy(policy: Policy | Path | str) -> Policy:
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, Path | str):
        raise ClientError(
            ClientCode.POLICY_UNSUITABLE,
            "a session needs a policy to hold the enclave against",
            expected="a Policy, or the path of its TOML file",
            found=type(policy).__name__,
            remedy="give the policy's file, or what `load_policy` returns",
        )
    return load_policy(policy)


def _source(collateral: CollateralSource | Path | str | None) -> CollateralSource:
    if isinstance(collateral, CollateralSource):
        return collateral
    if collateral is None:
        raise ClientError(
            ClientCode.COLLATERAL_UNNAMED,
            "collateral is needed to verify evidence, and no source of it was given",
            remedy="give the directory that holds it; a simulated platform writes it to its `collateral` folder",
        )
    return open_source(Path(collateral))
