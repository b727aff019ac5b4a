"""What the enclave remembers of each owner: models, epochs, the broker's newest signs of life, revocations.

Everything here only moves one way: epochs and floors grow, an owner once fixed stays, a revocation is not undone.
A restart forgets it all; brokers then provision anew, and count that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from attestation.types import (
    EVERY,
    Allotment,
    BudgetState,
    Delegation,
    Grant,
    Heartbeat,
    OwnerState,
    Revocation,
)
from attestation.types.claims import MAX_CLAIMS, MAX_OWNERS
from enclave.budget import Accounts
from enclave.errors import EnclaveCode, EnclaveError
from enclave.loaded import LoadedModel
from manifests.gramine.settings import ANY, FIRST

MAX_HEARTBEAT = 4096
"""Claims carry the newest heartbeat, and their decoder admits this much."""
MAX_DELEGATION = 16 * 1024
MAX_REVOKED = 4096
"""Digests that one owner can have revoked without raising an epoch."""
MAX_NAMES = 1024
"""Model names that one owner can have floors for."""
MAX_DELEGATIONS = 32
"""Delegations that one owner can have at work here; the one that was used longest ago is forgotten."""
KEPT_EPOCHS = 2
"""Epochs of one name that are served at once: clients that pin a digest need the old one while the new rolls out."""

_CLAIMS_ROOM = MAX_CLAIMS - 4096
"""What keys, boot id, admitted owners and their framing leave for the owners' documents."""


@dataclass(frozen=True)
class Challenge:
    """A nonce that a heartbeat must answer, and how things stood when it was drawn.

    drawn: by the monotonic clock.  order: its place among all challenges.  spent: requests taken until then, by model.
    """

    nonce: bytes
    drawn: float
    order: int
    spent: Mapping[bytes, int]


@dataclass
class Sign:
    """The signs of life under one delegation: what its broker signed here.

    time: of the newest heartbeat, or of a grant after it.  heartbeat, epoch, order: the newest heartbeat, its epoch,
    and the number of the challenge that it answers.
    """

    delegation: Delegation
    document: bytes
    time: int = 0
    heartbeat: bytes = b""
    epoch: int = 0
    order: int = 0

    def covers(self, models: Iterable[LoadedModel]) -> bool:
        """Tell whether the delegation reaches all of these models."""
        return all(self.delegation.covers(model.name, model.epoch) for model in models)


@dataclass
class OwnerRecord:
    """State of one owner.

    epoch: newest that was provisioned or revoked, or that a broker of all names knows of.  signs: by delegation, the
    one used last at the end.  floors: lowest epoch by model name, "*" for all.  revoked: digests, each with the names
    it was revoked under.  accounts: budgets of client identities, by model name.
    """

    owner: bytes
    epoch: int = 0
    signs: dict[bytes, Sign] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    revoked: dict[bytes, set[str]] = field(default_factory=dict)
    models: dict[bytes, LoadedModel] = field(default_factory=dict)
    accounts: Accounts = field(default_factory=Accounts)

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

    def sign(self, delegation: Delegation, document: bytes) -> Sign:
        """Return the signs under a delegation that is acted upon, new or known."""
        sign = self.signs.pop(document, None) or Sign(delegation, document)
        self.signs[document] = sign
        while len(self.signs) > MAX_DELEGATIONS:
            del self.signs[next(iter(self.signs))]
        return sign

    def beat(self, model: LoadedModel) -> int:
        """Return the newest signed time of a broker whose delegation covers the model."""
        return max((sign.time for sign in self.signs.values() if sign.covers([model])), default=0)

    def oldest_beat(self) -> int:
        """Return the time that is newest for every loaded model; without models, for any."""
        if self.models:
            return min(self.beat(model) for model in self.models.values())
        return max((sign.time for sign in self.signs.values()), default=0)

    def end_outdated(self, name: str) -> None:
        """End the models of a name but for its newest epochs."""
        mine = [model for model in self.models.values() if model.name == name]
        kept = sorted({model.epoch for model in mine})[-KEPT_EPOCHS:]
        for model in mine:
            if model.epoch not in kept:
                del self.models[model.digest]
                model.lease.end()

    @property
    def room(self) -> int:
        """Bytes of the longest delegation that claims may have to show."""
        return max(map(len, self.signs), default=0)

    def state(self) -> OwnerState:
        """Return what claims say: the newest heartbeat that speaks for all that is loaded, and its delegation."""
        wide = [sign for sign in self.signs.values() if sign.heartbeat and sign.covers(self.models.values())]
        shown = max(wide, key=lambda sign: sign.time, default=None)
        if shown is not None:
            return OwnerState(self.owner, self.epoch, shown.heartbeat, shown.document)
        return OwnerState(self.owner, self.epoch, b"", next(reversed(self.signs), b""))


