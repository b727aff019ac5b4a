"""What a receipt of a stateful model's answer commits to: its tensors, and where in the state's course it stands.

Neither `reset` nor `steps` travels as a tensor, both stand in headers, so both ends make tensors of what they saw.
They are the last of their direction; a manifest with [state] has no tensors of these names.  docs/receipts.md has the
same for whoever writes a verifier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attestation.wire.commitments import Tensor, sent
from manifests.state import RESET, STEPS


def asked(tensors: Sequence[Tensor], *, reset: bool) -> list[Tensor]:
    """Return what a request commits to: what was sent, and whether the state was to begin anew, false where unsaid."""
    return [*tensors, *sent({RESET: np.array([reset], np.bool_)})]


def answered(tensors: Sequence[Tensor], steps: int) -> list[Tensor]:
    """Return what an answer commits to: its tensors, and how many requests its state has taken in, this one too."""
    return [*tensors, *sent({STEPS: np.array([steps], np.int64)})]
