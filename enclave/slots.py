"""Places for what requests and sessions hold of a model: a count that its manifest bounds, reserved at its loading."""

from __future__ import annotations

import threading
from collections import Counter

from enclave.errors import EnclaveCode, EnclaveError

RETRY_SECONDS = 5.0


class Slots:
    """So many places, taken and given back; thread-safe."""

    def __init__(self, count: int, what: str, each: int = 0) -> None:
        """Start with all of them free; `what` are held, in a refusal's words.  each: of one client, 0 for any."""
        self._free = count
        self._what = what
        self._each = each
        self._held: Counter[bytes] = Counter()
        """Places by client, of those alone that have any: there are no more of them than places."""
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self._free

    def take(self, principal: bytes = b"") -> None:
        """Take a place for a client (its key, or b"" for all anonymous ones); raises EnclaveError `model-full`."""
        with self._lock:
            if self._free <= 0:
                raise _full(f"the model holds as many {self._what} as it may")
            if self._each and self._held.get(principal, 0) >= self._each:
                raise _full(f"the model holds as many {self._what} for this client as it may")
            self._free -= 1
            self._held[principal] += 1

    def give(self, principal: bytes = b"") -> None:
        """Give a place back that was taken for the same client."""
        with self._lock:
            self._free += 1
            self._held[principal] -= 1
            if not self._held[principal]:
                del self._held[principal]


def _full(message: str) -> EnclaveError:
    return EnclaveError(EnclaveCode.MODEL_FULL, message, retry_after=RETRY_SECONDS)
