"""What a broker may do inside a session: release a key, renew leases, revoke.

The enclave holds no verifier of evidence: the broker has verified this enclave before it sends anything.  Here only
signatures count: owner -> delegation -> broker -> document, each document bound to what it may act upon.

Checks of a grant, in this order:
 1. the delegation is signed by the owner that it names, and the grant by the broker that the delegation names;
 2. the delegation gives the right, and grant and delegation name each other;
 3. the grant is for this very session (h), its serial is unused, its class is this platform's;
 4. the delegation covers name and epoch; owner, floor, revocations and room admit it;
 5. the sealed file is the one with the grant's digest, signed by that owner, with that name and epoch;
 6. the model in it passes the check of its form and cost, before the runtime sees it.
Only then does the lease exist, and under `first` the owner become fixed.
"""

from __future__ import annotations

import hmac
import itertools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from attestation.binding import HASH_SIZE
from attestation.types import (
    Allotment,
    Delegation,
    Grant,
    Heartbeat,
    PlatformClass,
    Revocation,
    Right,
    document_digest,
)
from enclave.arena import Arena, Secret
from enclave.channel import Channel, ChannelSource
from enclave.condemned import Condemned
from enclave.errors import EnclaveCode, EnclaveError
from enclave.loaded import LoadedModel
from enclave.log import Event, log
from enclave.models import ModelLoader
from enclave.owners import MAX_DELEGATION, MAX_DELEGATIONS, MAX_HEARTBEAT, Challenge, Owners
from manifests import canonical, fields
from manifests.errors import StrongroomError
from manifests.signing import KEY_SIZE, MAX_DOCUMENT, public_key_field, split_document

DEK_SIZE = 32
NONCE_SIZE = 32
NONCE_LIFETIME = 120.0
"""Seconds between challenge and heartbeat, by the host's clock: best effort."""
MAX_SERIALS = 1024
"""Grants that one session may bring; a broker opens another session for more."""
MAX_NONCES = 16
"""Owners whose nonces one session may hold."""

Header = dict[str, canonical.Value]
Job = Callable[[], Header]


@dataclass
class ControlState:
    """What one session remembers for its control messages."""

    handshake_hash: bytes = b""
    serials: set[bytes] = field(default_factory=set)
    challenges: dict[bytes, Challenge] = field(default_factory=dict)
    in_control: bool = False
    """Whether a control message of this session was accepted: then revocations do not end it."""
    trusted: dict[bytes, Delegation] = field(default_factory=dict)
    """Delegations whose broker has signed a grant or heartbeat for this session, by document."""

    def trust(self, chain: Chain) -> None:
        """Note that the session is a broker's."""
        self.in_control = True
        self.trusted.pop(chain.document, None)
        self.trusted[chain.document] = chain.delegation
        while len(self.trusted) > MAX_DELEGATIONS:
            del self.trusted[next(iter(self.trusted))]

    def delegations(self, owner: bytes) -> list[Delegation]:
        """Return what brokers of this session are delegated by an owner."""
        return [delegation for delegation in self.trusted.values() if delegation.owner == owner]


@dataclass(frozen=True)
class Chain:
    """A verified delegation, as transmitted and as decoded."""

    document: bytes
    delegation: Delegation

    @classmethod
    def open(cls, document: bytes, right: Right) -> Chain:
        """Verify a delegation under the owner that it names, and that it gives `right`."""
        delegation = Delegation.open(document, _named_owner(document))
        if right not in delegation.rights:
            raise EnclaveError(EnclaveCode.RIGHT_MISSING, f"the delegation does not give the right to {right}")
        return cls(document, delegation)

    def bind(self, owner: bytes, digest: bytes) -> None:
        """Refuse a document that names another owner or delegation than this one."""
        if owner != self.delegation.owner or not hmac.compare_digest(digest, document_digest(self.document)):
            raise EnclaveError(EnclaveCode.DELEGATION_MISMATCH, "the document names another owner or delegation")


