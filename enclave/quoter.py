"""The quoter: one quote at a time, shared by all handshakes that arrived while the last one was made.

There is no timer: a handshake that finds the quoter idle is quoted alone, at once.  Freshness does not change with
the size of a batch, since every leaf is in the tree before the quote is asked for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from attestation.binding import MAX_PATH, InclusionProof, batch
from enclave.attesters.base import Attester
from enclave.errors import EnclaveCode, EnclaveError
from enclave.log import Event, log
from manifests.errors import StrongroomError


@dataclass(frozen=True)
class Quoted:
    """A quote, and the proof that one leaf is under it."""

    quote: bytes
    proof: InclusionProof


Done = Callable[[Quoted | StrongroomError], None]
"""Called once, in the quoter's thread; must be quick and raise nothing."""


class Quoter:
    """Owns the attester.  `submit` never blocks."""

    def __init__(self, attester: Attester, capacity: int, lost: Callable[[], None] = lambda: None) -> None:
        """Start the thread; `capacity` leaves may wait, at most 2**16.  `lost` is called once the attester is."""
        self._lost = lost
        self._attester = attester
        self._capacity = min(capacity, 1 << MAX_PATH)
        self._waiting: deque[tuple[bytes, Done]] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self.quotes = 0
        self.leaves = 0
        self._thread = threading.Thread(target=self._run, name="quoter", daemon=True)
        self._thread.start()

    def submit(self, leaf: bytes, done: Done) -> None:
        """Have `leaf` quoted; raises EnclaveError `enclave-busy` if too many wait."""
        with self._condition:
            if self._stopped or len(self._waiting) >= self._capacity:
                raise EnclaveError(EnclaveCode.BUSY, "too many handshakes wait for a quote", retry_after=1.0)
            self._waiting.append((leaf, done))
            self._condition.notify()

    def stop(self) -> None:
        """End the thread after the quote that it is at; leaves that wait are refused."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while leaves := self._take():
            self._serve(leaves)
            if self._attester.lost:
                self._lost()
                break
        self._give_up()

    def _give_up(self) -> None:
        """Refuse what waits and what may still come."""
        with self._condition:
            self._stopped = True
        for _, done in self._waiting:
            done(EnclaveError(EnclaveCode.STOPPING, "the enclave is being drained"))

    def _take(self) -> list[tuple[bytes, Done]]:
        with self._condition:
            while not self._waiting and not self._stopped:
                self._condition.wait()
            if self._stopped:
                return []
            taken = list(self._waiting)
            self._waiting.clear()
            return taken

    @staticmethod
    def _refuse(taken: list[tuple[bytes, Done]], error: StrongroomError) -> None:
        log(Event.QUOTED, error.code, leaves=len(taken))
        for _, done in taken:
            done(error)

    def _serve(self, taken: list[tuple[bytes, Done]]) -> None:
        report_data, proofs = batch([leaf for leaf, _ in taken])
        try:
            quote = self._attester.quote(report_data)
        except StrongroomError as error:
            self._refuse(taken, error)
            return
        except Exception as error:  # noqa: BLE001 - a defect of an attester costs these handshakes, not all
            log(Event.DEFECT, EnclaveCode.INTERNAL, **{type(error).__name__: 1})
            self._refuse(taken, EnclaveError(EnclaveCode.QUOTE_UNAVAILABLE, "the attester met a defect"))
            return
        self.quotes += 1
        self.leaves += len(taken)
        for (_, done), proof in zip(taken, proofs, strict=True):
            done(Quoted(quote, proof))