class Owners:
    """All owners of this process; thread-safe.

    `changed` is called, under the lock, when tickets must be dropped: with the owner after a revocation, with None
    after a new epoch.
    """

    def __init__(self, admitted: tuple[bytes, ...] | str, changed: Callable[[bytes | None], None]) -> None:
        """Start empty; `admitted` as the measured settings have it."""
        self.admitted = admitted
        self._changed = changed
        self._records: dict[bytes, OwnerRecord] = {}
        self.lock = threading.RLock()

    def admit(self, owner: bytes) -> None:
        """Refuse an owner that this process does not serve; raises EnclaveError `owner-refused`, `provision-limit`."""
        with self.lock:
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
        with self.lock:
            record = self._records.get(owner)
            if record is None:
                raise EnclaveError(EnclaveCode.OWNER_UNKNOWN, "nothing of this owner was provisioned here")
            return record

    def states(self) -> tuple[OwnerState, ...]:
        """Return what claims say of all owners, in ascending order."""
        with self.lock:
            return tuple(self._records[owner].state() for owner in sorted(self._records))

    def issuers(self) -> dict[bytes, bytes]:
        """Return the keys that may issue credentials, each with the owner it speaks for."""
        with self.lock:
            keys = {} if isinstance(self.admitted, str) else {owner: owner for owner in self.admitted}
            for owner, record in self._records.items():
                keys |= {sign.delegation.broker: owner for sign in record.signs.values()}
            return keys | {owner: owner for owner in self._records}

    def serves_only(self, owner: bytes) -> bool:
        """Tell whether this process serves that owner and nobody else."""
        with self.lock:
            return self.admitted != ANY and set(self._records) == {owner}

    # ------------------------------------------------------------------------------------ models

    def models(self) -> list[LoadedModel]:
        """Return all loaded models, by digest."""
        with self.lock:
            found = {digest: model for record in self._records.values() for digest, model in record.models.items()}
            return [found[digest] for digest in sorted(found)]

    def by_digest(self, digest: bytes) -> LoadedModel:
        """Return the model with that digest; raises EnclaveError `model-unknown`."""
        with self.lock:
            for record in self._records.values():
                if digest in record.models:
                    return record.models[digest]
        raise _unknown_model()

    def by_name(self, owner: bytes, name: str, epoch: int) -> LoadedModel:
        """Return the owner's model of that name with the highest epoch, at least `epoch`; raises `model-unknown`."""
        with self.lock:
            record = self._records.get(owner)
            models = [] if record is None else [model for model in record.models.values() if model.name == name]
            best = max(models, key=lambda model: model.epoch, default=None)
        if best is None or best.epoch < epoch:
            raise _unknown_model()
        return best

    def spent(self, owner: bytes) -> dict[bytes, int]:
        """Return what was spent of each of an owner's models, by digest in order; raises `owner-unknown`."""
        with self.lock:
            models = self.known(owner).models
            return {digest: models[digest].lease.spent for digest in sorted(models)}

    def leases(self, owner: bytes) -> list[tuple[bytes, int]]:
        """Return what is left of the leases of an owner's models, by digest; raises EnclaveError `owner-unknown`."""
        with self.lock:
            models = self.known(owner).models
            return [(digest, models[digest].lease.remaining) for digest in sorted(models)]

    def budgets(self, owner: bytes, delegations: Iterable[Delegation]) -> list[BudgetState]:
        """Return how the budgets that an owner's delegations reach stand; raises EnclaveError `owner-unknown`."""
        with self.lock:
            return self.known(owner).accounts.states(delegations)

    def beat(self, model: LoadedModel) -> tuple[int, int]:
        """Return the newest signed time of a model's broker, and the owner's epoch."""
        with self.lock:
            record = self._records[model.owner]
            return record.beat(model), record.epoch

    def beats(self) -> list[tuple[int, int, bytes]]:
        """Return signed time and epoch of every owner, in ascending order of the owners' keys."""
        with self.lock:
            return [(record.oldest_beat(), record.epoch, owner) for owner, record in sorted(self._records.items())]

    # ------------------------------------------------------------------------------------ changes

    def check_grant(self, grant: Grant, delegation_document: bytes) -> LoadedModel | None:
        """Refuse what admission, floors, revocations or room forbid; return the model if it is loaded already."""
        with self.lock:
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
        with self.lock:
            present = self.check_grant(grant, document)
            record = self._records.setdefault(grant.owner, OwnerRecord(grant.owner))
            if present is None:
                is_new_epoch = 0 < record.floors.get(grant.name, 0) < grant.epoch
                record.raise_floor(grant.name, max(grant.epoch, delegation.epoch_floor))
                record.models[grant.model] = model
                record.end_outdated(grant.name)
                if is_new_epoch:
                    self._changed(None)
            self._note_grant(record, grant, delegation, document)
            record.accounts.take_in(grant, record.models[grant.model].budget)
            return record.models[grant.model].lease.remaining

    def _note_grant(self, record: OwnerRecord, grant: Grant, delegation: Delegation, document: bytes) -> None:
        record.epoch = max(record.epoch, grant.epoch, delegation.epoch_floor)
        sign = record.sign(delegation, document)
        sign.time = max(sign.time, grant.time)

    def apply_heartbeat(
        self,
        heartbeat: Heartbeat,
        document: bytes,
        delegation: Delegation,
        chain: bytes,
        challenge: Challenge,
        *,
        allotment: Allotment | None = None,
    ) -> None:
        """Renew leases, and take slices of budgets over where an allotment came with the heartbeat.

        Raises EnclaveError `heartbeat-old`, `epoch-old`, `model-unknown` or `delegation-scope`; then nothing changes.

        Heartbeats of a delegation are ordered by their challenges, and not by their signed time: so a broker whose
        clock was wrong for once is heard again when it is right.  Leases count from the challenge on (lease.py).
        """
        with self.lock:
            record = self.known(heartbeat.owner)
            seen = record.signs.get(chain, Sign(delegation, chain))
            if challenge.order < seen.order:
                raise EnclaveError(EnclaveCode.HEARTBEAT_OLD, "a heartbeat that answers a later challenge was seen")
            if heartbeat.epoch < max(seen.epoch, delegation.epoch_floor):
                raise EnclaveError(EnclaveCode.EPOCH_OLD, "the heartbeat's epoch lies below one that was seen")
            self._check_room(heartbeat.owner, chain)
            for digest, _ in heartbeat.leases:
                model = record.models.get(digest)
                if model is None:
                    raise _unknown_model()
                if not delegation.covers(model.name, model.epoch):
                    raise EnclaveError(EnclaveCode.DELEGATION_SCOPE, "the delegation does not cover a leased model")
            record.accounts.check(allotment, delegation)
            record.accounts.hear(heartbeat.time, allotment, delegation)
            for digest, count in heartbeat.leases:
                record.models[digest].lease.renew(count, challenge.spent.get(digest, 0))
            sign = record.sign(delegation, chain)
            sign.time, sign.heartbeat, sign.epoch = heartbeat.time, document, heartbeat.epoch
            sign.order = challenge.order
            if delegation.is_owner_wide:
                record.epoch = max(record.epoch, heartbeat.epoch)

    def apply_revocation(self, revocation: Revocation, delegation: Delegation) -> list[LoadedModel] | None:
        """End models, raise floors, drop tickets; return the models that ended, or None if nothing was new.

        Who may revoke some names alone does not raise the owner's epoch, which clients hold against all names.
        """
        with self.lock:
            record = self.known(revocation.owner)
            if len(record.revoked.keys() | set(revocation.models)) > MAX_REVOKED:
                raise EnclaveError(
                    EnclaveCode.PROVISION_LIMIT, "too many digests are revoked; raise the epoch", expected=MAX_REVOKED
                )
            # a floor that a newer epoch has raised does not end an older one
            models = record.models.values()
            ended = [model for model in models if revocation.ends(model.name, model.epoch, model.digest)]
            if not ended and _is_known(record, revocation):
                return None
            if revocation.epoch:
                record.raise_floor(revocation.name, revocation.epoch)
            for digest in revocation.models:
                record.revoked.setdefault(digest, set()).add(revocation.name)
            if delegation.is_owner_wide:
                record.epoch = max(record.epoch, revocation.epoch)
            for model in ended:
                del record.models[model.digest]
                model.lease.end()
            self._changed(revocation.owner)
            return ended

    def _check_room(self, owner: bytes, delegation: bytes) -> None:
        """Refuse a delegation with which the claims would outgrow their bound."""
        rooms = {key: record.room for key, record in self._records.items()}
        rooms[owner] = max(len(delegation), rooms.get(owner, 0))
        if len(delegation) > MAX_DELEGATION or sum(rooms.values()) + len(rooms) * (MAX_HEARTBEAT + 128) > _CLAIMS_ROOM:
            raise EnclaveError(EnclaveCode.PROVISION_LIMIT, "the owners' documents outgrow the claims")


def _is_known(record: OwnerRecord, revocation: Revocation) -> bool:
    """Tell whether a revocation was applied before: all that it says holds already."""
    is_old = revocation.epoch <= record.floors.get(revocation.name, 0)
    return is_old and all(revocation.name in record.revoked.get(digest, ()) for digest in revocation.models)


def _unknown_model() -> EnclaveError:
    return EnclaveError(EnclaveCode.MODEL_UNKNOWN, "no such model is loaded", field="model")
