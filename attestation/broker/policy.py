r"""Release policies as the broker keeps them: signed documents whose epoch grows by one each time.

    body = {version, lineage (64), epoch, previous (64), time, policy}            label "strongroom release policy v1\0"

`policy` is the policy as `Policy.to_dict` gives it, with the simulated root as its SHA-256, so that the document
means the same wherever it is opened.  `previous` is the digest of the document before, or zeros.  The lineage says
which line of policies may release a key; it is bound into each wrapped key, and follows from the broker's key and
the line's name.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from attestation.binding import HASH_SIZE
from attestation.broker.budgets import BudgetRules
from attestation.broker.decide import Rules
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.schema import PolicyRow
from attestation.broker.state import State
from attestation.errors import PolicyCode, PolicyError
from attestation.evidence import Roots
from attestation.policy import Policy, load_policy, roots_for
from attestation.types import PlatformClass
from manifests import fields, signing

RELEASE_POLICY = signing.label("release policy")
LINEAGE = signing.label("policy lineage")
DEFAULT_LINEAGE = "default"
NO_PREVIOUS = bytes(HASH_SIZE)

_FIELDS = ("lineage", "epoch", "previous", "time", "policy")


@dataclass(frozen=True)
class PolicyDocument:
    """A release policy as signed.  epoch counts from 1; time is when it was set."""

    lineage: bytes
    epoch: int
    previous: bytes
    time: int
    policy: Mapping[str, Any]

    def sign(self, signer: signing.Signer) -> bytes:
        """Return the signed document."""
        return signer.sign_document(RELEASE_POLICY, {**self.__dict__, "version": 1, "policy": dict(self.policy)})

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        value = signing.open_versioned(broker, RELEASE_POLICY, document, _FIELDS)
        return cls(
            lineage=fields.fixed_bytes(value["lineage"], "lineage", HASH_SIZE),
            epoch=fields.number(value["epoch"], "epoch", 1),
            previous=fields.fixed_bytes(value["previous"], "previous", HASH_SIZE),
            time=fields.number(value["time"], "time", 0),
            policy=fields.of_type(value["policy"], "policy", dict),
        )


@dataclass(frozen=True)
class ActivePolicy:
    """The policy in force: what appraises evidence, what it is appraised under, and the rules of release."""

    epoch: int
    lineage: bytes
    digest: bytes
    time: int
    policy: Policy
    roots: Roots
    rules: Rules


def lineage_of(broker: bytes, name: str = DEFAULT_LINEAGE) -> bytes:
    """Return the identifier of a line of policies, 64 bytes."""
    return signing.digest(LINEAGE, broker + name.encode())


def policy_digest(document: bytes) -> bytes:
    """Return SHA-512 of a signed policy, 64 bytes."""
    return hashlib.sha512(document).digest()


def active_policy(state: State, broker: bytes) -> ActivePolicy:
    """Return the policy in force; raises BrokerError `policy-missing`, ManifestError or PolicyError."""
    row = state.policy()
    if row is None:
        raise BrokerError(
            BrokerCode.POLICY_MISSING,
            "no release policy is set, so no key is released",
            remedy="set one with `strongroom broker policy set FILE`",
        )
    return _activate(row, broker)


@functools.lru_cache(maxsize=8)
def _activate(row: PolicyRow, broker: bytes) -> ActivePolicy:
    """Verify and load one policy; a row is immutable, so once is enough."""
    document = PolicyDocument.open(row.document, broker)
    if document.epoch != row.epoch:
        raise BrokerError(BrokerCode.STORE_ALTERED, "a policy stands under another epoch than it was signed for")
    policy = load_policy(document.policy)
    return ActivePolicy(
        epoch=document.epoch,
        lineage=document.lineage,
        digest=policy_digest(row.document),
        time=document.time,
        policy=policy,
        roots=roots_for(policy),
        rules=rules_of(policy),
    )


def rules_of(policy: Policy) -> Rules:
    """Return the rules of release; raises PolicyError `policy-vacuous` for a policy without a [release] table."""
    release = policy.release
    if release is None:
        raise PolicyError(
            PolicyCode.POLICY_VACUOUS,
            "a broker's policy needs a [release] table",
            remedy="add [release] with lease, heartbeat_seconds, models and max_enclaves",
        )
    return Rules(
        platform=PlatformClass.SIMULATED if policy.evidence.simulation else PlatformClass.HARDWARE,
        lease=release.lease,
        heartbeat_seconds=release.heartbeat_seconds,
        models=release.models,
        min_epoch=release.min_epoch,
        max_enclaves=release.max_enclaves,
        older_epochs=release.older_epochs,
        budget=BudgetRules.of(release),
    )
