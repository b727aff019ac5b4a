"""Leases are counts: requests that a model may still answer before its broker must be heard again."""

from __future__ import annotations

import threading

from enclave.errors import EnclaveCode, EnclaveError


class Lease:
    """A count that only goes down, until a heartbeat sets it anew; thread-safe."""

    def __init__(self, count: int) -> None:
        """Start with `count` requests."""
        self._remaining = count
        self._lock = threading.Lock()

    @property
    def remaining(self) -> int:
        """Requests that are left."""
        return self._remaining

    def spend(self) -> None:
        """Take one request; raises EnclaveError `lease-exhausted` at zero."""
        with self._lock:
            if self._remaining <= 0:
                raise EnclaveError(EnclaveCode.LEASE_EXHAUSTED, "the model's lease is used up", retry_after=30.0)
            self._remaining -= 1

    def renew(self, count: int) -> None:
        """Set the count anew: what was left is not added, so a late heartbeat cannot be hoarded."""
        with self._lock:
            self._remaining = count

    def end(self) -> None:
        """Leave nothing: the model was revoked."""
        self.renew(0)
