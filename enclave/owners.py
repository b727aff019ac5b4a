"""What the enclave remembers of each owner: models, epochs, the broker's newest signs of life, revocations.

Everything here only moves one way: epochs and floors grow, an owner once fixed stays, a revocation is not undone.
A restart forgets it all; brokers then provision anew, and count that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from attestation.types import Delegation, Grant, Heartbeat, OwnerState, Revocation
from attestation.types.claims import MAX_CLAIMS, MAX_OWNERS
from enclave.errors import EnclaveCode, EnclaveError
from enclave.models import LoadedModel
from manifests.gramine.settings import ANY, FIRST

MAX_HEARTBEAT = 4096
"""Claims carry the newest heartbeat, and their decoder admits this much."""
MAX_DELEGATION = 16 * 1024
MAX_REVOKED = 4096
"""Digests that one owner can have revoked without raising an epoch."""
MAX_NAMES = 1024
"""Model names that one owner can have floors for."""
MAX_BROKERS = 8

_CLAIMS_ROOM = MAX_CLAIMS - 4096
"""What keys, boot id, admitted owners and their framing leave for the owners' documents."""
EVERY = "*"


@dataclass
class OwnerRecord:
    """State of one owner.

    epoch: newest of all that were signed.  beat: newest signed time of a broker.  heartbeat and delegation: newest
    documents.  brokers: delegated keys, which may issue credentials.  floors: lowest epoch by model name, "*" for
    all.  revoked: digests, each with the names it was revoked under.
    """

    owner: bytes
    epoch: int = 0
    beat: int = 0
    heartbeat: bytes = b""
    heartbeat_time: int = 0
    heartbeat_epoch: int = 0
    delegation: bytes = b""
    brokers: dict[bytes, None] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    revoked: dict[bytes, set[str]] = field(default_factory=dict)
    models: dict[bytes, LoadedModel] = field(default_factory=dict)

    def floor(self, name: str) -> int:
        """Return the lowest epoch that a model of this name may have."""
        return max(self.floors.get(name, 0), self.floors.get(EVERY, 0))

    def check_model(self, name: str, epoch: int, digest: bytes) -> None:
        """Refuse a model that is too old or revoked; raises EnclaveError."""
        if epoch < self.floor(name):
            raise EnclaveError(
                EnclaveCode.EPOCH_OLD,
                "the model's epoch lies below one that this enclave has seen",
                expected=f"at least {self.floor(name)}",
                found=epoch,
            )
        if self.revoked.get(digest, set()) & {name, EVERY}:
            raise EnclaveError(EnclaveCode.MODEL_REVOKED, "the model was revoked")

    def raise_floor(self, name: str, epoch: int) -> None:
        """Never let the name's epoch go down again; raises EnclaveError `provision-limit`."""
        if name not in self.floors and len(self.floors) >= MAX_NAMES:
            raise EnclaveError(EnclaveCode.PROVISION_LIMIT, "the owner has too many model names", expected=MAX_NAMES)
        self.floors[name] = max(epoch, self.floors.get(name, 0))

    def trust(self, delegation: Delegation, document: bytes) -> None:
        """Remember a delegation that was acted upon; the oldest of too many brokers is forgotten."""
        self.delegation = document
        self.brokers.pop(delegation.broker, None)
        self.brokers[delegation.broker] = None
        while len(self.brokers) > MAX_BROKERS:
            del self.brokers[next(iter(self.brokers))]

    def state(self) -> OwnerState:
        """Return what claims say."""
        return OwnerState(self.owner, self.epoch, self.heartbeat, self.delegation)