class Provisioner:
    """Acts on control messages.  Methods are called by sessions' threads; loading happens in the job's thread."""

    def __init__(
        self,
        *,
        owners: Owners,
        condemned: Condemned,
        loader: ModelLoader,
        channel: Channel,
        arena: Arena,
        platform: PlatformClass,
        boot_id: bytes,
    ) -> None:
        """Act for one enclave process."""
        self._owners = owners
        self._condemned = condemned
        self._loader = loader
        self._channel = channel
        self._arena = arena
        self._platform = platform
        self._boot_id = boot_id
        self._challenges = itertools.count(1)

    # ------------------------------------------------------------------------------------ provision

    def provision(self, state: ControlState, header: Mapping[str, canonical.Value]) -> Job:
        """Check a grant and return the job that loads the model; raises ManifestError or EnclaveError."""
        self._condemned.check()
        value = fields.closed_map(header, "request", ("op", "id", "delegation", "grant", "dek"))
        chain = Chain.open(fields.bounded_bytes(value["delegation"], "delegation", MAX_DELEGATION), Right.PROVISION)
        document = fields.bounded_bytes(value["grant"], "grant", MAX_DOCUMENT)
        dek = fields.fixed_bytes(value["dek"], "dek", DEK_SIZE)
        grant = Grant.open(document, chain.delegation.broker)
        self._check_grant(state, grant, chain)
        loaded = self._owners.check_grant(grant, chain.document)
        state.serials.add(grant.serial)
        if loaded is not None:
            return lambda: self._take_in(state, grant, chain, loaded)
        secret = self._arena.store(dek)
        return lambda: self._load(state, grant, chain, secret)

    def _check_grant(self, state: ControlState, grant: Grant, chain: Chain) -> None:
        chain.bind(grant.owner, grant.delegation)
        if not hmac.compare_digest(grant.handshake_hash, state.handshake_hash):
            raise EnclaveError(EnclaveCode.GRANT_SESSION, "the grant was made for another session")
        if grant.serial in state.serials or len(state.serials) >= MAX_SERIALS:
            raise EnclaveError(EnclaveCode.GRANT_REPLAYED, "the grant's serial was used before in this session")
        if grant.platform != self._platform:
            raise EnclaveError(
                EnclaveCode.GRANT_CLASS,
                f"the grant is for {grant.platform} platforms, and this one is {self._platform}",
                expected=self._platform,
                found=grant.platform,
            )
        if not chain.delegation.covers(grant.name, grant.epoch):
            raise EnclaveError(EnclaveCode.DELEGATION_SCOPE, "the delegation does not cover this model and epoch")

    def _load(self, state: ControlState, grant: Grant, chain: Chain, dek: Secret) -> Header:
        try:
            model = self._open(grant, dek.view)
        except StrongroomError as error:
            log(Event.PROVISION_REFUSED, error.code)
            raise
        finally:
            dek.wipe()
        return self._take_in(state, grant, chain, model)

    def _open(self, grant: Grant, dek: memoryview) -> LoadedModel:
        source = ChannelSource(self._channel, grant.model)
        try:
            return self._loader.load(source, grant, dek, self._owners.models())
        finally:
            source.close()

    def _take_in(self, state: ControlState, grant: Grant, chain: Chain, model: LoadedModel) -> Header:
        with self._owners.lock:
            self._condemned.check()
            lease = self._owners.add(grant, chain.delegation, chain.document, model)
        state.trust(chain)
        log(Event.PROVISIONED, epoch=grant.epoch, lease=lease)
        return {"model": grant.model, "lease": lease, "boot_id": self._boot_id}

    # ------------------------------------------------------------------------------------ heartbeats

    def challenge(self, state: ControlState, header: Mapping[str, canonical.Value]) -> Header:
        """Draw the nonce that the session's next heartbeat for this owner must answer.

        Anybody may ask, so the answer says which models are loaded, and nothing of how much they are used.  How
        budgets stand it says only to a session that a broker of this owner has proved to be its own.  A process
        that has condemned itself holds none, for good, and names those of which a run is stuck as `ending`.
        """
        value = fields.closed_map(header, "request", ("op", "id", "owner"))
        record = self._owners.known(public_key_field(value["owner"], "owner"))
        spent = self._owners.spent(record.owner)
        drawn = Challenge(os.urandom(NONCE_SIZE), time.monotonic(), next(self._challenges), spent)
        state.challenges[record.owner] = drawn
        while len(state.challenges) > MAX_NONCES:
            del state.challenges[next(iter(state.challenges))]
        answer: Header = {"nonce": drawn.nonce, "boot_id": self._boot_id, "models": list(spent), "epoch": record.epoch}
        if budgets := self._owners.budgets(record.owner, state.delegations(record.owner)):
            answer["budgets"] = [budget.encode() for budget in budgets]
        if self._condemned:
            answer |= {"models": [], "ending": list[canonical.Value](self._condemned.stuck(record.owner))}
        return answer

    def heartbeat(self, state: ControlState, header: Mapping[str, canonical.Value]) -> Header:
        """Renew leases and slices of budgets, if the heartbeat answers a fresh nonce of this session."""
        value = fields.closed_map(header, "request", ("op", "id", "delegation", "heartbeat"), ("allotment",))
        chain = Chain.open(fields.bounded_bytes(value["delegation"], "delegation", MAX_DELEGATION), Right.HEARTBEAT)
        document = fields.bounded_bytes(value["heartbeat"], "heartbeat", MAX_HEARTBEAT)
        heartbeat = Heartbeat.open(document, chain.delegation.broker)
        chain.bind(heartbeat.owner, heartbeat.delegation)
        answered = self._spend_nonce(state, heartbeat)
        allotment = _allotment(value, heartbeat, chain.delegation)
        with self._owners.lock:
            self._condemned.check()
            self._owners.apply_heartbeat(
                heartbeat, document, chain.delegation, chain.document, answered, allotment=allotment
            )
        state.trust(chain)
        log(Event.HEARTBEAT, epoch=heartbeat.epoch, leases=len(heartbeat.leases))
        return {"leases": [list(pair) for pair in self._owners.leases(heartbeat.owner)]}

    def _spend_nonce(self, state: ControlState, heartbeat: Heartbeat) -> Challenge:
        """Spend the nonce, whatever follows; return the challenge that it was drawn for."""
        challenge = state.challenges.pop(heartbeat.owner, None)
        fresh = challenge is not None and time.monotonic() - challenge.drawn <= NONCE_LIFETIME
        if challenge is None or not fresh or not self._answers(heartbeat, challenge):
            raise EnclaveError(EnclaveCode.NONCE_REFUSED, "the heartbeat answers no fresh nonce of this session")
        return challenge

    def _answers(self, heartbeat: Heartbeat, challenge: Challenge) -> bool:
        return hmac.compare_digest(challenge.nonce, heartbeat.nonce) and heartbeat.boot_id == self._boot_id

    # ------------------------------------------------------------------------------------ revocations

    def revoke(self, state: ControlState, header: Mapping[str, canonical.Value]) -> Header:
        """Apply a revocation; one that says nothing new ends nothing, and gives its session no standing."""
        value = fields.closed_map(header, "request", ("op", "id", "delegation", "revocation"))
        chain = Chain.open(fields.bounded_bytes(value["delegation"], "delegation", MAX_DELEGATION), Right.REVOKE)
        document = fields.bounded_bytes(value["revocation"], "revocation", MAX_DOCUMENT)
        revocation = Revocation.open(document, chain.delegation.broker)
        chain.bind(revocation.owner, revocation.delegation)
        if not chain.delegation.names(revocation.name):
            raise EnclaveError(EnclaveCode.DELEGATION_SCOPE, "the delegation does not cover what is revoked")
        ended = self._owners.apply_revocation(revocation, chain.delegation)
        if ended is None:
            return {"ended": []}
        state.in_control = True
        log(Event.REVOKED, epoch=revocation.epoch, ended=len(ended))
        return {"ended": [model.digest for model in ended]}


