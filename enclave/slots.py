"""Places for what requests and sessions hold of a model: a count that its manifest bounds, reserved at its loading."""

from __future__ import annotations

import threading

from enclave.errors import EnclaveCode, EnclaveError


class Slots:
    """So many places, taken and given back; thread-safe."""

    def __init__(self, count: int, what: str) -> None:
        """Start with all of them free; `what` are held, in a refusal's words."""
        self._free = count
        self._what = what
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self._free

    def take(self) -> None:
        """Take a place; raises EnclaveError `model-full`."""
        with self._lock:
            if self._free <= 0:
                raise EnclaveError(
                    EnclaveCode.MODEL_FULL, f"the model holds as many {self._what} as it may", retry_after=5.0
                )
            self._free -= 1

    def give(self) -> None:
        """Give a place back that was taken."""
        with self._lock:
            self._free += 1
