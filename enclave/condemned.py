"""The end of a process in which a run is stuck: it answers no more requests, and says so to whoever must know.

An operator of minutes cannot be stopped within a process (enclave.deadline), and a process that forked would share its
keys.  So the process condemns itself, for good: no request is answered from then on, no model taken, no lease renewed.
That makes what a broker is told in its next attested session true for ever, so the broker may give the process's places
to another.  The host is told by a counter, ends the process, and has another one serve.
"""

from __future__ import annotations

from enclave.errors import EnclaveCode, EnclaveError
from enclave.log import Event, log
from enclave.owners import Owners

RETRY_SECONDS = 1.0
"""A client that comes back after so long is led to another process, where there is one."""


class Condemned:
    """Whether this process has condemned itself, and for which models; thread-safe, under the owners' lock."""

    def __init__(self, owners: Owners) -> None:
        """Begin in good order."""
        self._owners = owners
        self._stuck: dict[bytes, set[bytes]] = {}
        self.runs = 0
        """Runs that were given up for stuck."""

    def __bool__(self) -> bool:
        return self.runs > 0

    def condemn(self, owner: bytes, digest: bytes) -> None:
        """Give up every lease, for good, because a run of this model is stuck."""
        with self._owners.lock:
            self.runs += 1
            for model in self._owners.models():
                model.lease.end()
            self._stuck.setdefault(owner, set()).add(digest)
        log(Event.STUCK, EnclaveCode.INFERENCE_TIMEOUT, runs=self.runs)

    def stuck(self, owner: bytes) -> list[bytes]:
        """Return the digests of an owner's models of which a run is stuck, in ascending order."""
        with self._owners.lock:
            return sorted(self._stuck.get(owner, ()))

    def check(self) -> None:
        """Refuse whatever would have this process serve; raises EnclaveError `enclave-stopping`."""
        if self.runs:
            raise EnclaveError(
                EnclaveCode.STOPPING,
                "a request could not be stopped, so this process ends; another takes over",
                retry_after=RETRY_SECONDS,
            )
