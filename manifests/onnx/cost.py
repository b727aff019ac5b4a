"""What one request may cost at the manifest's limits: an upper bound of its memory and of its operations.

Shapes are followed from node to node with upper bounds, and the numbers of shapes with them; rules.py says what each
operator makes of them.  Nothing is run, and nothing is allocated.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace

from manifests.onnx import (
    control,
    dtypes,
    rules_elementwise,
    rules_index,
    rules_learning,
    rules_neural,
    rules_shape,
)
from manifests.onnx.budget import Budget
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.functions import Functions, key_of
from manifests.onnx.inputs import constant, row_of
from manifests.onnx.memory import Step, peak
from manifests.onnx.messages import Attribute, Function, Graph, Node, Tensor
from manifests.onnx.operators import ONNX, plain_domain, written
from manifests.onnx.order import names_taken
from manifests.onnx.permits import GraphPermits
from manifests.onnx.rules import RULES, Effect, Op
from manifests.onnx.values import MAX_CONTENT, UNBOUNDED, Value, fixed, made, range_of, unknown, with_content

__all__ = ["Cost", "Evaluator"]

_RULED = (rules_elementwise, rules_index, rules_learning, rules_neural, rules_shape)
"""Imported for their rules."""
_DRAWN = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"})  # fmt: skip  # noqa: E501
"""Operators whose output differs from request to request although their inputs do not."""
_LEAST = {dtypes.INT32: -(1 << 31), dtypes.INT64: -(1 << 63)}
"""The numbers that a processor cannot divide by -1.  ONNX Runtime 1.32 does it all the same, and the process ends."""

_READ_AT_ONCE = 256
"""Numbers of an attribute that are read in the time of one value."""

Values = MutableMapping[str, Value]


@dataclass(frozen=True)
class Cost:
    """Upper bounds: bytes of one request, operations of one request, bytes that the loaded model keeps."""

    memory: int
    work: int
    resident: int


@dataclass(frozen=True)
class Frame:
    """Where nodes stand: versions of operator sets, attributes of the function that is being expanded, a place."""

    opsets: Mapping[str, int]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    place: str = "graph"


class Evaluator:
    """Follows one model."""

    def __init__(
        self, functions: Functions, permits: GraphPermits, findings: Findings, budget: Budget | None = None
    ) -> None:
        """Follow a model that passed the structural checks, as far as a budget goes."""
        self._functions = functions
        self._permits = permits
        self._findings = findings
        self._budget = budget or Budget()
        self._constants: dict[int, Value] = {}
        self._constant_bytes = 0
        self._taken: dict[int, set[str]] = {}
        self.values: Values = {}
        """What is known of every value of the main graph, once it was followed."""

    def model(self, graph: Graph, inputs: Mapping[str, Value], opsets: Mapping[str, int]) -> Cost:
        """Return the bounds of a model; what has none is noted, and counts as nothing here.

        Raises OnnxError `onnx-expansion` and `onnx-followed` when the budget is used up.
        """
        values = self.values = {}
        for value in graph.input:
            if value.name in inputs:
                values[value.name] = inputs[value.name]
        weights = self._initializers(graph, values)
        ran = self._graph(graph, values, Frame(opsets), fold=True)
        held = sum(value.bytes for value in inputs.values())
        return Cost(ran.memory + held + self._constant_bytes, ran.work, weights + self._constant_bytes)

    def _initializers(self, graph: Graph, values: Values) -> int:
        """Take in a graph's constants; return their bytes.  ONNX Runtime makes sparse ones dense."""
        total = 0
        for tensor in graph.initializer:
            values[tensor.name] = self._known(tensor)
            total += values[tensor.name].bytes
        for sparse in graph.sparse_initializer:
            self._budget.take(1)
            dims = tuple((dim, dim) for dim in sparse.dims)
            values[sparse.values.name] = made(sparse.values.data_type, dims, constant=True)
            total += values[sparse.values.name].bytes
        return total

    def _known(self, tensor: Tensor) -> Value:
        """Return what is known of a constant; looked up once, since a loop's body is followed several times."""
        found = self._constants.get(id(tensor))
        if found is None:
            found = constant(tensor)
            found = replace(found, content=None) if self._budget.scarce else found
            self._constants[id(tensor)] = found
        self._budget.follow([found])
        return found

    # ------------------------------------------------------------------------------------- graphs

    def _graph(self, graph: Graph, values: Values, frame: Frame, *, fold: bool = False) -> control.Ran:
        """Follow the nodes of a graph whose inputs and initializers are among the values already."""
        steps: list[Step] = []
        maker: dict[str, int] = {}
        self._budget.take(len(graph.output))
        kept = {value.name for value in graph.output}
        work = 0
        for node in graph.node:
            effect, folded = self._node(node, values, frame), fold and self._is_constant(node, values)
            size = 0
            for name, value in zip(node.output, effect.outputs, strict=False):
                values[name] = value if value.constant == folded else replace(value, constant=folded)
                size += value.bytes
            self._constant_bytes += size if folded else 0
            takes = {maker[name] for name in self._names_taken(node) if name in maker}
            maker.update(dict.fromkeys(node.output, len(steps)))
            steps.append(Step(0 if folded else size, effect.scratch, takes, bool(kept & set(node.output))))
            work += effect.work
        outputs = [values.get(value.name, unknown(dtypes.FLOAT, 0)) for value in graph.output]
        self._budget.follow(outputs)
        return control.Ran(outputs, work, peak(steps))

    def _names_taken(self, node: Node) -> set[str]:
        """Return the names that a node takes; looked up once, since a loop's body is followed several times."""
        if id(node) not in self._taken:
            self._taken[id(node)] = names_taken(node)
        return self._taken[id(node)]

    def _is_constant(self, node: Node, values: Values) -> bool:
        if node.op_type in _DRAWN or any(attribute.g is not None for attribute in node.attribute):
            return False
        return all(values[name].constant for name in node.input if name in values)

    def _body(self, graph: Graph, inputs: list[Value], outer: Values, frame: Frame) -> control.Ran:
        """Follow a subgraph, which sees all values around it."""
        inner: Values = ChainMap({}, outer)
        self._budget.follow(inputs)
        for value, given in zip(graph.input, inputs, strict=False):
            inner[value.name] = given
        weights = self._initializers(graph, inner)
        ran = self._graph(graph, inner, frame)
        held = sum(value.bytes for value in inputs)
        return control.Ran(ran.outputs, ran.work, ran.memory + weights + held)

    # ------------------------------------------------------------------------------------- nodes

    def _node(self, node: Node, values: Values, frame: Frame) -> Effect:
        """Return what a node gives; a value without a bound is noted once, and then counts as empty."""
        self._budget.node()
        op = self._op(node, values, frame)
        place = f"{frame.place}, {written(node.domain, node.op_type)} {node.name[:80]!r}"
        self._check_division(op, place)
        effect = self._effect(op, values, frame, place)
        outputs = list(effect.outputs[: len(node.output)])
        outputs += [unknown(0) for _ in node.output[len(outputs) :]]
        self._budget.follow(outputs)
        settled = [self._settled(name, value, place) for name, value in zip(node.output, outputs, strict=True)]
        if effect.work >= UNBOUNDED or effect.scratch >= UNBOUNDED:
            return Effect(settled)  # what makes it so has been noted
        return Effect(settled, effect.work, effect.scratch)

    def _op(self, node: Node, values: Values, frame: Frame) -> Op:
        inputs = [values.get(name) if name else None for name in node.input]
        attributes = {}
        for attribute in node.attribute:
            meant = frame.attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
            if meant is not None:
                attributes[attribute.name] = meant
                self._budget.take(1 + (len(meant.ints) + len(meant.floats) + len(meant.strings)) // _READ_AT_ONCE)
        self._budget.join(inputs)
        return Op(node, inputs, frame.opsets.get(plain_domain(node.domain), 1), attributes)

    def _effect(self, op: Op, values: Values, frame: Frame, place: str) -> Effect:
        node = op.node
        function = self._functions.get(key_of(node))
        if function is not None:
            return self._call(op, function, place)
        domain = plain_domain(node.domain)
        if domain == ONNX and node.op_type in {"If", "Loop", "Scan"}:
            return self._control(op, values, frame, place)
        if domain == ONNX and node.op_type == "Constant":
            return Effect([self._constant(op)])
        found = RULES.get((domain, node.op_type))
        try:
            return Effect([unknown(0)] * len(node.output)) if found is None else found(op)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Inputs or attributes that no kernel takes: what has no answer has no bound, and is refused as that.
            return Effect([unknown(0)] * len(node.output))

    def _control(self, op: Op, values: Values, frame: Frame, place: str) -> Effect:
        inner = replace(frame, place=place)

        def run(graph: Graph, inputs: list[Value]) -> control.Ran:
            return self._body(graph, inputs, values, inner)

        def refuse(code: OnnxCode, message: str) -> None:
            self._note(code, message, place)

        if op.node.op_type == "If":
            return control.branch(op, run)
        if op.node.op_type == "Scan":
            return control.scan(op, run, refuse)
        return control.loop(op, run, refuse, self._permits.max_iterations)

    def _call(self, op: Op, function: Function, place: str) -> Effect:
        """Expand a call: the function's nodes see its inputs and attributes alone."""
        values: Values = {name: value for name, value in zip(function.input, op.inputs, strict=False) if value}
        self._budget.take(len(function.attribute_proto) + len(function.opset_import) + len(function.output))
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        opsets = {plain_domain(item.domain): item.version for item in function.opset_import}
        frame = Frame(opsets, {**defaults, **op.attributes}, place)
        ran = self._graph(Graph(node=function.node), values, frame)
        outputs = [values.get(name, unknown(dtypes.FLOAT, 0)) for name in function.output]
        return Effect(outputs, ran.work, ran.memory + sum(value.bytes for value in outputs))

    def _constant(self, op: Op) -> Value:
        tensor = next((attribute.t for attribute in op.attributes.values() if attribute.t is not None), None)
        return _constant(op) if tensor is None else self._known(tensor)

    # ------------------------------------------------------------------------------------- refusals

    def _settled(self, name: str, value: Value, place: str) -> Value:
        """Apply the owner's own bound of a value, and note one that has none."""
        most = self._permits.bounds.get(name)
        if most is not None and most < value.elements:
            dims = None if value.dims is None else tuple((min(low, most), min(high, most)) for low, high in value.dims)
            value = replace(value, elements=most, dims=dims, content=None)
        if not name or (value.bounded and value.text < UNBOUNDED):
            return value
        self._note(OnnxCode.UNBOUNDED, "the size of a value cannot be bounded", f"{place}, value {name!r}")
        return Value(value.dtype, value.dims, 0)

    def _check_division(self, op: Op, place: str) -> None:
        if op.node.op_type != "Div" or plain_domain(op.node.domain) != ONNX or len(op.inputs) < 2:
            return
        dividend, divisor = op.value(0), op.value(1)
        kinds = [dividend.dtype] if dividend.dtype in dtypes.NAMES else list(_LEAST)
        under, over = range_of(divisor), range_of(dividend)
        for kind in kinds:
            least = _LEAST.get(kind)
            may = under is None or under[0] <= -1 <= under[1]
            exact = divisor.exact()
            may = may and (exact is None or -1 in exact)
            if least is not None and may and (over is None or over[0] <= least):
                self._note(OnnxCode.DIVISION, "the divisor may be -1 while the dividend is the least integer", place)
                return

    def _note(self, code: OnnxCode, message: str, place: str) -> None:
        """Note a finding once: a loop's body is followed several times."""
        if not any(item.code is code and item.place == place[-200:] for item in self._findings.listed):
            self._findings.add(code, message, place)


def _constant(op: Op) -> Value:
    """Return the value of a Constant node, in any of its forms but a tensor."""
    for attribute in op.attributes.values():
        if attribute.sparse_tensor is not None:
            dims = tuple((dim, dim) for dim in attribute.sparse_tensor.dims)
            return made(attribute.sparse_tensor.values.data_type, dims)
        if attribute.name in {"value_int", "value_ints"}:
            return _numbers(op, attribute.name, dtypes.INT64)
        if attribute.name in {"value_float", "value_floats"}:
            return _numbers(op, attribute.name, dtypes.FLOAT)
        if attribute.name in {"value_string", "value_strings"}:
            texts = attribute.strings if attribute.name == "value_strings" else [attribute.s or memoryview(b"")]
            dims = () if attribute.name == "value_string" else ((len(texts), len(texts)),)
            return made(dtypes.STRING, dims, text=sum(map(len, texts)))
    return unknown(dtypes.FLOAT)


def _numbers(op: Op, name: str, dtype: int) -> Value:
    attribute = op.attributes[name]
    one = name in {"value_int", "value_float"}
    length = len(attribute.ints if dtype == dtypes.INT64 else attribute.floats)
    if not one and length > MAX_CONTENT:
        return made(dtype, fixed(length))
    row = attribute.ints.tolist() if dtype == dtypes.INT64 else attribute.floats.tolist()
    items = [(attribute.i or 0) if dtype == dtypes.INT64 else float(attribute.f or 0)] if one else row
    value = made(dtype, () if one else ((len(items), len(items)),))
    return row_of(items, value, () if one else (len(items),)) if items else with_content(value, None)
