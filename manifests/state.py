"""The table `[state]`: a recurrent model, whose state stays in the enclave between the requests of a session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from manifests import fields
from manifests.pairs import Pair, pairs_to_list, read_pairs, static_bytes, take, unfit
from manifests.tensors import MAX_TENSOR_NAME, Axis, TensorField

MAX_STATE = 64 << 20
"""Bytes of one session's state: a recurrent layer has thousands of numbers, not millions."""
MAX_SESSIONS = 4096
DEFAULT_SESSIONS = 64
_EACH = "sessions_per_client"
RESET, STEPS = "reset", "steps"
"""What a receipt calls what it says beside the tensors of a request and of an answer (docs/receipts.md)."""


@dataclass(frozen=True)
class State:
    """Pairs that start from zeros.  shown: outputs among them that answers hold, too; the others stay inside."""

    pairs: tuple[Pair, ...]
    shown: frozenset[str] = frozenset()
    sessions: int = DEFAULT_SESSIONS
    """Sessions that may hold a state at once."""
    sessions_per_client: int = 0
    """Those of one client among them, all anonymous ones being one; 0 for any number."""

    @classmethod
    def from_map(cls, value: object) -> State:
        """Read the table; raises ManifestError `field-invalid` or `manifest-invalid`."""
        table = fields.closed_map(value, "state", ("pairs",), ("shown", "sessions", _EACH))
        pairs = read_pairs(table["pairs"], "pairs")
        names = fields.list_of(table.get("shown", []), "shown", len(pairs))
        shown = [fields.text(name, "shown", MAX_TENSOR_NAME) for name in names]
        fields.ascending(shown, "shown")
        if not set(shown) <= {pair.output for pair in pairs}:
            raise unfit("`shown` names an output that is no part of the state")
        sessions = fields.number(table.get("sessions", DEFAULT_SESSIONS), "sessions", 1, MAX_SESSIONS)
        each = fields.number(table[_EACH], _EACH, 1, sessions) if _EACH in table else 0
        return cls(pairs, frozenset(shown), sessions, each)

    def to_map(self) -> dict[str, Any]:
        """Return the pairs, and the fields that differ from their defaults."""
        table: dict[str, Any] = {"pairs": pairs_to_list(self.pairs)}
        if self.shown:
            table["shown"] = sorted(self.shown)
        if self.sessions != DEFAULT_SESSIONS:
            table["sessions"] = self.sessions
        return table | ({_EACH: self.sessions_per_client} if self.sessions_per_client else {})

    @property
    def inputs(self) -> frozenset[str]:
        """The graph's inputs that no client sends."""
        return frozenset(pair.input for pair in self.pairs)

    @property
    def hidden(self) -> frozenset[str]:
        """The graph's outputs that no answer holds."""
        return frozenset(pair.output for pair in self.pairs) - self.shown

    def check(self, inputs: Mapping[str, TensorField], outputs: Mapping[str, TensorField]) -> None:
        """Hold the table against its manifest's tensors; raises ManifestError `manifest-invalid`."""
        for pair in self.pairs:
            before, after = take(inputs, pair.input, "a state input"), take(outputs, pair.output, "a state output")
            if any(isinstance(axis, Axis) for axis in before.shape):
                raise unfit(f"the state {pair.input!r} has a dynamic axis: what is kept needs one size")
            if (before.dtype, before.shape) != (after.dtype, after.shape):
                raise unfit(f"{pair.input!r} and {pair.output!r} differ in dtype or shape")
        if not inputs.keys() - self.inputs or not outputs.keys() - self.hidden:
            raise unfit("besides its state a model needs an input that clients send, and an output that they get")
        if self.state_bytes(inputs) > MAX_STATE:
            raise unfit("a session's state would be too large", f"at most {MAX_STATE} bytes")

    def state_bytes(self, inputs: Mapping[str, TensorField]) -> int:
        """Return the bytes of one session's state."""
        return sum(static_bytes(inputs[pair.input]) for pair in self.pairs)

    def reserved(self, inputs: Mapping[str, TensorField]) -> int:
        """Return the bytes that all sessions together may hold."""
        return self.sessions * self.state_bytes(inputs)


def check_names(inputs: Iterable[TensorField], outputs: Iterable[TensorField]) -> None:
    """Refuse a stateful model whose clients send `reset` or get `steps` as tensors; raises `manifest-invalid`."""
    if any(tensor.name == RESET for tensor in inputs) or any(tensor.name == STEPS for tensor in outputs):
        raise unfit(
            f"receipts of a stateful model say {RESET!r} and {STEPS!r} beside its tensors: name those otherwise"
        )
