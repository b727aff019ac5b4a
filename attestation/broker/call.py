"""One call at one host: an attested session, decided upon before anything is sent, and why it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from attestation.appraise import SessionAppraisal
from attestation.broker.assess import evidence_of
from attestation.broker.decide import Refusal
from attestation.broker.errors import BrokerCode, BrokerError
from attestation.broker.events import Emit, Event, EventName
from attestation.broker.ledger import Ledger
from attestation.broker.policy import ActivePolicy
from attestation.broker.quarantine import Quarantine
from attestation.broker.releases import refuse
from attestation.broker.terms import AttestedSession
from attestation.broker.visit import Channel, Visit
from attestation.client.call import Timeouts
from attestation.client.connection import open_session
from attestation.client.errors import ClientCode
from attestation.collateral import CollateralSource
from attestation.findings import AppraisalError
from manifests.errors import Fault, StrongroomError

REATTEST_SECONDS = 3600
"""An enclave's platform can fall behind while it runs; new collateral shows at the next attestation."""
POLICY_CHANGED = "the policy has changed"
_AWAY = frozenset({ClientCode.ADDRESS_UNREACHABLE, ClientCode.TIMED_OUT, ClientCode.HOST_REFUSED})


class Session(Channel, Protocol):
    """An attested connection as the link uses it."""

    @property
    def attested(self) -> SessionAppraisal:
        """The verdict over the evidence."""

    @property
    def handshake_hash(self) -> bytes:
        """The session's h, 64 bytes."""

    def close(self) -> None:
        """End the session in order."""

    def fileno(self) -> int:
        """Return a descriptor that can be read from once the session was ended."""


Opener = Callable[[str, ActivePolicy, int, Callable[[SessionAppraisal], None]], Session]
"""Opens an attested session: address, policy, now, and the decision that is taken before anything is sent."""


def opener(source: CollateralSource, route: str, timeouts: Timeouts) -> Opener:
    """Return the opener of real sessions, which fetches collateral from `source`.

    An address may name another route than `route`: `tcp:HOST:PORT#ROUTE`.
    """

    def open_it(address: str, policy: ActivePolicy, now: int, decide: Callable[[SessionAppraisal], None]) -> Session:
        at, _, named = address.partition("#")
        return open_session(
            at,
            route=named or route,
            policy=policy.policy,
            source=source,
            roots=policy.roots,
            now=now,
            decide=decide,
            timeouts=timeouts,
        )

    return open_it


@dataclass(frozen=True)
class Surroundings:
    """What a link works with.

    stop: set when the broker is to end.  fail: ends it, because its ledger can no longer be trusted, or a defect
    showed.  now: Unix seconds.  quarantine: models that got an enclave stuck.
    """

    ledger: Ledger
    open: Opener
    emit: Emit
    stop: threading.Event
    fail: Callable[[BaseException], None]
    now: Callable[[], int] = field(default=lambda: int(time.time()), repr=False)
    quarantine: Quarantine = field(default_factory=Quarantine)


def trouble(address: str, error: StrongroomError) -> Event:
    """Return the event for an error that ended a session, or kept one from being opened."""
    details: dict[str, Any] = {"code": str(error.code), "message": error.message, "next": error.remedy or "-"}
    if isinstance(error, AppraisalError):
        details["codes"] = [str(finding.code) for finding in error.failed]
    if error.code in _AWAY:
        return Event(EventName.UNREACHABLE, address, details)
    return Event(EventName.REFUSED if error.code.fault is Fault.REFUSED else EventName.FAILED, address, details)


class Judge:
    """Decides on an appraised enclave before anything is sent to it, and records why it is refused."""

    def __init__(self, around: Surroundings, address: str, policy: ActivePolicy) -> None:
        self._around = around
        self._policy = policy.epoch
        self._address = address
        self.attested: SessionAppraisal | None = None

    def __call__(self, attested: SessionAppraisal) -> None:
        self.attested = attested
        if attested.appraisal.accepted:
            return
        ledger = self._around.ledger
        evidence = evidence_of(attested, ledger.keys.signer.public, self._policy)
        digests = ledger.look(lambda state: [row.digest for row in state.models()])
        refuse(ledger, AttestedSession(evidence, bytes(64), self._address), digests, self._around.now())
        attested.require()


@dataclass(frozen=True)
class Call:
    """One open session with everything that it depends on; a context manager that closes it."""

    around: Surroundings
    policy: ActivePolicy
    session: Session
    visit: Visit
    opened: int
    expires: int

    @classmethod
    def make(cls, around: Surroundings, policy: ActivePolicy, session: Session, address: str) -> Self:
        evidence = evidence_of(session.attested, around.ledger.keys.signer.public, policy.epoch)
        attested = AttestedSession(evidence, session.handshake_hash, address)
        details = {
            "platform": session.attested.appraisal.platform,
            "measurement": evidence.measurement.hex(),
            "boot_id": evidence.boot_id.hex(),
            "tcb_status": session.attested.verified.tcb_status,
            "policy": policy.epoch,
        }
        around.emit(Event(EventName.ATTESTED, address, details))
        visit = Visit(around.ledger, session, attested, around.emit, around.now, quarantine=around.quarantine)
        return cls(around, policy, session, visit, around.now(), evidence.expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def serve(self) -> None:
        """Release what the enclave lacks, and renew what it has; raises StrongroomError."""
        self.visit.provision()
        self.visit.tend()

    def outdated(self) -> str:
        """Return why the session must be opened anew, or nothing."""
        ledger, now = self.around.ledger, self.around.now()
        row = ledger.look(lambda state: state.policy())
        if row is None or row.epoch != self.policy.epoch:
            return POLICY_CHANGED
        if now >= self.expires:
            return "the evidence has expired"
        return "the evidence is an hour old" if now - self.opened >= REATTEST_SECONDS else ""

    def require_all(self) -> None:
        """Refuse a session in which a model was not taken; raises BrokerError or the enclave's RemoteError."""
        for error in self.visit.failures.values():
            raise error
        refusals = list(self.visit.refusals.values())
        if refusals:
            raise ReleaseRefusedError(Refusal(tuple(dict.fromkeys(i for item in refusals for i in item.unmet))))


class ReleaseRefusedError(BrokerError):
    """A key was refused; `unmet` in `to_dict` lists every expectation."""

    def __init__(self, refusal: Refusal) -> None:
        """Name every code in the message."""
        super().__init__(
            BrokerCode.RELEASE_REFUSED,
            f"the enclave does not get every key: {', '.join(dict.fromkeys(refusal.codes))}",
            expected="; ".join(f"{item.code}: {item.expected}" for item in refusal.unmet),
            found="; ".join(f"{item.code}: {item.found}" for item in refusal.unmet),
            remedy=refusal.remedy,
        )
        self.refusal = refusal

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with every expectation."""
        return {**super().to_dict(), "unmet": [item.to_dict() for item in self.refusal.unmet]}
