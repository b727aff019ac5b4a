"""Documents that relying parties and enclaves exchange: claims, evidence records, and what a broker signs.

Each class has `encode`-like and `decode`-like methods that are exact inverses; decoders are total and raise
ManifestError alone.  Byte-valued fields are raw bytes; times are Unix seconds; epochs only ever grow.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from attestation.binding import HASH_SIZE, MAX_PATH, InclusionProof
from manifests import canonical, fields, signing
from manifests.errors import ManifestCode, ManifestError

MAX_CLAIMS = 64 * 1024
MAX_QUOTE = 16 * 1024
"""A quote of Gramine is at most 8,192 bytes; a confidential VM's is of the same order."""
MAX_EVIDENCE = 2 * (MAX_CLAIMS + MAX_QUOTE)
MAX_OWNERS = 16
MAX_NAME = 128
HPKE_PUBLIC_SIZE = 1216
"""X-Wing: an ML-KEM-768 encapsulation key (1,184 bytes) and an X25519 public key (32 bytes)."""

DELEGATION = signing.label("delegation")
GRANT = signing.label("grant")
HEARTBEAT = signing.label("heartbeat")
REVOCATION = signing.label("revocation")
CREDENTIAL = signing.label("credential")
CLIENT_AUTHENTICATION = signing.label("client authentication")


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


def _member(kind: type[StrEnum], value: object, name: str) -> Any:
    try:
        return kind(fields.of_type(value, name, str))
    except ValueError:
        raise ManifestError(
            ManifestCode.FIELD_INVALID,
            f"field {name!r} has an unknown value",
            expected=[str(k) for k in kind],
        ) from None


def _ascending(items: list[Any], name: str) -> None:
    if any(not first < second for first, second in itertools.pairwise(items)):
        raise ManifestError(ManifestCode.FIELD_INVALID, f"{name!r} is not strictly ascending")


def _public_key(value: object, name: str) -> bytes:
    return signing.check_public_key(fields.fixed_bytes(value, name, signing.KEY_SIZE))


# ---------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class OwnerState:
    """What the enclave knows of one owner: newest epoch, newest heartbeat and delegation as signed documents.

    `heartbeat` and `delegation` are empty before the first provisioning.
    """

    owner: bytes
    epoch: int
    heartbeat: bytes
    delegation: bytes


