"""Time limits of inference: one thread that stops runs which take longer than their model admits.

The clock is the host's, so a limit is best effort; ONNX Runtime looks at it between the operators of a graph.
"""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType
from typing import Self

import onnxruntime as ort


class Run:
    """One run of a model under a limit, from entering the context to leaving it; `expired` says it was stopped."""

    def __init__(self, watchdog: Watchdog, seconds: float) -> None:
        """Belongs to `Watchdog.limit`."""
        self._watchdog = watchdog
        self.due = time.monotonic() + seconds
        self.expired = False
        self.options = ort.RunOptions()
        self.options.log_severity_level = 4  # fatal alone: messages of the runtime may carry content

    def __enter__(self) -> Self:
        self._watchdog.watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.release(self)


class Watchdog:
    """Stops overdue runs.  There are never more runs than serving threads, so a plain set is searched."""

    def __init__(self) -> None:
        """Start the thread."""
        self._runs: set[Run] = set()
        self._wake = threading.Condition()
        self._next = math.inf
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def limit(self, seconds: float) -> Run:
        """Give a run that is stopped after `seconds`."""
        return Run(self, seconds)

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
        """Watch a run no longer."""
        with self._wake:
            self._runs.discard(run)

    def _watch(self) -> None:
        with self._wake:
            while not self._stopped:
                self._next = min((run.due for run in self._runs), default=math.inf)
                pause = self._next - time.monotonic()
                if pause <= 0:
                    self._stop_overdue()
                else:
                    self._wake.wait(None if pause == math.inf else min(pause, threading.TIMEOUT_MAX))

    def _stop_overdue(self) -> None:
        now = time.monotonic()
        for run in [run for run in self._runs if run.due <= now]:
            run.expired = True
            run.options.terminate = True
            self._runs.discard(run)
