"""Background threads for work that waits: one that loads models, some that wait in batches.  Their queue is bounded."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from enclave.deadline import AbandonedError
from enclave.errors import EnclaveCode, EnclaveError

Task = Callable[[], None]


class Worker:
    """Runs tasks in order.  Tasks raise nothing; they carry their outcome to whoever waits."""

    def __init__(self, name: str, capacity: int, threads: int = 1) -> None:
        """Start the threads; `capacity` tasks may wait."""
        self._tasks: queue.Queue[Task | None] = queue.Queue(capacity)
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        """Queue a task; raises EnclaveError `enclave-busy` if too many wait."""
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            raise EnclaveError(EnclaveCode.BUSY, "too much of this kind waits to be done", retry_after=5.0) from None

    def stop(self) -> None:
        """End the threads after the tasks that wait."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            with contextlib.suppress(AbandonedError):  # it was given up for stuck, and nobody waits for it any more
                task()
