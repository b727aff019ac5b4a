"""Whether an accepted owner stands behind an enclave, and whether its broker still lives.

The enclave has no clock that its host could not stop.  The client has one: it refuses a heartbeat that is too old,
and epochs below those that it has seen.  The documents in the claims are verified under the owner's own key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from attestation.client.epochs import BROKER, EpochMemory
from attestation.client.errors import ClientCode, ClientError
from attestation.policy import ServicePolicy
from attestation.types import Claims, Delegation, Heartbeat, OwnerState, Right, document_digest
from attestation.types.claims import MAX_OWNERS
from manifests import fields
from manifests.errors import ManifestCode, ManifestError

CLOCK_SKEW = 300
"""Seconds by which a broker's clock may be ahead of ours; more would stretch the age that a policy accepts."""
HASTE = 2
"""Seconds before a sign of life is too old at which a newer one is asked for: it must last until inputs leave."""


class Beat(NamedTuple):
    """The newest sign of life of an owner's broker: signed time in Unix seconds, the owner's epoch, its key."""

    time: int
    epoch: int
    owner: bytes


@dataclass(frozen=True)
class Freshness:
    """Holds claims and responses against the policy's owners, the clock, and the epochs seen before."""

    service: ServicePolicy
    memory: EpochMemory
    now: Callable[[], float] = field(default=time.time, repr=False)

    def accepts(self, owner: bytes) -> bool:
        """Tell whether the policy accepts models of this owner."""
        return owner in self.service.owners

    def admit(self, claims: Claims) -> tuple[OwnerState, ...]:
        """Return the accepted owners that the enclave serves; raises ClientError where there is none.

        Every one of them must be of an epoch that is accepted, and show a delegation that the owner signed and,
        where the broker has sent one, a heartbeat to this very enclave process that is fresh.
        """
        if claims.admitted == "any" and not self.service.allow_any_owner:
            raise ClientError(
                ClientCode.ADMITS_ANY_OWNER,
                "the enclave serves whoever provisions it",
                remedy="use an enclave whose manifest names its owners, or set allow_any_owner in the policy",
            )
        served = tuple(state for state in claims.owners if self.accepts(state.owner))
        if not served:
            raise self._nobody(claims)
        for state in served:
            self._check_documents(state, claims.boot_id)
        return served

    def shown(self, served: tuple[OwnerState, ...]) -> dict[bytes, Beat]:
        """Return the signs of life in admitted owners' claims; owners whose broker has not beaten yet have none."""
        found = {}
        for state in served:
            delegation, heartbeat = _documents(state)
            if heartbeat is not None:
                found[state.owner] = _beat(state, delegation, heartbeat)
        return found

    def lasts(self, beat: Beat) -> bool:
        """Tell whether a sign of life is young enough to send inputs by."""
        return int(self.now()) - beat.time <= self.service.max_broker_age - HASTE

    def check(self, beat: Beat) -> None:
        """Refuse a stale sign of life or a lower epoch; raises ClientError."""
        if not self.accepts(beat.owner):
            raise ClientError(
                ClientCode.OWNER_NOT_ACCEPTED,
                "the response comes under an owner that the policy does not name",
                expected=[owner.hex() for owner in self.service.owners],
                found=beat.owner.hex(),
            )
        age = int(self.now()) - beat.time
        if not -CLOCK_SKEW <= age <= self.service.max_broker_age:
            raise ClientError(
                ClientCode.BEAT_STALE,
                "the newest sign of life of the owner's broker is too old",
                expected=f"an age of at most {self.service.max_broker_age} s",
                found=f"{age} s",
                remedy="check this machine's clock, and that `strongroom broker serve` runs and reaches the host",
            )
        self.memory.observe(beat.owner, BROKER, beat.epoch)

    def check_model(self, owner: bytes, name: str, epoch: int) -> None:
        """Refuse a model below the policy's minimum epoch or one seen before; raises ClientError."""
        self._check_least("the model", epoch)
        if name:
            self.memory.observe(owner, name, epoch)

    def _check_least(self, what: str, epoch: int) -> None:
        if epoch < self.service.min_epoch:
            raise ClientError(
                ClientCode.EPOCH_ROLLBACK,
                f"{what} is of an older epoch than the policy accepts",
                expected=f"at least {self.service.min_epoch}",
                found=epoch,
            )

    def _nobody(self, claims: Claims) -> ClientError:
        named = isinstance(claims.admitted, tuple) and not any(self.accepts(owner) for owner in claims.admitted)
        if named or claims.owners:
            found = claims.admitted if isinstance(claims.admitted, tuple) else [state.owner for state in claims.owners]
            return ClientError(
                ClientCode.OWNER_NOT_ACCEPTED,
                "the enclave serves owners that the policy does not name",
                expected=[owner.hex() for owner in self.service.owners],
                found=[owner.hex() for owner in found],
            )
        return ClientError(
            ClientCode.OWNER_NOT_SERVED,
            "no broker has provisioned this enclave yet",
            remedy="start `strongroom broker serve`, or wait until it has released a key",
        )

    def _check_documents(self, state: OwnerState, boot_id: bytes) -> None:
        delegation, heartbeat = _documents(state)
        self._check_least("the owner", state.epoch)
        self.memory.observe(state.owner, BROKER, state.epoch)
        if heartbeat is None:  # the first one is still to come; the listing gives the grant's time before inputs leave
            return
        if Right.HEARTBEAT not in delegation.rights or heartbeat.delegation != document_digest(state.delegation):
            raise _invalid("the delegation does not cover the heartbeat", state.owner)
        if heartbeat.owner != state.owner or heartbeat.boot_id != boot_id:
            raise _invalid("the heartbeat was sent to another enclave process or for another owner", state.owner)
        self.check(_beat(state, delegation, heartbeat))