def _allotment(value: Header, heartbeat: Heartbeat, delegation: Delegation) -> Allotment | None:
    """Return the allotment that came with a heartbeat, if any; raises EnclaveError `nonce-refused` for another's."""
    if "allotment" not in value:
        return None
    document = fields.bounded_bytes(value["allotment"], "allotment", MAX_DOCUMENT)
    allotment = Allotment.open(document, delegation.broker)
    shared = ("owner", "delegation", "nonce", "boot_id")
    if [getattr(allotment, name) for name in shared] != [getattr(heartbeat, name) for name in shared]:
        raise EnclaveError(EnclaveCode.NONCE_REFUSED, "the allotment does not go with the heartbeat")
    return allotment


def _named_owner(document: bytes) -> bytes:
    """Return the owner that an unverified delegation names; its signature is then checked under that very key."""
    body = canonical.decode(split_document(document)[0], max_size=MAX_DELEGATION)
    fields.check_version(body, "the delegation")
    return public_key_field(fields.of_type(body, "delegation", dict).get("owner"), "owner")


def model_reference(value: object) -> tuple[bytes | None, bytes, str, int]:
    """Read a request's `model`: (digest, ...) or (None, owner, name, minimum epoch); raises ManifestError."""
    table = fields.of_type(value, "model", dict)
    if "digest" in table:
        fields.closed_map(table, "model", ("digest",))
        return fields.fixed_bytes(table["digest"], "digest", HASH_SIZE), b"", "", 0
    fields.closed_map(table, "model", ("owner", "name", "epoch"))
    owner = fields.fixed_bytes(table["owner"], "owner", KEY_SIZE)
    return None, owner, fields.text(table["name"], "name", 128), fields.number(table["epoch"], "epoch", 0)
