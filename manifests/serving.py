"""How a model is served beyond one answer to one request: tables that most manifests lack, and how they go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.batching import Batching
from manifests.generation import Generation
from manifests.pairs import unfit
from manifests.state import State
from manifests.tensors import TensorField
from manifests.watch import PromptWatch

TABLES = ("state", "generation", "batching", "watch")


@dataclass(frozen=True)
class Serving:
    """The tables that are there: at most one of the first three, and [watch] beside [generation]."""

    state: State | None = None
    generation: Generation | None = None
    batching: Batching | None = None
    watch: PromptWatch | None = None

    @classmethod
    def from_map(cls, table: Mapping[str, Any]) -> Serving:
        """Read the tables out of a manifest; raises ManifestError `field-invalid` or `manifest-invalid`."""
        return cls(
            state=State.from_map(table["state"]) if "state" in table else None,
            generation=Generation.from_map(table["generation"]) if "generation" in table else None,
            batching=Batching.from_map(table["batching"]) if "batching" in table else None,
            watch=PromptWatch.from_map(table["watch"]) if "watch" in table else None,
        )

    def to_map(self) -> dict[str, Any]:
        """Return the tables that are there."""
        tables = {name: getattr(self, name) for name in TABLES}
        return {name: table.to_map() for name, table in tables.items() if table is not None}

    def check(
        self, inputs: tuple[TensorField, ...], outputs: tuple[TensorField, ...], labels: int, *, has_steps: bool
    ) -> None:
        """Hold the tables against their manifest; raises ManifestError `manifest-invalid`."""
        if [self.state, self.generation, self.batching].count(None) < 2:
            raise unfit("a model has one of [state], [generation] and [batching]")
        if self.watch is not None and self.generation is None:
            raise unfit("[watch] counts the tokens of a model that generates; [abuse] watches the others")
        taken, given = {tensor.name: tensor for tensor in inputs}, {tensor.name: tensor for tensor in outputs}
        if self.state is not None:
            self.state.check(taken, given)
        if self.generation is not None:
            self.generation.check(taken, given, labels)
            if has_steps:
                raise unfit("a model that generates has no steps before or after its graph")
        if self.batching is not None:
            self.batching.check(taken, given)

    def client_inputs(self, inputs: tuple[TensorField, ...]) -> tuple[TensorField, ...]:
        """Return those that clients send."""
        if self.generation is not None:
            return ()
        return inputs if self.state is None else tuple(t for t in inputs if t.name not in self.state.inputs)

    def answered(self, outputs: tuple[TensorField, ...]) -> tuple[TensorField, ...]:
        """Return those that answers are made of."""
        if self.generation is not None:
            return ()
        return outputs if self.state is None else tuple(t for t in outputs if t.name not in self.state.hidden)

    @property
    def own_parts(self) -> frozenset[str]:
        """Names of the sealed parts that the tables read."""
        return frozenset() if self.generation is None else self.generation.own_parts

    def reserved(self, inputs: tuple[TensorField, ...]) -> int:
        """Return the bytes that requests and sessions of the model may hold together, besides its own."""
        taken = {tensor.name: tensor for tensor in inputs}
        return sum(table.reserved(taken) for table in (self.state, self.generation, self.watch) if table is not None)
