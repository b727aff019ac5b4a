"""Whether an enclave gets a model's key: a pure function of evidence, rules, what the broker knows, and the request.

    decide(evidence, rules, standing, request) -> Release | Refusal

Every check runs, and a refusal lists every expectation that was not met.  Nothing here reads a clock, a file or a
global, and nothing is allowed by being absent: unless every check passes there is no release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attestation.broker.budgets import BudgetRules
from attestation.broker.errors import BrokerCode
from attestation.broker.schema import LeaseRow, ModelRow
from attestation.types import EVERY, Delegation, PlatformClass, Right
from manifests.errors import ErrorCode

MAX_TEXT = 256
"""What was expected or found, in an audit row: longer texts are cut."""
_REMEDIES = {str(code): code.remedy for code in BrokerCode}


@dataclass(frozen=True)
class Unmet:
    """One expectation that was not met: its stable code, what was expected, and what was found."""

    code: str
    expected: str
    found: str

    def to_dict(self) -> dict[str, str]:
        """Give the machine-readable form."""
        return {"code": self.code, "expected": self.expected, "found": self.found}


@dataclass(frozen=True)
class OwnerClaim:
    """What the enclave says, under its quote, of one owner that it serves.

    beat_epoch: the epoch of the newest heartbeat that it shows, if this very broker signed it; else 0.
    """

    owner: bytes
    beat_epoch: int


@dataclass(frozen=True)
class Evidence:
    """What was learnt of an enclave in one attested session.

    accepted and failures: the appraisal's verdict and its failed findings.  expires: the first Unix second at which
    the collateral behind it no longer stands.  admitted: owners by key, or "first", or "any", as the claims say.
    digest: of quote and claims, 64 bytes.  policy: epoch of the release policy that it was appraised under; a ledger
    gives each epoch to one policy.
    """

    accepted: bool
    failures: tuple[Unmet, ...]
    platform: PlatformClass
    measurement: bytes
    expires: int
    boot_id: bytes
    admitted: tuple[bytes, ...] | str
    owners: tuple[OwnerClaim, ...]
    digest: bytes
    policy: int


@dataclass(frozen=True)
class Rules:
    """The [release] table of a policy, and the class of platform that the policy is for.

    lease: requests that a grant or heartbeat allows.  models: names, digests in hexadecimal, or "*".  max_enclaves:
    how many enclaves may hold one model at a time.  heartbeat_seconds: between two heartbeats.  older_epochs: how many
    epochs of a name below the newest are released, too.  budget: what one client identity may ask; None: anything.
    """

    platform: PlatformClass
    lease: int
    heartbeat_seconds: int
    models: tuple[str, ...]
    min_epoch: int
    max_enclaves: int
    older_epochs: int
    budget: BudgetRules | None = None


@dataclass(frozen=True)
class Standing:
    """What the broker knows that bears on one model and one enclave.

    revoked: whether the digest itself was revoked.  epoch_floor: of revocations, for this owner and name.  owner_epoch:
    the owner's newest epoch.  holders: other enclaves with a lease on the model that may be unspent.  lease: this
    enclave's, or None.  policy: epoch of the release policy in force.  newer: epochs above the model's that the broker
    holds of its owner and name, in ascending order.
    """

    revoked: bool = False
    epoch_floor: int = 0
    owner_epoch: int = 0
    holders: int = 0
    lease: LeaseRow | None = None
    policy: int = 0
    newer: tuple[int, ...] = ()


@dataclass(frozen=True)
class Request:
    """What is asked: a model's key (right `provision`), or its lease anew (right `heartbeat`).

    delegation: as the owner signed it.  broker: this broker's public key.  handshake_hash: the session's.  now: Unix
    seconds.
    """

    model: ModelRow
    right: Right
    delegation: Delegation
    broker: bytes
    handshake_hash: bytes
    now: int


@dataclass(frozen=True)
class Release:
    """The enclave meets every expectation; it may answer `lease` requests."""

    lease: int


@dataclass(frozen=True)
class Refusal:
    """The enclave does not; `unmet` is never empty."""

    unmet: tuple[Unmet, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes in the order of the checks."""
        return tuple(item.code for item in self.unmet)

    @property
    def remedy(self) -> str | None:
        """What to do about the broker's own codes; those of the appraisal are explained by its findings."""
        remedies = (_REMEDIES.get(code) for code in self.codes)
        return "; ".join(dict.fromkeys(filter(None, remedies))) or None


def decide(evidence: Evidence, rules: Rules, standing: Standing, request: Request) -> Release | Refusal:
    """Decide one request; every check runs."""
    unmet = tuple(item for check in _CHECKS for item in check(evidence, rules, standing, request))
    return Refusal(unmet) if unmet else Release(rules.lease)


def unmet(code: ErrorCode | str, expected: object, found: object) -> Unmet:
    """Make an entry of a refusal, its texts cut to a bounded length."""
    return Unmet(str(code), str(expected)[:MAX_TEXT], str(found)[:MAX_TEXT])


_Check = Callable[[Evidence, Rules, Standing, Request], Iterator[Unmet]]


