"""Many pieces of evidence against the same collateral, on every core.

Each process authenticates the collateral once; dates are held against the time of each batch, as anywhere.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from attestation import evidence
from attestation.collateral import Collateral
from attestation.errors import EvidenceCode, EvidenceError
from attestation.roots import Roots
from attestation.verified import Verified

Outcome: TypeAlias = Verified | EvidenceError
"""What became of one piece: what `verify` returned, or the error that it raised, `verifier-defect` for one of ours."""

_AT_ONCE = 256
"""Most pieces that go to a process together; handing over a group costs as much as verifying a few."""
_GROUPS = 4
"""Groups for each process, at least: one that is held up leaves the rest to the others."""


class BatchVerifier:
    """A pool of processes that verify evidence of one platform family; to be closed, or used as a context manager."""

    def __init__(self, collateral: Collateral | None, roots: Roots, *, workers: int | None = None) -> None:
        """Start `workers` processes, by default one for each core that this process may use."""
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool = ProcessPoolExecutor(
            self._workers, multiprocessing.get_context("forkserver"), _begin, (collateral, roots)
        )

    def verify(self, batch: Sequence[bytes], now: int) -> list[Outcome]:
        """Return the outcome of each piece at `now` (Unix seconds), in order."""
        size = max(1, min(_AT_ONCE, -(-len(batch) // (self._workers * _GROUPS))))
        groups = [list(batch[start : start + size]) for start in range(0, len(batch), size)]
        found = self._pool.map(_verify, groups, [now] * len(groups))
        return [outcome for group in found for outcome in group]

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_shared: dict[str, Any] = {}
"""What a process of the pool works with: set once, when it begins."""


def _begin(collateral: Collateral | None, roots: Roots) -> None:
    try:
        prepared = evidence.authenticate(collateral, roots)
    except Exception:  # noqa: BLE001 - a process that cannot begin breaks the whole pool
        prepared = collateral  # says of each piece what is wrong with it
    _shared.update(collateral=prepared, roots=roots)


def _verify(group: list[bytes], now: int) -> list[Outcome]:
    return [_verify_one(data, now) for data in group]


def _verify_one(data: bytes, now: int) -> Outcome:
    try:
        return evidence.verify(evidence.parse(data), _shared["collateral"], _shared["roots"], now)
    except EvidenceError as error:
        return error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - a defect over one piece must not cost the others their outcomes
        return _defect(error)


def _defect(error: Exception) -> EvidenceError:
    """Name a defect of ours by its place and type alone: an exception's text may hold anything."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return EvidenceError(EvidenceCode.VERIFIER_DEFECT, f"the verifier has a defect: {place}")
