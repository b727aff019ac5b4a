"""Tickets: coming back to an enclave process that has been attested before, once, without new evidence.

A ticket is an id of 16 bytes, which travels in the clear, and a random pre-shared key of 32 bytes, which was sent
inside an attested session.  The enclave keeps what the ticket stands for, and forgets it at first sight of the id;
the client enforces age, policy and collateral, since it has a clock.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from typing import Protocol

from attestation.wire.noise_primitives import KEY_SIZE

TICKET_ID_SIZE = 16
DEFAULT_CAPACITY = 4096
"""A ticket takes about 400 bytes; the oldest makes room."""


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

    identity: opaque bytes of the enclave's server, empty for an anonymous client.
    """

    id: bytes
    psk: bytes = field(repr=False)
    identity: bytes
    evidence_digest: bytes


class TicketLookup(Protocol):
    """What a server session needs of a store."""

    def take(self, ticket_id: bytes) -> ServerTicket | None:
        """Return the ticket and forget it, or None."""


class TicketStore:
    """The tickets of one enclave process, safe to share between threads; bounded, and never written anywhere."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        """Start without tickets; `capacity` is at least 1."""
        if capacity < 1:
            raise ValueError("a ticket store holds at least one ticket")
        self._capacity = capacity
        self._tickets: dict[bytes, ServerTicket] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, identity: bytes, evidence_digest: bytes) -> tuple[bytes, bytes]:
        """Return (id, psk) of a new ticket; the oldest makes room where the store is full."""
        ticket = ServerTicket(
            secrets.token_bytes(TICKET_ID_SIZE), secrets.token_bytes(KEY_SIZE), identity, evidence_digest
        )
        with self._lock:
            while len(self._tickets) >= self._capacity:
                del self._tickets[next(iter(self._tickets))]
            self._tickets[ticket.id] = ticket
        return ticket.id, ticket.psk

    def take(self, ticket_id: bytes) -> ServerTicket | None:
        """Return the ticket and forget it, so that no id is good twice; None if there is none.

        The id alone spends it: whoever carries a hello could equally well have dropped it.
        """
        with self._lock:
            return self._tickets.pop(ticket_id, None)

    def clear(self) -> None:
        """Forget all tickets: on a new epoch, and on a revocation."""
        with self._lock:
            self._tickets.clear()
