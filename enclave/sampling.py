"""How one token is drawn from a model's scores; docs/generation.md states the algorithm for everybody.

Greedy takes the greatest score, the first of equals.  Otherwise, in float64 whatever the graph computes in: tokens are
ordered by descending score, equal ones by ascending number; `top_k` keeps so many of them; the scores, less the
greatest and divided by the temperature, go through exp; `top_p` keeps the shortest run whose weight reaches that share
of the sum; and the first token whose running weight exceeds u times the sum is drawn.

u of the n-th token is the first 53 bits of SHA-512(label || u64 seed || u64 n), as a fraction of 2^53: no state, the
same on every machine, and nothing that a library may change.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from enclave.errors import EnclaveCode, EnclaveError

MAX_SEED = (1 << 63) - 1
_LABEL = b"strongroom sample v1\0"


@dataclass(frozen=True)
class Sampler:
    """What a request asks for.  temperature None: greedy, and nothing else counts."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def told(self) -> dict[str, int]:
        """Return what the end of an answer says: the seed, where anything was drawn."""
        return {} if self.temperature is None else {"seed": self.seed}

    def pick(self, scores: npt.NDArray[Any], step: int) -> int:
        """Return the token for scores of shape [vocabulary]; raises EnclaveError `inference-failed` for NaN."""
        if np.isnan(scores).any() or not np.isfinite(scores.max()):
            raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model gave scores from which no token can be drawn")
        if self.temperature is None:
            return int(np.argmax(scores))
        order = np.argsort(-scores.astype(np.float64), kind="stable")[: self.top_k]
        with np.errstate(all="ignore"):  # a tiny temperature takes all but the greatest to zero, as it should
            sums = np.cumsum(np.exp((scores[order].astype(np.float64) - float(scores.max())) / self.temperature))
        if self.top_p is not None:
            sums = sums[: int(np.searchsorted(sums, self.top_p * sums[-1])) + 1]
        drawn = int(np.searchsorted(sums, fraction(self.seed, step) * sums[-1], side="right"))
        return int(order[min(drawn, len(sums) - 1)])


def fraction(seed: int, step: int) -> float:
    """Return u of the `step`-th token: at least 0 and below 1."""
    digest = hashlib.sha512(_LABEL + struct.pack(">QQ", seed, step)).digest()
    return float((int.from_bytes(digest[:8], "big") >> 11) / (1 << 53))
