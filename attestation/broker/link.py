"""One host, for as long as the broker serves: connect, attest, visit, renew; and again, when that ends.

An enclave is attested anew when the connection breaks, the policy changes, the evidence expires, and every hour, so
that new collateral is heard.  Each time its keys are released anew, which the ledger counts.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from attestation.appraise import SessionAppraisal
from attestation.broker.assess import evidence_of
from attestation.broker.decide import Refusal
from attestation.broker.events import Emit, Event, EventName
from attestation.broker.ledger import Ledger
from attestation.broker.policy import ActivePolicy, active_policy
from attestation.broker.releases import AttestedSession, refuse, refuse_unverified
from attestation.broker.visit import Channel, Visit
from attestation.client.call import Timeouts
from attestation.client.connection import open_session
from attestation.collateral import CollateralSource
from attestation.errors import BrokerCode, BrokerError, ClientCode, EvidenceError
from attestation.findings import AppraisalError
from manifests.errors import Fault, ManifestError, StrongroomError

REATTEST_SECONDS = 3600
"""An enclave's platform can fall behind while it runs; new collateral shows at the next attestation."""
FIRST_DELAY = 0.5
LAST_DELAY = 30.0
REMIND_SECONDS = 60.0
"""How often a lasting trouble is mentioned again."""
_AWAY = frozenset({ClientCode.ADDRESS_UNREACHABLE, ClientCode.TIMED_OUT, ClientCode.HOST_REFUSED})
_FATAL = frozenset(
    {
        BrokerCode.STORE_ALTERED,
        BrokerCode.STORE_ROLLED_BACK,
        BrokerCode.AUDIT_ALTERED,
        BrokerCode.AUDIT_FORKED,
        BrokerCode.AUDIT_ORDER,
        BrokerCode.AUDIT_MALFORMED,
    }
)
"""The database is not the broker's any more: nothing may be decided on it."""


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


Opener = Callable[[str, ActivePolicy, int, Callable[[SessionAppraisal], None]], Session]
"""Opens an attested session: address, policy, now, and the decision that is taken before anything is sent."""


def opener(source: CollateralSource, route: str, timeouts: Timeouts) -> Opener:
    """Return the opener of real sessions, which fetches collateral from `source`."""

    def open_it(address: str, policy: ActivePolicy, now: int, decide: Callable[[SessionAppraisal], None]) -> Session:
        return open_session(
            address,
            route=route,
            policy=policy.policy,
            source=source,
            roots=policy.roots,
            now=now,
            decide=decide,
            timeouts=timeouts,
        )

    return open_it


@dataclass
class Backoff:
    """Delays that double, with full jitter: brokers and hosts that lost each other do not all return at once."""

    draw: Callable[[float, float], float] = random.uniform
    _ceiling: float = field(default=FIRST_DELAY)

    def next(self) -> float:
        """Return the seconds to wait."""
        delay = self.draw(self._ceiling / 2, self._ceiling)
        self._ceiling = min(2 * self._ceiling, LAST_DELAY)
        return delay

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._ceiling = FIRST_DELAY


@dataclass(frozen=True)
class Surroundings:
    """What a link works with.

    stop: set when the broker is to end.  fail: ends it, because its ledger can no longer be trusted, or a defect
    showed.  now: Unix seconds.
    """

    ledger: Ledger
    open: Opener
    emit: Emit
    stop: threading.Event
    fail: Callable[[BaseException], None]
    now: Callable[[], int] = field(default=lambda: int(time.time()), repr=False)


class Link:
    """The broker's side of one host."""

    def __init__(self, address: str, surroundings: Surroundings) -> None:
        """Serve one address; nothing is opened yet."""
        self.address = address
        self._around = surroundings
        self._wake = threading.Event()
        self._backoff = Backoff()
        self._trouble: tuple[str, float] = ("", 0.0)

    def wake(self) -> None:
        """Have the link look at the ledger (or at `stop`) now; safe from any thread."""
        self._wake.set()

    def run(self) -> None:
        """Serve the host until `stop` is set; no trouble with the host ends this."""
        while not self._around.stop.is_set():
            try:
                self._visit()
            except StrongroomError as error:
                if error.code in _FATAL:
                    self._around.fail(error)
                    return
                self._complain(error)
                self._pause(self._backoff.next())
            except Exception as error:  # noqa: BLE001 - a defect must not leave a host unserved in silence
                self._around.fail(error)
                return

    def _visit(self) -> None:
        with self._attested() as call:
            call.visit.provision()
            call.visit.tend()
            self._settled()
            self._stay(call)

    def once(self) -> None:
        """Provision the host's enclave once; raises StrongroomError unless it took every key."""
        with self._attested() as call:
            call.visit.provision()
            call.visit.tend()
            call.require_all()

    # ------------------------------------------------------------------------------------ one session

    def _attested(self) -> _Call:
        """Open an attested session and decide on it; raises StrongroomError after recording a refusal."""
        around = self._around
        policy = around.ledger.look(lambda state: active_policy(state, around.ledger.keys.signer.public))
        judge = _Judge(around, self.address)
        try:
            session = around.open(self.address, policy, around.now(), judge)
        except AppraisalError:
            raise
        except (EvidenceError, ManifestError) as error:
            if judge.attested is None:
                refuse_unverified(around.ledger, self.address, error, around.now())
            raise
        return _Call.make(around, policy, session, self.address)

    def _stay(self, call: _Call) -> None:
        """Keep the session until it must be opened anew, or the broker ends."""
        beat = call.policy.rules.heartbeat_seconds
        while not self._around.stop.is_set():
            woken = self._wake.wait(beat)
            self._wake.clear()
            if self._around.stop.is_set():
                return
            if woken:
                call.visit.retries.forgive()
            reason = call.outdated()
            if reason:
                self._around.emit(Event(EventName.RECONNECTING, self.address, {"reason": reason}))
                return
            call.visit.provision()
            call.visit.tend()

    # ------------------------------------------------------------------------------------ troubles

    def _settled(self) -> None:
        self._backoff.reset()
        self._trouble = ("", 0.0)

    def _complain(self, error: StrongroomError) -> None:
        """Mention a trouble when it is new, and again every minute while it lasts."""
        code, said = self._trouble
        if code == str(error.code) and time.monotonic() - said < REMIND_SECONDS:
            return
        self._trouble = (str(error.code), time.monotonic())
        self._around.emit(trouble(self.address, error))

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()


