"""Tickets: coming back to an enclave process that has been attested before, once, without new evidence.

A ticket is an id of 16 bytes, which travels in the clear, and a random pre-shared key of 32 bytes, which was sent
inside an attested session.  The enclave keeps what the ticket stands for, and forgets it at first sight of the id;
the client enforces age, policy and collateral, since it has a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

TICKET_ID_SIZE = 16


@dataclass(frozen=True)
class Ticket:
    """What a client keeps of a ticket.  Secret: whoever holds it is this client.

    evidence_digest: of the evidence that was accepted when it was issued (64 bytes).  policy_digest: of the policy
    that accepted it.  issued_at, expires: Unix seconds on the client's clock, at most an hour apart.
    """

    id: bytes
    psk: bytes = field(repr=False)
    evidence_digest: bytes
    policy_digest: bytes
    issued_at: int
    expires: int


@dataclass(frozen=True)
class ServerTicket:
    """What an enclave keeps of a ticket: its key, whose it is, and the digest of the evidence it was issued under.

    identity: opaque bytes of the enclave's server, empty for an anonymous client.  origin: handshake hash (64 bytes) of
    the session that this evidence was made for; empty where the server keeps none.
    """

    id: bytes
    psk: bytes = field(repr=False)
    identity: bytes
    evidence_digest: bytes
    origin: bytes = b""


class TicketLookup(Protocol):
    """What a server session needs of a store."""

    def take(self, ticket_id: bytes) -> ServerTicket | None:
        """Return the ticket and forget it, or None."""
