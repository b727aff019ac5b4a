"""Leases are counts: requests that a model may still answer before its broker must be heard again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from enclave.errors import EnclaveCode, EnclaveError


class Lease:
    """A count that only goes down, until a heartbeat sets it anew; thread-safe."""

    def __init__(self, count: int) -> None:
        """Start with `count` requests."""
        self._remaining = count
        self._spent = 0
        self._lock = threading.Lock()

    @property
    def remaining(self) -> int:
        """Requests that are left."""
        return self._remaining

    @property
    def spent(self) -> int:
        """Requests that were taken since the model was loaded."""
        return self._spent

    def spend(self) -> None:
        """Take one request; raises EnclaveError `lease-exhausted` at zero."""
        with self.taking():
            pass

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take one request when the block ends without an error; nobody else takes it meanwhile.  Raises as `spend`."""
        with self._lock:
            if self._remaining <= 0:
                raise EnclaveError(EnclaveCode.LEASE_EXHAUSTED, "the model's lease is used up", retry_after=30.0)
            yield
            self._remaining -= 1
            self._spent += 1

    def renew(self, count: int, since: int) -> None:
        """Allow `count` requests, counted from when `spent` was `since`: from the challenge, not from now.

        So heartbeats that a host held back are worth no more than one: after the newest challenge, `count` requests
        are answered at most, however many heartbeats come and whenever.
        """
        with self._lock:
            self._remaining = max(0, count - (self._spent - since))

    def end(self) -> None:
        """Leave nothing: the model was revoked."""
        with self._lock:
            self._remaining = 0