def trouble(address: str, error: StrongroomError) -> Event:
    """Return the event for an error that ended a session, or kept one from being opened."""
    details: dict[str, Any] = {"code": str(error.code), "message": error.message}
    if isinstance(error, AppraisalError):
        details["codes"] = [str(finding.code) for finding in error.failed]
    if error.code in _AWAY:
        return Event(EventName.UNREACHABLE, address, details)
    return Event(EventName.REFUSED if error.code.fault is Fault.REFUSED else EventName.FAILED, address, details)


class _Judge:
    """Decides on an appraised enclave before anything is sent to it, and records why it is refused."""

    def __init__(self, around: Surroundings, address: str) -> None:
        self._around = around
        self._address = address
        self.attested: SessionAppraisal | None = None

    def __call__(self, attested: SessionAppraisal) -> None:
        self.attested = attested
        if attested.appraisal.accepted:
            return
        ledger = self._around.ledger
        evidence = evidence_of(attested, ledger.keys.signer.public)
        digests = ledger.look(lambda state: [row.digest for row in state.models()])
        refuse(ledger, AttestedSession(evidence, bytes(64), self._address), digests, self._around.now())
        attested.require()


@dataclass(frozen=True)
class _Call:
    """One open session with everything that it depends on; a context manager that closes it."""

    around: Surroundings
    policy: ActivePolicy
    session: Session
    visit: Visit
    opened: int
    expires: int

    @classmethod
    def make(cls, around: Surroundings, policy: ActivePolicy, session: Session, address: str) -> Self:
        evidence = evidence_of(session.attested, around.ledger.keys.signer.public)
        attested = AttestedSession(evidence, session.handshake_hash, address)
        details = {
            "platform": session.attested.appraisal.platform,
            "measurement": evidence.measurement.hex(),
            "boot_id": evidence.boot_id.hex(),
            "tcb_status": session.attested.verified.tcb_status,
            "policy": policy.epoch,
        }
        around.emit(Event(EventName.ATTESTED, address, details))
        visit = Visit(around.ledger, session, attested, around.emit, around.now)
        return cls(around, policy, session, visit, around.now(), evidence.expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def outdated(self) -> str:
        """Return why the session must be opened anew, or nothing."""
        ledger, now = self.around.ledger, self.around.now()
        row = ledger.look(lambda state: state.policy())
        if row is None or row.epoch != self.policy.epoch:
            return "the policy has changed"
        if now >= self.expires:
            return "the evidence has expired"
        return "the evidence is an hour old" if now - self.opened >= REATTEST_SECONDS else ""

    def require_all(self) -> None:
        """Refuse a session in which a model was not taken; raises BrokerError or the enclave's RemoteError."""
        for error in self.visit.failures.values():
            raise error
        refusals = list(self.visit.refusals.values())
        if refusals:
            raise release_refused(Refusal(tuple(dict.fromkeys(i for item in refusals for i in item.unmet))))


def release_refused(refusal: Refusal) -> BrokerError:
    """Return the error that names every expectation that was not met."""
    return ReleaseRefusedError(refusal)


class ReleaseRefusedError(BrokerError):
    """A key was refused; `unmet` in `to_dict` lists every expectation."""

    def __init__(self, refusal: Refusal) -> None:
        """Name every code in the message."""
        super().__init__(
            BrokerCode.RELEASE_REFUSED,
            f"the enclave does not get every key: {', '.join(dict.fromkeys(refusal.codes))}",
            expected="; ".join(f"{item.code}: {item.expected}" for item in refusal.unmet),
            found="; ".join(f"{item.code}: {item.found}" for item in refusal.unmet),
        )
        self.refusal = refusal

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form, with every expectation."""
        return {**super().to_dict(), "unmet": [item.to_dict() for item in self.refusal.unmet]}