def parse_beat(value: object) -> Beat:
    """Read the `beat` field of a response; raises ClientError `response-unexpected`."""
    try:
        items = fields.list_of(value, "beat", 3)
        if len(items) != 3:
            raise ClientError(ClientCode.RESPONSE_UNEXPECTED, "a beat has three items", found=len(items))
        when, epoch = fields.number(items[0], "time", 0), fields.number(items[1], "epoch", 0)
        return Beat(when, epoch, fields.fixed_bytes(items[2], "owner", 32))
    except ManifestError as error:
        raise ClientError(
            ClientCode.RESPONSE_UNEXPECTED, f"the response's beat is malformed: {error.message}"
        ) from None


def parse_beats(value: object) -> dict[bytes, Beat]:
    """Read the `beats` field of a listing, by owner; raises ClientError `response-unexpected`."""
    try:
        beats = [parse_beat(item) for item in fields.list_of(value, "beats", MAX_OWNERS)]
    except ManifestError as error:
        raise ClientError(ClientCode.RESPONSE_UNEXPECTED, f"the listing's {error.message}") from None
    return {beat.owner: beat for beat in beats}


def _documents(state: OwnerState) -> tuple[Delegation, Heartbeat | None]:
    """Open an owner's documents under its own key.

    Raises ClientError `beat-invalid`, or ManifestError `version-unsupported`.
    """
    try:
        delegation = Delegation.open(state.delegation, state.owner)
        return delegation, Heartbeat.open(state.heartbeat, delegation.broker) if state.heartbeat else None
    except ManifestError as error:
        if error.code is ManifestCode.VERSION_UNSUPPORTED:
            raise
        raise _invalid(error.message, state.owner) from None


def _beat(state: OwnerState, delegation: Delegation, heartbeat: Heartbeat) -> Beat:
    """Return what the claims show; the epoch that a broker of some names alone knows of does not bind the others."""
    epoch = max(heartbeat.epoch, state.epoch) if delegation.is_owner_wide else state.epoch
    return Beat(heartbeat.time, epoch, state.owner)


def _invalid(message: str, owner: bytes) -> ClientError:
    return ClientError(ClientCode.BEAT_INVALID, message, found=f"owner {owner.hex()}")
