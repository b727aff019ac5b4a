"""What a receipt of a generated answer commits to: the request and the whole answer as tensors, in one form.

Neither travels as tensors alone, a prompt and an answer's parts stand in headers, so both ends make them of what they
saw.  docs/receipts.md has the same for whoever writes a verifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attestation.wire.commitments import Tensor, sent
from manifests import canonical

SETTINGS = ("max_new_tokens", "seed", "stop", "temperature", "top_k", "top_p")
"""Fields of a request to generate that say how its answer is made; those that were sent are committed to."""


def asked(header: Mapping[str, Any], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what a request commits to: its prompt, as text or as the tensor that was sent, and its settings.

    header: of the request as it was sent; its field `prompt` stands where there are no tensors.
    """
    prompt = list(tensors) if tensors else sent({"prompt": np.array([header["prompt"]], object)})
    settings = canonical.encode({name: header[name] for name in SETTINGS if name in header})
    return [*prompt, *sent({"settings": np.frombuffer(settings, np.uint8)})]


def answered(tokens: Sequence[int], text: bytes, reason: str, seed: int | None) -> list[Tensor]:
    """Return what a whole answer commits to: all its parts in order, why it ended, and the seed if there is one."""
    whole: dict[str, npt.NDArray[Any]] = {
        "tokens": np.array(tokens, np.int64),
        "text": np.frombuffer(text, np.uint8),
        "reason": np.array([reason], object),
    }
    return sent(whole if seed is None else {**whole, "seed": np.array([seed], np.int64)})
