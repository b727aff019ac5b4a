"""What a model may still tell each client about its training data: a count of answers, by the manifest's noise.

Epsilon and delta of a client's answers add up (basic composition, Dwork and Roth, Theorem 3.16), so a budget is a
number of answers.  It is counted before the model runs.  All anonymous clients are one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from enclave.errors import EnclaveCode, EnclaveError
from manifests.steps import Noise, PostStep

MAX_CLIENTS = 65_536
"""Clients that are counted one by one, in some ten megabytes; any further ones are counted as the anonymous one."""

ANONYMOUS = b""


class Accountant:
    """Counts the answers of one loaded model; thread-safe."""

    def __init__(self, answers: int) -> None:
        """Give each client this many."""
        self._answers = answers
        self._spent: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def spend(self, principal: bytes) -> None:
        """Count one answer to a client (its key, or b""); raises EnclaveError `privacy-exhausted`."""
        with self.taking(principal):
            pass

    @contextmanager
    def taking(self, principal: bytes) -> Iterator[None]:
        """Count one answer when the block ends without an error; raises as `spend`."""
        with self._lock:
            known = principal in self._spent or len(self._spent) < MAX_CLIENTS
            client = principal if known else ANONYMOUS
            spent = self._spent.get(client, 0)
            if spent >= self._answers:
                raise EnclaveError(
                    EnclaveCode.PRIVACY_EXHAUSTED, f"the model gives {self._answers} answers to each client"
                )
            yield
            self._spent[client] = spent + 1


def accountant(steps: Iterable[PostStep]) -> Accountant | None:
    """Return the accountant of a model whose answers have noise; None where they have none."""
    answers = [step.answers for step in steps if isinstance(step, Noise)]
    return Accountant(min(answers) // len(answers)) if answers else None
