"""Time limits of inference: one thread that stops runs which take longer than their model admits.

A run that is overdue is told to stop.  ONNX Runtime looks at that between the operators of a graph, subgraphs of Loop,
Scan and If among them, so a run within one long operator goes on.  One that still goes on after a time of grace is
*stuck*: nothing within a process can end it.  Then whoever is responsible is told once (enclave.condemned), and the
thread, if it ever comes back, comes back with `AbandonedError`.  The clock is the host's, so all of it is best effort.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import onnxruntime as ort

from enclave.errors import EnclaveCode
from enclave.log import Event, log
from enclave.memory import release_memory

OVERDUE = "the request took longer than the model admits"


class AbandonedError(BaseException):
    """A run came back after it was given up for stuck: its session is in other hands, and must not be touched.

    No Exception, so that nobody on the way up takes it for a refusal and answers it.
    """


class Run:
    """One run of a model under a limit, from entering the context to leaving it.

    expired: it was told to stop.  stuck: it was given up; leaving the context then raises AbandonedError.
    owner, digest: of the model.  thread: the identifier of the thread that runs it.
    """

    def __init__(self, watchdog: Watchdog, seconds: float, owner: bytes, digest: bytes) -> None:
        """Belongs to `Watchdog.limit`."""
        self._watchdog = watchdog
        self._began = time.monotonic()
        self.due = self._began + seconds
        self.owner, self.digest = owner, digest
        self.thread = threading.get_ident()
        self.expired = False
        self.stuck = False
        self.told = threading.Event()
        """Set once whoever had to be told that it is stuck was told."""
        self.options = ort.RunOptions()
        self.options.log_severity_level = 4  # fatal alone: messages of the runtime may carry content
        release_memory(self.options)

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        self._watchdog.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.release(self)
        if self.stuck:
            self.told.wait()
            raise AbandonedError from None


class Watchdog:
    """Stops overdue runs.  There are never more runs than serving threads, so a plain set is searched."""

    def __init__(self, grace: float, stuck: Callable[[Run], None]) -> None:
        """Start the thread; `stuck` is told, by that thread, of each run that goes on `grace` seconds too long."""
        self._runs: set[Run] = set()
        self._grace = grace
        self._stuck = stuck
        self._wake = threading.Condition()
        self._next = math.inf
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def limit(self, seconds: float, owner: bytes = b"", digest: bytes = b"") -> Run:
        """Give a run, of an owner's model, that is stopped after `seconds`."""
        return Run(self, seconds, owner, digest)

    def stop(self) -> None:
        """End the thread; runs that go on are no longer limited."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def watch(self, run: Run) -> None:
        """Begin to watch a run."""
        with self._wake:
            self._runs.add(run)
            if run.due < self._next:
                self._wake.notify()

    def release(self, run: Run) -> None:
        """Watch a run no longer; from here on nobody calls it stuck."""
        with self._wake:
            self._runs.discard(run)

    def _watch(self) -> None:
        while not self._stopped:
            with self._wake:
                overdue = self._wait()
                stuck = [run for run in overdue if self._stop_run(run)]
            for run in stuck:
                self._tell(run)

    def _wait(self) -> list[Run]:
        """Wait until a run is due or something has changed; return the runs that are due."""
        self._next = min((run.due for run in self._runs), default=math.inf)
        pause = self._next - time.monotonic()
        if pause > 0 and not self._stopped:
            self._wake.wait(None if pause == math.inf else min(pause, threading.TIMEOUT_MAX))
        now = time.monotonic()
        return [run for run in self._runs if run.due <= now]

    def _stop_run(self, run: Run) -> bool:
        """Tell a run to stop, or where it was told before, give it up; return whether that was done."""
        if not run.expired:
            run.expired = run.options.terminate = True
            run.due += self._grace
            return False
        run.stuck = True
        self._runs.discard(run)
        return True

    def _tell(self, run: Run) -> None:
        try:
            self._stuck(run)
        except Exception as error:  # noqa: BLE001 - a defect there must not end the watch over other runs
            log(Event.DEFECT, EnclaveCode.INTERNAL, **{type(error).__name__: 1})
        finally:
            run.told.set()
