"""Micro-batching: requests of several sessions on one model, run together as rows of one batch.

Whoever comes first leads: it waits for others, no longer than the manifest says, runs the graph on all rows, and each
takes its own.  Whatever goes wrong with the batch, a time limit among it, is nobody's answer: then each member runs
alone, in its own thread, and has its own outcome.  A request that finds nobody runs as if there were no batching.

How long an answer takes, and the last bits of its numbers, may depend on who else asked: LIMITATIONS.md says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from enclave.deadline import OVERDUE
from enclave.errors import EnclaveCode, EnclaveError
from enclave.validate import Tensors
from manifests.batching import Batching

RunAll: TypeAlias = Callable[[Sequence[str], Tensors], Tensors]
"""Runs the graph: names of outputs, inputs."""

THREADS = 32
"""Threads that wait in batches, of all models together: no more requests than these are joined."""


@dataclass
class Batch:
    """Requests that run together.  key: shapes behind the first axis, which must be equal to be joined."""

    key: tuple[tuple[int, ...], ...]
    due: float
    members: list[Tensors] = field(default_factory=list, repr=False)
    rows: int = 0
    is_closed: bool = False
    outputs: Tensors | None = field(default=None, repr=False)
    """What the graph gave for all rows; None where that went wrong, or where there is one member."""
    done: threading.Event = field(default_factory=threading.Event, repr=False)

    def join(self, inputs: Tensors, rows: int) -> slice:
        """Add a request; return which rows are its own."""
        self.members.append(inputs)
        self.rows += rows
        return slice(self.rows - rows, self.rows)


Wait: TypeAlias = Callable[[threading.Condition, Batch], None]
"""Waits, with the condition held, until a batch is closed or due."""


def wait(changed: threading.Condition, batch: Batch) -> None:
    """Wait by the clock, which is the host's."""
    while not batch.is_closed and (left := batch.due - time.monotonic()) > 0:
        changed.wait(left)


class Batcher:
    """Joins the requests to one model; thread-safe."""

    def __init__(self, table: Batching, wait_for: Wait = wait, patience: float = 3600.0) -> None:
        """Join as the manifest says.

        patience: seconds that a member waits for its batch to run.  They are over only where the run is stuck, for one
        that can be stopped is stopped before; then each member is refused for the time that it took.
        """
        self._table = table
        self._patience = patience + table.max_wait_us / 1e6
        self.wait_for = wait_for
        self._changed = threading.Condition()
        self._open: Batch | None = None
        self.batches = 0
        self.joined = 0
        """Requests that ran in a batch with others."""

    @property
    def waiting(self) -> int:
        """Requests in the batch that has not begun to run."""
        with self._changed:
            return 0 if self._open is None else len(self._open.members)

    def run(self, run: RunAll, names: Sequence[str], inputs: Tensors) -> Tensors:
        """Run a request, with others where there are any; raises EnclaveError for this request alone."""
        rows = next(iter(inputs.values())).shape[0]
        if rows >= self._table.max_rows:
            return run(names, inputs)
        batch, own, leads = self._join(inputs, rows)
        if leads:
            self._lead(batch, run, names)
        elif not batch.done.wait(self._patience):
            raise EnclaveError(EnclaveCode.INFERENCE_TIMEOUT, OVERDUE)
        if batch.outputs is None:
            return run(names, inputs)
        return {name: array[own] for name, array in batch.outputs.items()}

    def _join(self, inputs: Tensors, rows: int) -> tuple[Batch, slice, bool]:
        """Return the batch that a request is in, its rows there, and whether it is the first."""
        key = tuple(array.shape[1:] for array in inputs.values())
        with self._changed:
            batch = self._open
            if batch is not None and (batch.key != key or batch.rows + rows > self._table.max_rows):
                self._close(batch)
            leads = self._open is None
            if self._open is None:
                self._open = Batch(key, time.monotonic() + self._table.max_wait_us / 1e6)
            batch = self._open
            own = batch.join(inputs, rows)
            if batch.rows == self._table.max_rows:
                self._close(batch)
            return batch, own, leads

    def _close(self, batch: Batch) -> None:
        """Admit no more to a batch, and have it run; the condition is held."""
        batch.is_closed = True
        if self._open is batch:
            self._open = None
        self._changed.notify_all()

    def _lead(self, batch: Batch, run: RunAll, names: Sequence[str]) -> None:
        try:
            with self._changed:
                self.wait_for(self._changed, batch)
                self._close(batch)
                self.batches += 1
                self.joined += len(batch.members) if len(batch.members) > 1 else 0
            if len(batch.members) > 1:
                batch.outputs = _joined(batch, run, names)
        finally:
            batch.done.set()


def _joined(batch: Batch, run: RunAll, names: Sequence[str]) -> Tensors | None:
    """Return the outputs of all rows, or None where the batch cannot be run as one."""
    first = batch.members[0]
    inputs = {name: np.concatenate([member[name] for member in batch.members]) for name in first}
    try:
        outputs = run(names, inputs)
    except EnclaveError:
        return None
    whole = all(array.ndim > 0 and array.shape[0] == batch.rows for array in outputs.values())
    return outputs if whole else None
