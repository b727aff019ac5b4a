"""The guard of a language model: what each identity was told, in tokens, and what follows beyond its bounds.

`admit` comes before a request takes a cache or anything of the lease, and refuses; `see` counts each step of an answer.
What has begun is finished, whatever its identity's rung.  Rungs are climbed on a schedule of 32 steps.  No token and no
text is kept: a context is a keyed hash, and of that one bit.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave.identities import Identities
from manifests.model import ModelManifest
from manifests.watch import CELLS, CONTEXT, PromptWatch

TOKENS, RATE, COVERAGE = 1, 2, 4
"""Bounds that were passed, as bits."""


@dataclass(frozen=True)
class Told:
    """One step: how many tokens it took in, and the cell of the context for which it told the next one."""

    tokens: int
    cell: int = field(repr=False)


class TokenWatch:
    """One identity's state; work and memory are constant."""

    def __init__(self, table: PromptWatch, clock: Callable[[], float]) -> None:
        """Start without a memory; `clock` gives seconds, which are the host's."""
        self._table = table
        self._clock = clock
        self._cells = np.zeros(CELLS // 8, np.uint8)
        self._taken = 0
        self._tokens = 0
        self._level = 0.0
        self._filled = clock()
        self.unique = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the table, which never grows."""
        return self._cells.nbytes

    @property
    def coverage(self) -> float:
        """Unused here: the bound on contexts is one of `alarms`."""
        return 0.0

    @property
    def contexts(self) -> float:
        """How many different contexts there were, by linear counting (Whang et al., 1990)."""
        return math.inf if self._taken == CELLS else -CELLS * math.log1p(-self._taken / CELLS)

    def see(self, told: Told, row: int) -> None:  # noqa: ARG002 - one signature for all kinds of state
        """Take one step of an answer."""
        self._tokens += told.tokens
        now = self._clock()
        self._level = max(0.0, self._level - (now - self._filled) * self._table.rate / 60) + told.tokens
        self._filled = now
        place, bit = told.cell >> 3, 1 << (told.cell & 7)
        self._taken += not self._cells[place] & bit
        self._cells[place] |= bit

    def share(self) -> float:
        """Return the greatest share of a bound that was reached."""
        table = self._table
        bounds = ((table.tokens, self._tokens), (table.rate, self._level), (table.coverage, self.contexts))
        return max(found / most for most, found in bounds if most)

    def alarms(self, factor: float = 1.0) -> int:
        """Return which bounds were passed by `factor`, as bits."""
        table = self._table
        passed = TOKENS if 0 < table.tokens * factor < self._tokens else 0
        passed |= RATE if 0 < table.rate * factor < self._level else 0
        return passed | (COVERAGE if 0 < table.coverage * factor < self.contexts else 0)

    def absorb(self, other: TokenWatch) -> None:
        """Take over what another identity was told."""
        self._cells |= other._cells
        self._taken = int(np.bitwise_count(self._cells).sum())
        self._tokens += other._tokens
        self._level += other._level

    def calm(self) -> None:
        """Forget the haste; what was told stays told."""
        self._level = 0.0


class PromptGuard(Identities):
    """Watches one language model; thread-safe."""

    def __init__(self, table: PromptWatch, key: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nobody known.  key: secret, 32 bytes.  clock: gives seconds, which are the host's."""
        super().__init__(table.policy, lambda: TokenWatch(table, clock), clock)
        self._key = key

    @classmethod
    def load(cls, manifest: ModelManifest, secret: memoryview, digest: bytes) -> PromptGuard | None:
        """Make the guard that a manifest asks for, or None; its key follows from the boot's secret and the model."""
        table = manifest.serving.watch
        if table is None:
            return None
        return cls(table, HKDF(SHA512(), 32, salt=digest, info=b"strongroom prompts v1").derive(bytes(secret)))

    def admit(self, principal: bytes) -> None:
        """Let a request through or refuse it; raises EnclaveError `abuse-slowed`, `-refused` or `-revoked`."""
        with self._lock:
            self._gate(self._identity(principal), 1)

    def see(self, principal: bytes, tokens: int, context: Sequence[int]) -> None:
        """Count a step that took in so many tokens, behind which `context` is what came before the next one."""
        told = Told(tokens, self._cell(context[-CONTEXT:]))
        with self._lock:
            self._see(self._identity(principal), told, 0)

    def _cell(self, context: Sequence[int]) -> int:
        data = b"".join(token.to_bytes(8, "big") for token in context)
        return int.from_bytes(hashlib.blake2b(data, key=self._key, digest_size=8).digest(), "big") % CELLS
