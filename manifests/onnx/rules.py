"""What an operator makes of what is known of its inputs: the form of a rule, and the table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manifests.onnx import dtypes
from manifests.onnx.messages import Attribute, Graph, Node
from manifests.onnx.operators import ONNX
from manifests.onnx.values import Value, unknown

TRANSCENDENTAL = 20
"""Operations that count for one exponential, logarithm, root or division of floats."""


@dataclass(frozen=True)
class Effect:
    """Outputs of a node; operations to compute them; bytes that it needs besides inputs and outputs."""

    outputs: list[Value]
    work: int = 0
    scratch: int = 0


@dataclass(frozen=True)
class Op:
    """One node with what is known of its inputs; an input that is left out is None."""

    node: Node
    inputs: Sequence[Value | None]
    version: int
    attributes: dict[str, Attribute] = field(default_factory=dict)

    def value(self, at: int) -> Value:
        """Return an input; of one that is left out nothing is known."""
        found = self.optional(at)
        return unknown(dtypes.FLOAT) if found is None else found

    def optional(self, at: int) -> Value | None:
        """Return an input, or None where it is left out."""
        return self.inputs[at] if at < len(self.inputs) else None

    def integer(self, name: str, default: int) -> int:
        """Return an attribute."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.i or 0

    def integers(self, name: str) -> list[int] | None:
        """Return an attribute, or None where it is absent."""
        attribute = self.attributes.get(name)
        return None if attribute is None else attribute.ints.tolist()

    def floats(self, name: str) -> list[float] | None:
        """Return an attribute, or None where it is absent."""
        attribute = self.attributes.get(name)
        return None if attribute is None else attribute.floats.tolist()

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute as text."""
        attribute = self.attributes.get(name)
        return default if attribute is None or attribute.s is None else str(attribute.s, "utf-8", "replace")

    def size(self, name: str) -> int:
        """Return how many values a list has."""
        attribute = self.attributes.get(name)
        if attribute is None:
            return 0
        return max(len(attribute.ints), len(attribute.floats), len(attribute.strings))

    def graph(self, name: str) -> Graph | None:
        """Return a subgraph."""
        attribute = self.attributes.get(name)
        return None if attribute is None else attribute.g

    def has_output(self, at: int) -> bool:
        """Tell whether an output is asked for."""
        return at < len(self.node.output) and bool(self.node.output[at])

    @property
    def most(self) -> int:
        """Most elements of any input."""
        return max((value.elements for value in self.inputs if value is not None), default=0)

    @property
    def total(self) -> int:
        """Elements of all inputs."""
        return sum(value.elements for value in self.inputs if value is not None)


Rule = Callable[[Op], Effect]
RULES: dict[tuple[str, str], Rule] = {}


def rule(*names: str, domain: str = ONNX) -> Callable[[Rule], Rule]:
    """Enter a rule for these operators."""

    def enter(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(((domain, name) for name in names), made))
        return made

    return enter


def axis_of(op: Op, rank: int, default: int, name: str = "axis") -> int | None:
    """Return an attribute that names an axis, counted from the front, or None where there is no such axis."""
    axis = op.integer(name, default)
    return axis % rank if rank and -rank <= axis < rank else None
