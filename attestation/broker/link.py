"""One host, for as long as the broker serves: connect, attest, visit, renew; and again, when that ends.

An enclave is attested anew when the connection breaks, the policy changes, the evidence expires, and every hour, so
that new collateral is heard.  Each time its keys are released anew, which the ledger counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from attestation.broker.bell import Bell, Woken
from attestation.broker.budgets import LOOK_SECONDS
from attestation.broker.call import POLICY_CHANGED, Call, Judge, Surroundings, trouble
from attestation.broker.errors import BrokerCode
from attestation.broker.events import Event, EventName
from attestation.broker.policy import active_policy
from attestation.broker.releases import refuse_unverified
from attestation.broker.terms import PolicyChangedError
from attestation.errors import EvidenceError
from attestation.findings import AppraisalError
from manifests.errors import ManifestError, StrongroomError

FIRST_DELAY = 0.5
LAST_DELAY = 30.0
REMIND_SECONDS = 60.0
"""How often a lasting trouble is mentioned again."""
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


class Link:
    """The broker's side of one host."""

    def __init__(self, address: str, surroundings: Surroundings) -> None:
        """Serve one address; nothing is opened yet."""
        self.address = address
        self._around = surroundings
        self._bell = Bell()
        self._backoff = Backoff()
        self._trouble: tuple[str, float] = ("", 0.0)

    def wake(self) -> None:
        """Have the link look at the ledger (or at `stop`) now; safe from any thread."""
        self._bell.ring()

    def run(self) -> None:
        """Serve the host until `stop` is set; no trouble with the host ends this."""
        while not self._around.stop.is_set():
            try:
                self._visit()
            except PolicyChangedError:
                self._reconnecting(POLICY_CHANGED)
            except StrongroomError as error:
                if error.code in _FATAL:
                    self._around.fail(error)
                    return
                self._complain(error)
                self._bell.wait(self._backoff.next())
            except Exception as error:  # noqa: BLE001 - a defect must not leave a host unserved in silence
                self._around.fail(error)
                return

    def _visit(self) -> None:
        with self._attested() as call:
            call.serve()
            self._stay(call)

    def once(self) -> None:
        """Provision the host's enclave once; raises StrongroomError unless it took every key."""
        try:
            with self._attested() as call:
                call.serve()
                call.require_all()
        except PolicyChangedError:  # only an administrator changes it, so this ends
            self._reconnecting(POLICY_CHANGED)
            self.once()

    # ------------------------------------------------------------------------------------ one session

    def _attested(self) -> Call:
        """Open an attested session and decide on it; raises StrongroomError after recording a refusal."""
        around = self._around
        policy = around.ledger.look(lambda state: active_policy(state, around.ledger.keys.signer.public))
        judge = Judge(around, self.address, policy)
        try:
            session = around.open(self.address, policy, around.now(), judge)
        except AppraisalError:
            raise
        except (EvidenceError, ManifestError) as error:
            if judge.attested is None:
                refuse_unverified(around.ledger, self.address, error, around.now())
            raise
        return Call.make(around, policy, session, self.address)

    def _stay(self, call: Call) -> None:
        """Keep the session until it must be opened anew, or the broker ends.

        Where clients have budgets, the enclave is looked at between two heartbeats: a slice may be used up.
        """
        budget, seconds = call.policy.rules.budget, call.policy.rules.heartbeat_seconds
        looks = budget is not None and budget.counts
        due = time.monotonic() + seconds
        while not self._around.stop.is_set():
            left = due - time.monotonic()
            woken = self._bell.wait(min(left, LOOK_SECONDS) if looks else left, call.session)
            if self._around.stop.is_set():
                return
            reason = "the session was ended" if woken is Woken.PEER else call.outdated()
            if reason:
                self._reconnecting(reason)
                if woken is Woken.PEER:
                    self._bell.wait(self._backoff.next())
                return
            if looks and woken is Woken.TIME and time.monotonic() < due:
                call.visit.look()
                continue
            if woken is Woken.RUNG:
                call.visit.retries.forgive()
            call.serve()
            self._settled()
            due = time.monotonic() + seconds

    def _reconnecting(self, reason: str) -> None:
        self._around.emit(Event(EventName.RECONNECTING, self.address, {"reason": reason}))

    # ------------------------------------------------------------------------------------ troubles

    def _settled(self) -> None:
        """Forget earlier troubles: a session has outlived its first heartbeat."""
        self._backoff.reset()
        self._trouble = ("", 0.0)

    def _complain(self, error: StrongroomError) -> None:
        """Mention a trouble when it is new, and again every minute while it lasts."""
        code, said = self._trouble
        if code == str(error.code) and time.monotonic() - said < REMIND_SECONDS:
            return
        self._trouble = (str(error.code), time.monotonic())
        self._around.emit(trouble(self.address, error))
