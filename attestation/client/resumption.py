"""Coming back to an enclave process that was attested before, without evidence.

A ticket is used once and only where a full attestation would still come out the same: within the hour, under the
same policy, while the collateral that it rested on is valid.  Otherwise the client attests anew; so resuming never
accepts what attesting would refuse, but for what became known within that hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attestation.appraise import SessionAppraisal
from attestation.client.call import Call
from attestation.client.receipts import Origin
from attestation.client.service import Service
from attestation.client.terms import Terms
from attestation.types import OwnerState
from attestation.wire.tickets import Ticket

MAX_AGE = 3600
"""Seconds for which a ticket may stand in for evidence (the hour of the protocol)."""


@dataclass(frozen=True)
class SavedSession:
    """A ticket with the terms and the appraisal that it rests on.  Secret: whoever holds it is this client."""

    terms: Terms
    ticket: Ticket
    attested: SessionAppraisal
    served: tuple[OwnerState, ...]
    origin: Origin

    def __repr__(self) -> str:
        return f"<SavedSession for {self.terms.call.address}, issued at {self.ticket.issued_at}>"

    def usable(self, now: float) -> bool:
        """Tell whether the client may resume at this time (Unix seconds) instead of attesting anew."""
        age = now - self.ticket.issued_at
        same_policy = self.ticket.policy_digest == self.terms.call.party.policy.digest
        return 0 <= age < MAX_AGE and same_policy and now < self.attested.expires

    def call(self) -> Call:
        """Return how to open the resumed connection."""
        return replace(self.terms.call, ticket=self.ticket)

    def service(self) -> Service:
        """Return the inference protocol of the resumed session."""
        return Service(self.terms.freshness, self.served)


def save(
    terms: Terms, attested: SessionAppraisal, service: Service, origin: Origin, issued: tuple[bytes, bytes]
) -> SavedSession:
    """Keep a ticket (id, PSK) that the enclave issued just now."""
    now = int(terms.freshness.now())
    ticket = Ticket(
        id=issued[0],
        psk=issued[1],
        evidence_digest=attested.evidence_digest,
        policy_digest=terms.call.party.policy.digest,
        issued_at=now,
        expires=now + MAX_AGE,
    )
    return SavedSession(terms, ticket, attested, service.served, origin)
