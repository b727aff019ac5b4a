"""Receipts: what the enclave signs of a request that it has answered.

The salts go to the client alone, inside the session; with them it can open the commitments later, to whom it wants.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from attestation.types.receipt import Receipt, Verdict
from attestation.wire.commitments import SALT_SIZE, Direction, Tensor, commit
from enclave.coarsening import Answered, Coarsening
from enclave.keys import EnclaveKeys
from manifests import canonical
from manifests.model import ModelManifest
from manifests.steps import LabelOnly, Round

CHECKS = ("lease", "schema", "values")
"""What every request has passed that is answered at all, in ascending order: docs/receipts.md says what each means."""
BUDGET = "budget"
"""A check beside those: a budget of the client's identity was charged."""
_FORMS = ("scores", "rounded", "label-only")
"""In which form outputs leave, from what tells most to what tells least."""
_COARSENED = {Coarsening.ROUNDED: "rounded", Coarsening.LABEL_ONLY: "label-only"}


class Receipts:
    """Issues the receipts of one boot, numbered from 1; thread-safe."""

    def __init__(self, keys: EnclaveKeys) -> None:
        """Sign with the receipt key."""
        self._keys = keys
        self._serial = 0
        self._lock = threading.Lock()

    def issue(
        self, facts: Mapping[str, Any], verdict: Verdict, request: list[Tensor], outputs: list[Tensor]
    ) -> dict[str, canonical.Value]:
        """Return a receipt and the salts that open it, as a response carries them.

        facts: the fields of `Receipt` that the session and the model know, by name.  request, outputs: the tensors that
        are committed to.
        """
        given, given_salt = _commit(Direction.INPUT, request)
        answered, answered_salt = _commit(Direction.OUTPUT, outputs)
        receipt = Receipt(
            **facts,
            boot_id=self._keys.boot_id,
            serial=self._next(),
            verdict=verdict,
            input=given,
            output=answered,
        )
        return {"signed": receipt.sign(self._keys.sign), "input": given_salt, "output": answered_salt}

    def _next(self) -> int:
        with self._lock:
            self._serial += 1
            return self._serial


def _commit(direction: Direction, tensors: list[Tensor]) -> tuple[bytes, bytes]:
    """Return (commitment, salt) under a fresh salt."""
    salt = os.urandom(SALT_SIZE)
    return commit(direction, salt, tensors), salt


def verdict_of(answered: Answered, *manifests: ModelManifest) -> Verdict:
    """Return the verdict on an answer: what its request passed, and what shaped it besides the models' manifests.

    Of several models the form is that of the answers that tell most, and the level the highest of any.
    """
    levels = (answered.coarsening, *answered.readers)
    forms = (_COARSENED.get(level, _form(manifest)) for level, manifest in zip(levels, manifests, strict=True))
    return Verdict(_checks(charged=answered.charged), min(forms, key=_FORMS.index), max(levels).value)


def verdict_of_text(*, charged: bool) -> Verdict:
    """Return the verdict on what a language model has generated; charged: whether a budget paid for any of it."""
    return Verdict(_checks(charged=charged), "text")


def _checks(*, charged: bool) -> tuple[str, ...]:
    return (BUDGET, *CHECKS) if charged else CHECKS


def _form(manifest: ModelManifest) -> str:
    form = _FORMS[0]
    for kind, name in ((Round, "rounded"), (LabelOnly, "label-only")):  # the bluntest last
        if any(isinstance(step, kind) for step in manifest.post):
            form = name
    return form
