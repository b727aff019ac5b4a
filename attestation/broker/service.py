"""The running broker: one link for each host, and a watch over what other processes write into the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from attestation.broker.call import Opener, Surroundings, trouble
from attestation.broker.events import Emit, Event, EventName
from attestation.broker.ledger import Ledger
from attestation.broker.link import Link
from manifests.errors import Fault, StrongroomError

WATCH_SECONDS = 0.5
"""How soon a revocation made beside the running broker is on its way."""
STOP_SECONDS = 5.0
"""How long a link may take to end its session in order; what it has recorded is durable either way."""


class Service:
    """Serves hosts until it is stopped."""

    def __init__(self, ledger: Ledger, addresses: Sequence[str], opener: Opener, emit: Emit) -> None:
        """Prepare the links; `addresses` are of hosts, each with one enclave behind its route."""
        self._ledger = ledger
        self._emit = emit
        self._stop = threading.Event()
        self._fatal: BaseException | None = None
        around = Surroundings(ledger, opener, emit, self._stop, self._fail)
        self._links = [Link(address, around) for address in dict.fromkeys(addresses)]

    def stop(self) -> None:
        """Have `serve` end soon; safe from a signal handler."""
        self._stop.set()
        for link in self._links:
            link.wake()

    def serve(self) -> None:
        """Serve until `stop`; raises StrongroomError if the ledger can no longer be trusted."""
        threads = [threading.Thread(target=link.run, name=link.address, daemon=True) for link in self._links]
        self._emit(
            Event(EventName.SERVING, details={"hosts": len(threads), "audit_head": self._ledger.head.digest.hex()})
        )
        for thread in threads:
            thread.start()
        self._watch()
        for thread in threads:
            thread.join(STOP_SECONDS)
        self._emit(Event(EventName.STOPPED, details={"audit_head": self._ledger.head.digest.hex()}))
        if self._fatal is not None:
            raise self._fatal

    def once(self) -> None:
        """Provision every host's enclave once; raises the first host's error after all were tried."""
        errors: dict[str, StrongroomError] = {}
        threads = [threading.Thread(target=self._try, args=(link, errors), daemon=True) for link in self._links]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for link in self._links:
            if link.address in errors:
                raise errors[link.address]

    def _try(self, link: Link, errors: dict[str, StrongroomError]) -> None:
        try:
            link.once()
        except StrongroomError as error:
            errors[link.address] = error
            self._emit(trouble(link.address, error))

    def _watch(self) -> None:
        """Take in what other processes record, and wake the links for it; a ledger that fails ends the service."""
        seen = self._ledger.version
        while not self._stop.wait(WATCH_SECONDS):
            try:
                self._ledger.refresh()
            except StrongroomError as error:
                if error.code.fault is not Fault.UNAVAILABLE:
                    self._fail(error)
            if self._ledger.version != seen:
                seen = self._ledger.version
                self._emit(Event(EventName.CHANGED, details={"audit_head": self._ledger.head.digest.hex()}))
                for link in self._links:
                    link.wake()

    def _fail(self, error: BaseException) -> None:
        """End the service because of an error; the first one is raised by `serve`."""
        self._fatal = self._fatal or error
        self.stop()
