"""Tickets whose keys rest in the arena: used once, bounded in number, dropped on a new epoch or a revocation."""

from __future__ import annotations

import os
import threading

from attestation.wire.noise_primitives import KEY_SIZE
from attestation.wire.tickets import TICKET_ID_SIZE, ServerTicket
from enclave.arena import Arena, Secret

CAPACITY = 4096
"""A quarter of the arena; beyond it the oldest ticket makes room, and its client attests anew."""


class ArenaTickets:
    """The tickets of this process; thread-safe.  The TicketLookup of its server sessions."""

    def __init__(self, arena: Arena, capacity: int = CAPACITY) -> None:
        """Start without tickets."""
        self._arena = arena
        self._capacity = capacity
        self._tickets: dict[bytes, tuple[Secret, bytes, bytes, bytes]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tickets)

    def issue(self, identity: bytes, evidence_digest: bytes, origin: bytes) -> tuple[bytes, bytes]:
        """Return (id, psk) of a new ticket; raises EnclaveError `arena-full`."""
        ticket_id, psk = os.urandom(TICKET_ID_SIZE), os.urandom(KEY_SIZE)
        with self._lock:
            while len(self._tickets) >= self._capacity:
                self._pop(next(iter(self._tickets)))
            self._tickets[ticket_id] = (self._arena.store(psk), identity, evidence_digest, origin)
        return ticket_id, psk

    def take(self, ticket_id: bytes) -> ServerTicket | None:
        """Return the ticket and forget it, or None."""
        with self._lock:
            return self._pop(ticket_id)

    def clear(self) -> None:
        """Forget all tickets."""
        with self._lock:
            for ticket_id in list(self._tickets):
                self._pop(ticket_id)

    def _pop(self, ticket_id: bytes) -> ServerTicket | None:
        found = self._tickets.pop(ticket_id, None)
        if found is None:
            return None
        secret, identity, evidence_digest, origin = found
        ticket = ServerTicket(ticket_id, bytes(secret.view), identity, evidence_digest, origin)
        secret.wipe()
        return ticket
