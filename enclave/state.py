"""Recurrent models: what a session's requests leave behind stays in the enclave, for the next one of the same session.

A state starts from zeros, lives in one session's own object, and goes with it.  A request moves it on when its answer
is whole and ready to leave; one that fails before, wherever, leaves it as it was, and a session that has none keeps no
place for one.  No ticket carries it: a session that is resumed starts anew, and the count of steps in every answer
shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from enclave.errors import EnclaveCode, EnclaveError
from enclave.slots import Slots
from enclave.validate import Tensors
from manifests.model import ModelManifest
from manifests.state import State
from manifests.tensors import TensorField

RunAll: TypeAlias = Callable[[Sequence[str], Tensors], Tensors]
"""Runs the graph: names of outputs, inputs."""


@dataclass
class Held:
    """One session's state of one model.  steps: requests that it has taken in since it was zero.

    fresh: the request at hand starts from zeros.  tensors: None before the first request.  ahead: what the request at
    hand would leave, with its steps.  place: the client that a place is held for, None without one.
    """

    slots: Slots = field(repr=False)
    fresh: bool = False
    tensors: Tensors | None = field(default=None, repr=False)
    steps: int = 0
    ahead: tuple[Tensors, int] | None = field(default=None, repr=False)
    place: bytes | None = None

    def take_place(self, principal: bytes) -> None:
        """Count as a session of a client's that holds a state; raises EnclaveError `model-full`."""
        if self.place is None:
            self.slots.take(principal)
            self.place = principal

    @property
    def told(self) -> int:
        """Steps that the answer at hand tells."""
        return self.steps if self.ahead is None else self.ahead[1]

    def keep(self) -> None:
        """Move on: the answer leaves."""
        if self.ahead is not None:
            self.tensors, self.steps = self.ahead
            self.ahead = None

    def undo(self) -> None:
        """Stay as before the request at hand: nothing is answered."""
        self.ahead = None
        if self.tensors is None:
            self.free()

    def free(self) -> None:
        """Drop the state."""
        self.tensors = self.ahead = None
        if self.place is not None:
            self.slots.give(self.place)
            self.place = None


class Memory:
    """What one session holds of stateful models, by the model's digest."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._held: dict[bytes, Held] = {}

    def of(self, digest: bytes, plan: StatePlan, *, reset: bool) -> Held:
        """Return the session's state of a model, for a request that starts from zeros or goes on."""
        held = self._held.setdefault(digest, Held(plan.slots))
        held.fresh = reset
        return held

    def free(self) -> None:
        """Drop everything."""
        for held in self._held.values():
            held.free()
        self._held.clear()


@dataclass(frozen=True)
class StatePlan:
    """A manifest's `[state]`, compiled; one for each loaded model."""

    table: State
    inputs: dict[str, TensorField]
    slots: Slots = field(repr=False)

    @classmethod
    def compile(cls, manifest: ModelManifest) -> StatePlan | None:
        """Compile the table, or return None where there is none."""
        table = manifest.serving.state
        if table is None:
            return None
        inputs = {tensor.name: tensor for tensor in manifest.inputs}
        return cls(table, inputs, Slots(table.sessions, "states", table.sessions_per_client))

    def zeros(self) -> Tensors:
        """Return a fresh state, by the names of the graph's inputs."""
        return {
            pair.input: np.zeros(self._shape(pair.input), self.inputs[pair.input].dtype) for pair in self.table.pairs
        }

    def run(self, run: RunAll, outputs: Sequence[str], inputs: Tensors, held: Held) -> Tensors:
        """Run the graph behind a state, and note what it leaves; return the outputs that answers are made of."""
        before = None if held.fresh else held.tensors
        own = [pair.output for pair in self.table.pairs]
        given = run([*outputs, *(name for name in own if name not in outputs)], {**inputs, **(before or self.zeros())})
        after = {pair.input: given[pair.output] for pair in self.table.pairs}
        if any(array.shape != self._shape(name) for name, array in after.items()):
            raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model's state has another shape than announced")
        held.ahead = after, 1 if before is None else held.steps + 1
        return {name: given[name] for name in outputs}

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis for axis in self.inputs[name].shape if isinstance(axis, int))
