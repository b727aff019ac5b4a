"""Documents that the owner and its brokers sign: delegations, grants, heartbeats, revocations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from attestation.binding import HASH_SIZE
from attestation.types.budgets import BudgetTerms, optional_terms
from manifests import fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_NAME = 128
EVERY = "*"
"""Stands for every model of an owner, in delegations and revocations; no model has this name."""

DELEGATION = signing.label("delegation")
GRANT = signing.label("grant")
HEARTBEAT = signing.label("heartbeat")
REVOCATION = signing.label("revocation")


class PlatformClass(StrEnum):
    """Whether a platform is silicon or the simulator.  The two never mix."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"


class Right(StrEnum):
    """What a delegation lets a broker key do."""

    PROVISION = "provision"
    HEARTBEAT = "heartbeat"
    REVOKE = "revoke"
    FLEET = "fleet"


@dataclass(frozen=True)
class Delegation:
    """Signed by the owner: names a broker key, its rights, the models it covers, and an epoch floor.

    `models` are model names, or the single entry "*"; an empty list is refused.
    """

    owner: bytes
    broker: bytes
    rights: tuple[Right, ...]
    models: tuple[str, ...]
    epoch_floor: int

    def sign(self, owner_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {
            "version": 1,
            "owner": self.owner,
            "broker": self.broker,
            "rights": sorted(str(right) for right in self.rights),
            "models": sorted(self.models),
            "epoch_floor": self.epoch_floor,
        }
        return owner_key.sign_document(DELEGATION, body)

    @classmethod
    def open(cls, document: bytes, owner: bytes) -> Self:
        """Verify under the owner's key and decode; raises ManifestError."""
        value = signing.open_versioned(owner, DELEGATION, document, cls.__dataclass_fields__)
        rights = [fields.member(Right, item, "rights") for item in fields.list_of(value["rights"], "rights", 8)]
        models = [fields.text(item, "models", MAX_NAME) for item in fields.list_of(value["models"], "models", 1024)]
        if not rights or not models:
            raise ManifestError(ManifestCode.FIELD_INVALID, "a delegation without rights or models means nothing")
        if EVERY in models and len(models) > 1:
            raise ManifestError(ManifestCode.FIELD_INVALID, "'*' covers every model, so it stands alone")
        fields.ascending([str(right) for right in rights], "rights")
        fields.ascending(models, "models")
        if value["owner"] != owner:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the delegation names another owner than its signer")
        return cls(
            owner=signing.public_key_field(value["owner"], "owner"),
            broker=signing.public_key_field(value["broker"], "broker"),
            rights=tuple(rights),
            models=tuple(models),
            epoch_floor=fields.number(value["epoch_floor"], "epoch_floor", 0),
        )

    @property
    def is_owner_wide(self) -> bool:
        """Whether the delegation reaches every name, so that what is signed under it may speak for the owner."""
        return self.models == (EVERY,)

    def names(self, name: str) -> bool:
        """Tell whether the delegation reaches models of this name, or all of them for "*"."""
        return self.is_owner_wide or name in self.models

    def covers(self, name: str, epoch: int) -> bool:
        """Tell whether the delegation reaches a model of this name and epoch."""
        return epoch >= self.epoch_floor and self.names(name)


def document_digest(document: bytes) -> bytes:
    """Return the SHA-512 by which other documents name a signed document."""
    return signing.digest(signing.label("document"), document)


@dataclass(frozen=True)
class Grant:
    """Signed by a delegated broker key: the right to run one model inside one session's enclave.

    handshake_hash: h of the provisioning session (64 bytes).  serial: 16 random bytes, used once.  lease: number
    of requests.  audit_head: the broker's audit-log head (64 bytes) after the row of this release.  budget: terms of
    identities' budgets on the model's name; a grant without them has no such field.
    """

    owner: bytes
    delegation: bytes
    model: bytes
    name: str
    epoch: int
    handshake_hash: bytes
    serial: bytes
    lease: int
    platform: PlatformClass
    audit_head: bytes
    time: int
    budget: BudgetTerms | None = None

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "platform": str(self.platform)}
        del body["budget"]
        if self.budget is not None:
            body["budget"] = self.budget.to_map()
        return broker_key.sign_document(GRANT, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        names = [name for name in cls.__dataclass_fields__ if name != "budget"]
        value = signing.open_versioned(broker, GRANT, document, names, ("budget",))
        return cls(
            owner=signing.public_key_field(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            model=fields.fixed_bytes(value["model"], "model", HASH_SIZE),
            name=fields.text(value["name"], "name", MAX_NAME),
            epoch=fields.number(value["epoch"], "epoch", 0),
            handshake_hash=fields.fixed_bytes(value["handshake_hash"], "handshake_hash", HASH_SIZE),
            serial=fields.fixed_bytes(value["serial"], "serial", 16),
            lease=fields.number(value["lease"], "lease", 1),
            platform=fields.member(PlatformClass, value["platform"], "platform"),
            audit_head=fields.fixed_bytes(value["audit_head"], "audit_head", HASH_SIZE),
            time=fields.number(value["time"], "time", 0),
            budget=optional_terms(value),
        )


@dataclass(frozen=True)
class Heartbeat:
    """Signed by a delegated broker key: answers a fresh nonce of one enclave and sets its leases anew.

    nonce: 32 bytes that the enclave drew.  boot_id: the enclave's.  leases: (model digest, requests) pairs in
    ascending order of digest.  time and epoch are what the client holds the broker's age against.
    """

    owner: bytes
    delegation: bytes
    nonce: bytes
    boot_id: bytes
    time: int
    epoch: int
    leases: tuple[tuple[bytes, int], ...]

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "leases": [list(pair) for pair in self.leases]}
        return broker_key.sign_document(HEARTBEAT, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        value = signing.open_versioned(broker, HEARTBEAT, document, cls.__dataclass_fields__)
        leases = []
        for item in fields.list_of(value["leases"], "leases", 1024):
            pair = fields.list_of(item, "leases", 2)
            if len(pair) != 2:
                raise ManifestError(ManifestCode.FIELD_INVALID, "a lease is a pair")
            leases.append((fields.fixed_bytes(pair[0], "leases", HASH_SIZE), fields.number(pair[1], "leases", 0)))
        fields.ascending([model for model, _ in leases], "leases")
        return cls(
            owner=signing.public_key_field(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            nonce=fields.fixed_bytes(value["nonce"], "nonce", 32),
            boot_id=fields.fixed_bytes(value["boot_id"], "boot_id", 16),
            time=fields.number(value["time"], "time", 0),
            epoch=fields.number(value["epoch"], "epoch", 0),
            leases=tuple(leases),
        )


@dataclass(frozen=True)
class Revocation:
    """Signed by a delegated broker key: models of `name` (or "*") below `epoch`, and those in `models`, end.

    `epoch` becomes the owner's new floor for that name; an empty `models` with epoch 0 is refused as vacuous.
    """

    owner: bytes
    delegation: bytes
    name: str
    epoch: int
    models: tuple[bytes, ...]
    time: int

    def names(self, name: str) -> bool:
        """Tell whether the revocation is about models of this name."""
        return self.name in {EVERY, name}

    def ends(self, name: str, epoch: int, digest: bytes) -> bool:
        """Tell whether the revocation ends a model of its owner."""
        return self.names(name) and (epoch < self.epoch or digest in self.models)

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "models": sorted(self.models)}
        return broker_key.sign_document(REVOCATION, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        value = signing.open_versioned(broker, REVOCATION, document, cls.__dataclass_fields__)
        items = fields.list_of(value["models"], "models", 1024)
        models = [fields.fixed_bytes(item, "models", HASH_SIZE) for item in items]
        fields.ascending(models, "models")
        epoch = fields.number(value["epoch"], "epoch", 0)
        if not models and not epoch:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the revocation revokes nothing")
        return cls(
            owner=signing.public_key_field(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            name=fields.text(value["name"], "name", MAX_NAME),
            epoch=epoch,
            models=tuple(models),
            time=fields.number(value["time"], "time", 0),
        )