class Owners:
    """All owners of this process; thread-safe.  `changed` is called, under the lock, when tickets must be dropped."""

    def __init__(self, admitted: tuple[bytes, ...] | str, changed: Callable[[], None]) -> None:
        """Start empty; `admitted` as the measured settings have it."""
        self.admitted = admitted
        self._changed = changed
        self._records: dict[bytes, OwnerRecord] = {}
        self._lock = threading.RLock()

    def admit(self, owner: bytes) -> None:
        """Refuse an owner that this process does not serve; raises EnclaveError `owner-refused`, `provision-limit`."""
        with self._lock:
            if owner in self._records:
                return
            if self.admitted == FIRST and self._records:
                raise EnclaveError(EnclaveCode.OWNER_REFUSED, "this enclave process already serves another owner")
            if not isinstance(self.admitted, str) and owner not in self.admitted:
                raise EnclaveError(EnclaveCode.OWNER_REFUSED, "the enclave's manifest does not name this owner")
            if len(self._records) >= MAX_OWNERS:
                raise EnclaveError(EnclaveCode.PROVISION_LIMIT, "too many owners are served", expected=MAX_OWNERS)

    def known(self, owner: bytes) -> OwnerRecord:
        """Return an owner's record; raises EnclaveError `owner-unknown`."""
        with self._lock:
            record = self._records.get(owner)
            if record is None:
                raise EnclaveError(EnclaveCode.OWNER_UNKNOWN, "nothing of this owner was provisioned here")
            return record

    def states(self) -> tuple[OwnerState, ...]:
        """Return what claims say of all owners, in ascending order."""
        with self._lock:
            return tuple(self._records[owner].state() for owner in sorted(self._records))

    def issuers(self) -> dict[bytes, bytes]:
        """Return the keys that may issue credentials, each with the owner it speaks for."""
        with self._lock:
            keys = {} if isinstance(self.admitted, str) else {owner: owner for owner in self.admitted}
            for owner, record in self._records.items():
                keys |= dict.fromkeys(record.brokers, owner)
            return keys | {owner: owner for owner in self._records}

    def serves_only(self, owner: bytes) -> bool:
        """Tell whether this process serves that owner and nobody else."""
        with self._lock:
            return self.admitted != ANY and set(self._records) == {owner}

    # ------------------------------------------------------------------------------------ models

    def models(self) -> list[LoadedModel]:
        """Return all loaded models, by digest."""
        with self._lock:
            found = {digest: model for record in self._records.values() for digest, model in record.models.items()}
            return [found[digest] for digest in sorted(found)]

    def by_digest(self, digest: bytes) -> LoadedModel:
        """Return the model with that digest; raises EnclaveError `model-unknown`."""
        with self._lock:
            for record in self._records.values():
                if digest in record.models:
                    return record.models[digest]
        raise _unknown_model()

    def by_name(self, owner: bytes, name: str, epoch: int) -> LoadedModel:
        """Return the owner's model of that name with the highest epoch, at least `epoch`; raises `model-unknown`."""
        with self._lock:
            record = self._records.get(owner)
            models = [] if record is None else [model for model in record.models.values() if model.name == name]
            best = max(models, key=lambda model: model.epoch, default=None)
        if best is None or best.epoch < epoch:
            raise _unknown_model()
        return best

    def leases(self, owner: bytes) -> list[tuple[bytes, int]]:
        """Return what is left of the leases of an owner's models, by digest; raises EnclaveError `owner-unknown`."""
        with self._lock:
            models = self.known(owner).models
            return [(digest, models[digest].lease.remaining) for digest in sorted(models)]

    def beat(self, owner: bytes) -> tuple[int, int]:
        """Return newest signed time and epoch of an owner's broker."""
        with self._lock:
            record = self._records[owner]
            return record.beat, record.epoch

    def beats(self) -> list[tuple[int, int, bytes]]:
        """Return newest signed time and epoch of every owner's broker, in ascending order of the owners' keys."""
        with self._lock:
            return [(record.beat, record.epoch, owner) for owner, record in sorted(self._records.items())]

    # ------------------------------------------------------------------------------------ changes

    def check_grant(self, grant: Grant, delegation_document: bytes) -> LoadedModel | None:
        """Refuse what admission, floors, revocations or room forbid; return the model if it is loaded already."""
        with self._lock:
            self.admit(grant.owner)
            record = self._records.get(grant.owner) or OwnerRecord(grant.owner)
            record.check_model(grant.name, grant.epoch, grant.model)
            self._check_room(grant.owner, delegation_document)
            return record.models.get(grant.model)

    def add(self, grant: Grant, delegation: Delegation, document: bytes, model: LoadedModel) -> int:
        """Take a loaded model in, under the same checks once more: loading took its time.

        Returns what is left of its lease; that of a model which was here already stays as it is.  A new epoch of a
        name that was served before drops all tickets.
        """
        with self._lock:
            present = self.check_grant(grant, document)
            record = self._records.setdefault(grant.owner, OwnerRecord(grant.owner))
            if present is None:
                is_new_epoch = 0 < record.floors.get(grant.name, 0) < grant.epoch
                record.raise_floor(grant.name, max(grant.epoch, delegation.epoch_floor))
                record.models[grant.model] = model
                if is_new_epoch:
                    self._changed()
            self._note_grant(record, grant, delegation, document)
            return record.models[grant.model].lease.remaining

    def _note_grant(self, record: OwnerRecord, grant: Grant, delegation: Delegation, document: bytes) -> None:
        record.epoch = max(record.epoch, grant.epoch, delegation.epoch_floor)
        record.beat = max(record.beat, grant.time)
        heartbeat_delegation = record.delegation if record.heartbeat else document
        record.trust(delegation, document)
        record.delegation = heartbeat_delegation  # claims show the delegation under which the heartbeat was signed

    def apply_heartbeat(self, heartbeat: Heartbeat, document: bytes, delegation: Delegation, chain: bytes) -> None:
        """Renew leases; raises EnclaveError `heartbeat-old`, `epoch-old`, `model-unknown` or `delegation-scope`."""
        with self._lock:
            record = self.known(heartbeat.owner)
            if heartbeat.time < record.heartbeat_time:
                raise EnclaveError(EnclaveCode.HEARTBEAT_OLD, "the heartbeat is older than one that was seen")
            if heartbeat.epoch < max(record.heartbeat_epoch, delegation.epoch_floor):
                raise EnclaveError(EnclaveCode.EPOCH_OLD, "the heartbeat's epoch lies below one that was seen")
            self._check_room(heartbeat.owner, chain)
            for digest, _ in heartbeat.leases:
                model = record.models.get(digest)
                if model is None:
                    raise _unknown_model()
                if not delegation.covers(model.name, model.epoch):
                    raise EnclaveError(EnclaveCode.DELEGATION_SCOPE, "the delegation does not cover a leased model")
            for digest, count in heartbeat.leases:
                record.models[digest].lease.renew(count)
            record.heartbeat, record.heartbeat_time = document, heartbeat.time
            record.heartbeat_epoch = heartbeat.epoch
            record.epoch = max(record.epoch, heartbeat.epoch)
            record.beat = max(record.beat, heartbeat.time)
            record.trust(delegation, chain)

    def apply_revocation(self, revocation: Revocation) -> list[LoadedModel]:
        """End models, raise floors, drop tickets; return the models that ended."""
        with self._lock:
            record = self.known(revocation.owner)
            if len(record.revoked.keys() | set(revocation.models)) > MAX_REVOKED:
                raise EnclaveError(
                    EnclaveCode.PROVISION_LIMIT, "too many digests are revoked; raise the epoch", expected=MAX_REVOKED
                )
            if revocation.epoch:
                record.raise_floor(revocation.name, revocation.epoch)
            for digest in revocation.models:
                record.revoked.setdefault(digest, set()).add(revocation.name)
            record.epoch = max(record.epoch, revocation.epoch)
            ended = [model for model in record.models.values() if _is_over(record, model)]
            for model in ended:
                del record.models[model.digest]
                model.lease.end()
            self._changed()
            return ended

    def _check_room(self, owner: bytes, delegation: bytes) -> None:
        """Refuse a delegation with which the claims would outgrow their bound."""
        others = sum(len(record.delegation) for key, record in self._records.items() if key != owner)
        count = len(self._records.keys() | {owner})
        if len(delegation) > MAX_DELEGATION or others + len(delegation) + count * (MAX_HEARTBEAT + 128) > _CLAIMS_ROOM:
            raise EnclaveError(EnclaveCode.PROVISION_LIMIT, "the owners' documents outgrow the claims")


def _is_over(record: OwnerRecord, model: LoadedModel) -> bool:
    try:
        record.check_model(model.name, model.epoch, model.digest)
    except EnclaveError:
        return True
    return False


def _unknown_model() -> EnclaveError:
    return EnclaveError(EnclaveCode.MODEL_UNKNOWN, "no such model is loaded", field="model")