def _appraisal(evidence: Evidence, _rules: Rules, standing: Standing, request: Request) -> Iterator[Unmet]:
    """1. The appraisal accepted the evidence under the very policy that is in force, and it still stands."""
    yield from evidence.failures
    if not evidence.accepted and not evidence.failures:
        yield unmet(BrokerCode.RELEASE_REFUSED, "an appraisal that accepts", "one that does not")
    if request.now >= evidence.expires:
        yield unmet(BrokerCode.EVIDENCE_EXPIRED, f"a decision before {evidence.expires}", request.now)
    if evidence.policy != standing.policy:
        yield unmet(BrokerCode.POLICY_CHANGED, f"policy {standing.policy}", f"policy {evidence.policy}")


def _platform(evidence: Evidence, rules: Rules, _standing: Standing, _request: Request) -> Iterator[Unmet]:
    """2. Silicon and the simulator never mix."""
    if evidence.platform is not rules.platform:
        yield unmet(BrokerCode.PLATFORM_MIXED, rules.platform, evidence.platform)


def _owner(evidence: Evidence, _rules: Rules, standing: Standing, request: Request) -> Iterator[Unmet]:
    """3. The enclave serves this owner, and has seen no newer state of this broker than its own."""
    owner = request.model.owner
    known = tuple(claim.owner for claim in evidence.owners)
    if isinstance(evidence.admitted, tuple):
        admitted = owner in evidence.admitted
    else:
        admitted = evidence.admitted == "any" or not known or owner in known
    if not admitted:
        names = evidence.admitted if isinstance(evidence.admitted, tuple) else known
        yield unmet(BrokerCode.OWNER_NOT_ADMITTED, owner.hex(), ", ".join(item.hex() for item in names))
    for claim in evidence.owners:
        if claim.owner == owner and claim.beat_epoch > standing.owner_epoch:
            yield unmet(BrokerCode.EPOCH_BEHIND_ENCLAVE, f"at least {claim.beat_epoch}", standing.owner_epoch)


def _policy(_evidence: Evidence, rules: Rules, standing: Standing, request: Request) -> Iterator[Unmet]:
    """4. The policy names the model, and does not find it too old.

    An enclave that already has the key of a model that was superseded may go on with it until it is revoked.
    """
    model = request.model
    if not {EVERY, model.name, model.digest.hex()} & set(rules.models):
        yield unmet(BrokerCode.MODEL_NOT_IN_POLICY, ", ".join(rules.models), f"{model.name} {model.digest.hex()}")
    if model.epoch < rules.min_epoch:
        yield unmet(BrokerCode.EPOCH_BELOW_POLICY, f"at least {rules.min_epoch}", model.epoch)
    if request.right is Right.PROVISION and len(standing.newer) > rules.older_epochs:
        least = standing.newer[len(standing.newer) - 1 - rules.older_epochs]
        yield unmet(BrokerCode.EPOCH_SUPERSEDED, f"at least {least}", model.epoch)


def _delegation(_evidence: Evidence, _rules: Rules, _standing: Standing, request: Request) -> Iterator[Unmet]:
    """5. The owner lets this broker do this with this model."""
    delegation, model = request.delegation, request.model
    if delegation.owner != model.owner:
        yield unmet(BrokerCode.DELEGATION_OWNER, model.owner.hex(), delegation.owner.hex())
    if delegation.broker != request.broker:
        yield unmet(BrokerCode.DELEGATION_BROKER, request.broker.hex(), delegation.broker.hex())
    if request.right not in delegation.rights:
        yield unmet(BrokerCode.DELEGATION_RIGHT, request.right, ", ".join(delegation.rights))
    if not delegation.names(model.name):
        yield unmet(BrokerCode.DELEGATION_MODEL, model.name, ", ".join(delegation.models))
    if model.epoch < delegation.epoch_floor:
        yield unmet(BrokerCode.EPOCH_BELOW_DELEGATION, f"at least {delegation.epoch_floor}", model.epoch)


def _revocation(_evidence: Evidence, _rules: Rules, standing: Standing, request: Request) -> Iterator[Unmet]:
    """6. Nothing has revoked the model."""
    if standing.revoked:
        yield unmet(BrokerCode.MODEL_REVOKED, "a model that was not revoked", request.model.digest.hex())
    if request.model.epoch < standing.epoch_floor:
        yield unmet(BrokerCode.EPOCH_REVOKED, f"at least {standing.epoch_floor}", request.model.epoch)


def _enclave(_evidence: Evidence, rules: Rules, standing: Standing, request: Request) -> Iterator[Unmet]:
    """7. A key is released once in a session, and to so many enclaves at a time; a lease is renewed where one was."""
    lease = standing.lease
    if standing.holders >= rules.max_enclaves:
        yield unmet(BrokerCode.ENCLAVES_EXHAUSTED, f"fewer than {rules.max_enclaves} others", standing.holders)
    if request.right is Right.HEARTBEAT:
        if lease is None:
            yield unmet(BrokerCode.LEASE_UNKNOWN, "a key released to this enclave", "none")
    elif lease is not None and lease.requests and lease.handshake_hash == request.handshake_hash:
        yield unmet(BrokerCode.SESSION_USED, "a session in which it was not released", lease.serial.hex())


_CHECKS: tuple[_Check, ...] = (_appraisal, _platform, _owner, _policy, _delegation, _revocation, _enclave)
