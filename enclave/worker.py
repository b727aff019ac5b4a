"""One background thread for work that waits for the host: loading models.  Its queue is bounded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from enclave.deadline import AbandonedError
from enclave.errors import EnclaveCode, EnclaveError

Task = Callable[[], None]


class Worker:
    """Runs tasks one after the other.  Tasks raise nothing; they carry their outcome to whoever waits."""

    def __init__(self, name: str, capacity: int) -> None:
        """Start the thread; `capacity` tasks may wait."""
        self._tasks: queue.Queue[Task | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Queue a task; raises EnclaveError `enclave-busy` if too many wait."""
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            raise EnclaveError(EnclaveCode.BUSY, "too many models wait to be loaded", retry_after=5.0) from None

    def stop(self) -> None:
        """End the thread after the tasks that wait."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            with contextlib.suppress(AbandonedError):  # it was given up for stuck, and nobody waits for it any more
                task()
