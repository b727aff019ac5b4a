"""The tickets of a server that is no enclave; an enclave keeps its own in the arena."""

from __future__ import annotations

import secrets
import threading

from attestation.wire.noise_primitives import KEY_SIZE
from attestation.wire.tickets import TICKET_ID_SIZE, ServerTicket


class TicketStore:
    """A TicketLookup in plain memory for the protocol's own tests, safe to share between threads; bounded."""

    def __init__(self, capacity: int = 4096) -> None:
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
