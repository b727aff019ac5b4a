"""One attested session with one enclave: keys go in, revocations are told, leases are renewed.

    ending      an enclave in which a run is stuck says so and holds nothing more: its places are free again
    provision   for each model that the enclave lacks: decide, record, then send key and grant
    tend        for each owner: challenge -> the enclave's leases -> what was revoked is told -> signed heartbeat
    look        for each owner: challenge -> a heartbeat before its time, where clients need slices of their budgets

Everything that the enclave answers is checked; what it refuses is recorded and tried again later, ever more rarely.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from attestation.broker.answers import MAX_LOADED, Challenge, answer, unexpected
from attestation.broker.budgets import needs_visit
from attestation.broker.decide import Refusal
from attestation.broker.errors import BrokerCode
from attestation.broker.events import Emit, Event, EventName
from attestation.broker.keystore import wipe
from attestation.broker.ledger import Ledger
from attestation.broker.quarantine import Quarantine
from attestation.broker.releases import Granted, give_back, release, withdraw
from attestation.broker.renewals import MAX_LEASES, renew
from attestation.broker.schema import ModelRow
from attestation.broker.state import Revoked
from attestation.broker.terms import AttestedSession, open_delegation, require_same_policy
from attestation.client.refusals import RemoteError
from attestation.types import PlatformClass, Right
from attestation.wire.messages import Body
from manifests import fields

STUCK_REMEDY = "bound the model's inputs so that no operator takes minutes, and seal it anew; or revoke it"
FIRST_RETRY = 5.0
LAST_RETRY = 3600.0
"""Seconds before a model that was refused or failed is tried again: doubling, since each try is an audit row."""


class Channel(Protocol):
    """What a visit needs of an attested connection (attestation.client.connection.Connection)."""

    def request(self, header: Mapping[str, Any]) -> Body:
        """Make one request and wait for its answer."""


@dataclass
class Retries:
    """When each model may be tried again; times are of a monotonic clock."""

    clock: Callable[[], float] = time.monotonic
    _due: dict[bytes, tuple[float, float]] = field(default_factory=dict)

    def due(self, digest: bytes) -> bool:
        """Tell whether a model may be tried now."""
        return self._due.get(digest, (0.0, 0.0))[0] <= self.clock()

    def postpone(self, digest: bytes) -> None:
        """Put a model off, twice as long as the time before."""
        delay = min(max(2 * self._due.get(digest, (0.0, 0.0))[1], FIRST_RETRY), LAST_RETRY)
        self._due[digest] = (self.clock() + delay, delay)

    def forgive(self) -> None:
        """Let everything be tried at once: something has changed."""
        self._due.clear()


class Visit:
    """The broker's side of one attested session."""

    def __init__(
        self,
        ledger: Ledger,
        channel: Channel,
        session: AttestedSession,
        emit: Emit,
        now: Callable[[], int],
        *,
        quarantine: Quarantine | None = None,
    ) -> None:
        """Act in a session whose evidence was accepted; `now` gives Unix seconds."""
        self._quarantine = quarantine or Quarantine()
        self._ledger = ledger
        self._channel = channel
        self._session = session
        self._emit = emit
        self._now = now
        self.retries = Retries()
        self.held: set[bytes] = set()
        self._ended: set[bytes] = set()
        """Owners to whom the enclave has said so in this session."""
        self._ending = False
        """Whether the enclave takes no more keys: it is being drained, or has said that a run is stuck in it."""
        self._served: set[bytes] = set()
        """Owners of whom the enclave holds models, also such as are no longer renewed: they may have to be revoked."""
        self.refusals: dict[bytes, Refusal] = {}
        self.failures: dict[bytes, RemoteError] = {}
        """What the enclave refused last, by model digest, or by owner where it was a challenge or heartbeat."""
        self._sated: set[bytes] = set()
        """Owners for whom the last look brought nothing: the next heartbeat in its turn is soon enough."""

    def provision(self) -> None:
        """Release the keys that the enclave lacks; newest epochs first, so that an owner's epoch never steps back.

        Raises BrokerError, ClientError or WireError where nothing more can be done in this session;
        PolicyChangedError where the enclave must be appraised anew.
        """
        models = sorted(self._ledger.look(lambda state: state.models()), key=lambda row: (-row.epoch, row.name))
        for model in models:
            if self._ending:
                return
            if model.digest not in self.held and self._may_try(model.digest):
                self._provision(model)

    def _may_try(self, digest: bytes) -> bool:
        return self.retries.due(digest) and not self._quarantine.holds(digest)

    def _provision(self, model: ModelRow) -> None:
        result = release(self._ledger, self._session, model.digest, self._now())
        if isinstance(result, Refusal):
            require_same_policy(result)
            self.retries.postpone(model.digest)
            if result.codes != (BrokerCode.EPOCH_SUPERSEDED,):  # which is as the policy wants it, and no failure
                self.refusals[model.digest] = result
            self._tell_refused(model, result)
            return
        self.refusals.pop(model.digest, None)
        try:
            self._send(model, result)
        except RemoteError as error:
            withdraw(self._ledger, self._session, model.digest, error.remote_code, self._now())
            self.retries.postpone(model.digest)
            self.failures[model.digest] = error
            self._ending = error.remote_code == "enclave-stopping"
            self._tell(EventName.FAILED, model, code=error.remote_code, next=error.remedy)
            return
        self.failures.pop(model.digest, None)
        self.held.add(model.digest)
        self._served.add(model.owner)
        self._tell(EventName.RELEASED, model, lease=result.lease, serial=result.serial.hex(), audit=result.audit_index)

    def _send(self, model: ModelRow, granted: Granted) -> None:
        """Send a key that the log already says was released."""
        try:
            body = self._channel.request(
                {
                    "op": "provision",
                    "delegation": model.delegation,
                    "grant": granted.grant,
                    "dek": granted.key,
                }
            )
        finally:
            wipe(granted.key)
        value = answer(body, ("model", "lease", "boot_id"))
        if value["model"] != model.digest or value["boot_id"] != self._session.evidence.boot_id:
            raise unexpected("the enclave has taken another model, or is another process")

    def tend(self) -> None:
        """Tell the enclave what was revoked, and renew the leases of what it holds; raises as `provision`."""
        self._sated.clear()
        for owner, mine in self._owners():
            self._tend_owner(owner, mine)

    def look(self) -> None:
        """Send a heartbeat before its time where clients wait for slices; raises as `provision`."""
        for owner, mine in self._owners():
            if owner not in self._sated:
                self._tend_owner(owner, mine, early=True)

    def _owners(self) -> Iterator[tuple[bytes, dict[bytes, ModelRow]]]:
        """Yield the owners that the enclave serves, each with its models that the broker holds."""
        models = self._ledger.look(lambda state: state.models())
        for owner in sorted({model.owner for model in models}):
            if owner not in self._ended and (owner in self._served or owner in self._claimed()):
                yield owner, {model.digest: model for model in models if model.owner == owner}

    def _claimed(self) -> set[bytes]:
        return {claim.owner for claim in self._session.evidence.owners}

    def _tend_owner(self, owner: bytes, mine: Mapping[bytes, ModelRow], *, early: bool = False) -> None:
        try:
            challenge = self._challenge(owner)
            if challenge.ending is not None:
                self._take_back(owner, challenge.ending, mine)
                return
            if early and not needs_visit(challenge.budgets, self._now()):
                return
            if self._tell_revocations(owner, [mine[digest] for digest in challenge.loaded if digest in mine]):
                challenge = self._challenge(owner)
            loaded = [mine[digest] for digest in challenge.loaded if digest in mine]
            self.held -= mine.keys() - set(challenge.loaded)
            if not loaded:
                self._served.discard(owner)
            slices = 0
            for number, group in enumerate(_groups(loaded)):
                slices += self._renew(group, challenge if number == 0 else self._challenge(owner))
            if early and not slices:
                self._sated.add(owner)
        except RemoteError as error:
            self._sated.add(owner)
            self.failures[owner] = error
            self._say(EventName.FAILED, owner=owner.hex(), code=error.remote_code, next=error.remedy)
        else:
            self.failures.pop(owner, None)

    def _take_back(self, owner: bytes, stuck: Iterable[bytes], mine: Mapping[bytes, ModelRow]) -> None:
        """Free the places of an enclave that is ending, and keep the models that did it from others for a while."""
        self._ending = True
        self._ended.add(owner)
        self.held -= mine.keys()
        leases = give_back(self._ledger, self._session, owner, self._now())
        for digest in stuck:
            if digest in mine:
                seconds = self._quarantine.add(digest)
                self._tell(EventName.STUCK, mine[digest], leases=leases, seconds=round(seconds), next=STUCK_REMEDY)

    def _challenge(self, owner: bytes) -> Challenge:
        body = self._channel.request({"op": "challenge", "owner": owner})
        return Challenge.read(body, self._session.evidence.boot_id)

    def _tell_revocations(self, owner: bytes, loaded: Sequence[ModelRow]) -> bool:
        """Send the revocations that cover what the enclave still holds; returns whether there were any."""
        needed = self._ledger.look(lambda state: [state.revoked(model) for model in loaded])
        told = {item.number: item for item in needed if item is not None and _may_be_told(item, owner)}
        for item in told.values():
            request = {"op": "revoke", "delegation": item.row.delegation, "revocation": item.row.document}
            ended = fields.list_of(answer(self._channel.request(request), ("ended",))["ended"], "ended", MAX_LOADED)
            self.held -= {digest for digest in ended if isinstance(digest, bytes)}
            self._say(EventName.REVOKED, owner=owner.hex(), name=item.document.name, ended=len(ended))
        return bool(told)

    def _renew(self, group: Sequence[ModelRow], challenge: Challenge) -> bool:
        """Send a heartbeat for models of one delegation; returns whether it carried anything of budgets."""
        digests = [model.digest for model in group]
        renewed = renew(self._ledger, self._session, digests, challenge.nonce, self._now(), budgets=challenge.budgets)
        request = {"op": "heartbeat", "delegation": group[0].delegation, "heartbeat": renewed.document}
        if renewed.allotment:
            request["allotment"] = renewed.allotment
        answer(self._channel.request(request), ("leases",))
        names = {model.digest: model for model in group}
        for digest, refusal in renewed.refused:
            self.held.discard(digest)
            self._tell_refused(names[digest], refusal)
        good = sum(requests > 0 for _, requests in renewed.leases)
        slices = {"slices": renewed.slices} if renewed.allotment else {}
        self._say(EventName.RENEWED, owner=group[0].owner.hex(), leases=good, refused=len(renewed.refused), **slices)
        return bool(renewed.allotment)

    def _tell_refused(self, model: ModelRow, refusal: Refusal) -> None:
        """Say what was refused, and what to do about it."""
        hint = {} if refusal.remedy is None else {"next": refusal.remedy}
        self._tell(EventName.REFUSED, model, codes=list(refusal.codes), **hint)

    def _tell(self, name: EventName, model: ModelRow, **details: Any) -> None:
        self._say(name, model=model.name, epoch=model.epoch, digest=model.digest.hex()[:16], **details)

    def _say(self, event: EventName, /, **details: Any) -> None:
        """Emit an event; that a platform is simulated is in every line."""
        platform = self._session.evidence.platform
        shown = "SIMULATED" if platform is PlatformClass.SIMULATED else str(platform)
        self._emit(Event(event, self._session.address, {"platform": shown, **details}))


def _may_be_told(item: Revoked, owner: bytes) -> bool:
    """Tell whether the delegation lets an enclave act on this revocation; without it, leases run out."""
    delegation = open_delegation(item.row.delegation, owner)
    return Right.REVOKE in delegation.rights and delegation.names(item.document.name)


def _groups(models: Sequence[ModelRow]) -> Iterator[list[ModelRow]]:
    """Split models into heartbeats: of one delegation that gives the right, and of a bounded size."""
    by_delegation: dict[bytes, list[ModelRow]] = {}
    for model in models:
        if Right.HEARTBEAT in open_delegation(model.delegation, model.owner).rights:
            by_delegation.setdefault(model.delegation, []).append(model)
    for group in by_delegation.values():
        for start in range(0, len(group), MAX_LEASES):
            yield group[start : start + MAX_LEASES]