@dataclass(frozen=True)
class Claims:
    """What an enclave says of itself under its quote.

    receipt_key: Ed25519 public key, 32 bytes.  hpke_key: X-Wing public key, 1,216 bytes.  boot_id: 16 random
    bytes drawn at start.  admitted: the owners that the measured settings name, or `first` (the first valid
    grant fixes the one owner) or `any`.  gpu_evidence: SHA-512 of GPU evidence, or empty.
    """

    receipt_key: bytes
    hpke_key: bytes
    boot_id: bytes
    admitted: tuple[bytes, ...] | str
    owners: tuple[OwnerState, ...]
    gpu_evidence: bytes = b""

    def encode(self) -> bytes:
        """Return the canonical bytes that the quote covers."""
        return canonical.encode(
            {
                "version": 1,
                "receipt_key": self.receipt_key,
                "hpke_key": self.hpke_key,
                "boot_id": self.boot_id,
                "admitted": self.admitted if isinstance(self.admitted, str) else list(self.admitted),
                "owners": [[o.owner, o.epoch, o.heartbeat, o.delegation] for o in self.owners],
                "gpu_evidence": self.gpu_evidence,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode claims; raises ManifestError."""
        names = ("version", "receipt_key", "hpke_key", "boot_id", "admitted", "owners", "gpu_evidence")
        value = fields.closed_map(canonical.decode(data, max_size=MAX_CLAIMS), "claims", names)
        fields.number(value["version"], "version", 1, 1)
        gpu = fields.bounded_bytes(value["gpu_evidence"], "gpu_evidence", HASH_SIZE)
        if len(gpu) not in {0, HASH_SIZE}:
            raise ManifestError(ManifestCode.FIELD_INVALID, "gpu_evidence is neither empty nor a digest")
        owners = tuple(cls._owner(item) for item in fields.list_of(value["owners"], "owners", MAX_OWNERS))
        _ascending([owner.owner for owner in owners], "owners")
        return cls(
            receipt_key=_public_key(value["receipt_key"], "receipt_key"),
            hpke_key=fields.fixed_bytes(value["hpke_key"], "hpke_key", HPKE_PUBLIC_SIZE),
            boot_id=fields.fixed_bytes(value["boot_id"], "boot_id", 16),
            admitted=cls._admitted(value["admitted"]),
            owners=owners,
            gpu_evidence=gpu,
        )

    @staticmethod
    def _admitted(value: object) -> tuple[bytes, ...] | str:
        if isinstance(value, str):
            if value not in {"first", "any"}:
                raise ManifestError(ManifestCode.FIELD_INVALID, "admitted is neither keys, 'first' nor 'any'")
            return value
        keys = [_public_key(item, "admitted") for item in fields.list_of(value, "admitted", MAX_OWNERS)]
        if not keys:
            raise ManifestError(ManifestCode.FIELD_INVALID, "admitted names no owner")
        _ascending(keys, "admitted")
        return tuple(keys)

    @staticmethod
    def _owner(value: object) -> OwnerState:
        items = fields.list_of(value, "owner", 4)
        if len(items) != 4:
            raise ManifestError(ManifestCode.FIELD_INVALID, "an owner entry has four items", found=len(items))
        return OwnerState(
            owner=_public_key(items[0], "owner"),
            epoch=fields.number(items[1], "epoch", 0),
            heartbeat=fields.bounded_bytes(items[2], "heartbeat", 4096),
            delegation=fields.bounded_bytes(items[3], "delegation", 16 * 1024),
        )


@dataclass(frozen=True)
class EvidenceRecord:
    """Content of the `evidence` record: claims and quote as bytes, the inclusion proof, a collateral hint.

    `hint` is free text such as "sgx fmspc=00906ed50000 ca=processor"; it is advice, never trusted.
    """

    claims: bytes
    quote: bytes
    proof: InclusionProof
    hint: str

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode(
            {
                "version": 1,
                "claims": self.claims,
                "quote": self.quote,
                "index": self.proof.index,
                "size": self.proof.size,
                "path": list(self.proof.path),
                "hint": self.hint,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode an evidence record; raises ManifestError.  Nothing in it is verified."""
        names = ("version", "claims", "quote", "index", "size", "path", "hint")
        value = fields.closed_map(canonical.decode(data, max_size=MAX_EVIDENCE), "evidence", names)
        fields.number(value["version"], "version", 1, 1)
        size = fields.number(value["size"], "size", 1, 1 << MAX_PATH)
        path = fields.list_of(value["path"], "path", MAX_PATH)
        return cls(
            claims=fields.bounded_bytes(value["claims"], "claims", MAX_CLAIMS),
            quote=fields.bounded_bytes(value["quote"], "quote", MAX_QUOTE),
            proof=InclusionProof(
                index=fields.number(value["index"], "index", 0, size - 1),
                size=size,
                path=tuple(fields.fixed_bytes(item, "path", HASH_SIZE) for item in path),
            ),
            hint=fields.text(value["hint"], "hint", 256),
        )

    def digest(self) -> bytes:
        """Return SHA-512 of quote and claims: the evidence digest that tickets and receipts carry."""
        return hashlib.sha512(
            signing.label("evidence") + hashlib.sha512(self.quote).digest() + hashlib.sha512(self.claims).digest()
        ).digest()


# ------------------------------------------------------------------------------------ signed documents


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
        names = ("version", "owner", "broker", "rights", "models", "epoch_floor")
        value = fields.closed_map(signing.open_document(owner, DELEGATION, document), "delegation", names)
        fields.number(value["version"], "version", 1, 1)
        rights = [_member(Right, item, "rights") for item in fields.list_of(value["rights"], "rights", 8)]
        models = [fields.text(item, "models", MAX_NAME) for item in fields.list_of(value["models"], "models", 1024)]
        if not rights or not models:
            raise ManifestError(ManifestCode.FIELD_INVALID, "a delegation without rights or models means nothing")
        _ascending([str(right) for right in rights], "rights")
        _ascending(models, "models")
        if value["owner"] != owner:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the delegation names another owner than its signer")
        return cls(
            owner=_public_key(value["owner"], "owner"),
            broker=_public_key(value["broker"], "broker"),
            rights=tuple(rights),
            models=tuple(models),
            epoch_floor=fields.number(value["epoch_floor"], "epoch_floor", 0),
        )

    def covers(self, name: str, epoch: int) -> bool:
        """Tell whether the delegation reaches a model of this name and epoch."""
        return epoch >= self.epoch_floor and (self.models == ("*",) or name in self.models)


def document_digest(document: bytes) -> bytes:
    """Return the SHA-512 by which other documents name a signed document."""
    return signing.digest(signing.label("document"), document)


@dataclass(frozen=True)
class Grant:
    """Signed by a delegated broker key: the right to run one model inside one session's enclave.

    handshake_hash: h of the provisioning session (64 bytes).  serial: 16 random bytes, used once.  lease: number
    of requests.  audit_head: the broker's audit-log head (64 bytes) after the row of this release.
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

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "platform": str(self.platform)}
        return broker_key.sign_document(GRANT, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        names = ("version", *cls.__dataclass_fields__)
        value = fields.closed_map(signing.open_document(broker, GRANT, document), "grant", names)
        fields.number(value["version"], "version", 1, 1)
        return cls(
            owner=_public_key(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            model=fields.fixed_bytes(value["model"], "model", HASH_SIZE),
            name=fields.text(value["name"], "name", MAX_NAME),
            epoch=fields.number(value["epoch"], "epoch", 0),
            handshake_hash=fields.fixed_bytes(value["handshake_hash"], "handshake_hash", HASH_SIZE),
            serial=fields.fixed_bytes(value["serial"], "serial", 16),
            lease=fields.number(value["lease"], "lease", 1),
            platform=_member(PlatformClass, value["platform"], "platform"),
            audit_head=fields.fixed_bytes(value["audit_head"], "audit_head", HASH_SIZE),
            time=fields.number(value["time"], "time", 0),
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
        names = ("version", *cls.__dataclass_fields__)
        value = fields.closed_map(signing.open_document(broker, HEARTBEAT, document), "heartbeat", names)
        fields.number(value["version"], "version", 1, 1)
        leases = []
        for item in fields.list_of(value["leases"], "leases", 1024):
            pair = fields.list_of(item, "leases", 2)
            if len(pair) != 2:
                raise ManifestError(ManifestCode.FIELD_INVALID, "a lease is a pair")
            leases.append((fields.fixed_bytes(pair[0], "leases", HASH_SIZE), fields.number(pair[1], "leases", 0)))
        _ascending([model for model, _ in leases], "leases")
        return cls(
            owner=_public_key(value["owner"], "owner"),
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

    def sign(self, broker_key: signing.Signer) -> bytes:
        """Return the signed document."""
        body = {**self.__dict__, "version": 1, "models": sorted(self.models)}
        return broker_key.sign_document(REVOCATION, body)

    @classmethod
    def open(cls, document: bytes, broker: bytes) -> Self:
        """Verify under the broker's key and decode; raises ManifestError."""
        names = ("version", *cls.__dataclass_fields__)
        value = fields.closed_map(signing.open_document(broker, REVOCATION, document), "revocation", names)
        fields.number(value["version"], "version", 1, 1)
        items = fields.list_of(value["models"], "models", 1024)
        models = [fields.fixed_bytes(item, "models", HASH_SIZE) for item in items]
        _ascending(models, "models")
        epoch = fields.number(value["epoch"], "epoch", 0)
        if not models and not epoch:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the revocation revokes nothing")
        return cls(
            owner=_public_key(value["owner"], "owner"),
            delegation=fields.fixed_bytes(value["delegation"], "delegation", HASH_SIZE),
            name=fields.text(value["name"], "name", MAX_NAME),
            epoch=epoch,
            models=tuple(models),
            time=fields.number(value["time"], "time", 0),
        )


@dataclass(frozen=True)
class Credential:
    """Signed by the owner, or by a broker key that it delegated: names a client key as an identity."""

    issuer: bytes
    client: bytes
    name: str

    def sign(self, issuer_key: signing.Signer) -> bytes:
        """Return the signed document."""
        return issuer_key.sign_document(CREDENTIAL, {**self.__dict__, "version": 1})

    @classmethod
    def open(cls, document: bytes, issuer: bytes) -> Self:
        """Verify under the issuer's key and decode; raises ManifestError."""
        names = ("version", "issuer", "client", "name")
        value = fields.closed_map(signing.open_document(issuer, CREDENTIAL, document), "credential", names)
        fields.number(value["version"], "version", 1, 1)
        if value["issuer"] != issuer:
            raise ManifestError(ManifestCode.FIELD_INVALID, "the credential names another issuer than its signer")
        return cls(
            issuer=_public_key(value["issuer"], "issuer"),
            client=_public_key(value["client"], "client"),
            name=fields.text(value["name"], "name", MAX_NAME),
        )


@dataclass(frozen=True)
class ClientAuthentication:
    """Content of the `authenticate` record: signature over label || h || SHA-512(claims) || client key."""

    client: bytes
    credential: bytes
    signature: bytes

    @classmethod
    def sign(cls, key: signing.Signer, credential: bytes, handshake_hash: bytes, claims: bytes) -> Self:
        """Authenticate a client within one session."""
        signature = key.sign(CLIENT_AUTHENTICATION, cls._body(handshake_hash, claims, key.public))
        return cls(key.public, credential, signature)

    @staticmethod
    def _body(handshake_hash: bytes, claims: bytes, client: bytes) -> bytes:
        return handshake_hash + hashlib.sha512(claims).digest() + client

    def verify(self, handshake_hash: bytes, claims: bytes) -> None:
        """Verify the signature for this session; raises ManifestError.  The credential is checked elsewhere."""
        body = self._body(handshake_hash, claims, self.client)
        signing.verify(self.client, CLIENT_AUTHENTICATION, body, self.signature)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.encode({"version": 1, **self.__dict__})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode; raises ManifestError."""
        names = ("version", "client", "credential", "signature")
        value = fields.closed_map(canonical.decode(data, max_size=8192), "authentication", names)
        fields.number(value["version"], "version", 1, 1)
        return cls(
            client=_public_key(value["client"], "client"),
            credential=fields.bounded_bytes(value["credential"], "credential", 4096),
            signature=fields.fixed_bytes(value["signature"], "signature", signing.SIGNATURE_SIZE),
        )
