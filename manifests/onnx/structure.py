"""The form of a model: versions, operators, names and their scopes, order, types, tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from manifests.onnx import attributes, bounds, dtypes, functions, operators
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.locales import check_locale
from manifests.onnx.messages import Function, Graph, Model, Node, OperatorSet, Type, ValueInfo
from manifests.onnx.order import check_order
from manifests.onnx.tensors import Places, check_sparse, check_tensor

_WITH_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


@dataclass
class Scope:
    """What surrounds a graph: names that it may use, imported operator sets, how deep it lies."""

    opsets: Mapping[str, int]
    outer: frozenset[str] = frozenset()
    depth: int = 0
    function: bool = False
    place: str = ""

    def inner(self, names: set[str], place: str) -> Scope:
        """Return the scope of a subgraph."""
        return Scope(self.opsets, self.outer | names, self.depth + 1, self.function, place)


@dataclass
class Structure:
    """Checks one model; findings are collected, and `used` counts operators by name."""

    model: Model
    permitted: frozenset[str]
    findings: Findings
    places: Places
    used: dict[str, int] = field(default_factory=dict)
    functions: dict[functions.Key, Function] = field(default_factory=dict)

    def check(self) -> None:
        """Run every check of the form."""
        self._check_head()
        self.functions = functions.collect(self.model.functions, self.findings)
        assert self.model.graph is not None  # noqa: S101 - the reader refuses a model without a graph
        opsets = self._opsets(self.model.opset_import, "the model")
        self._check_interface(self.model.graph)
        self._graph(self.model.graph, Scope(opsets, place="graph"))
        for function in self.model.functions:
            place = f"function {operators.written(function.domain, function.name)}"
            scope = Scope(self._opsets(function.opset_import, place), function=True, place=place)
            outputs = [ValueInfo(name) for name in function.output]
            inputs = [ValueInfo(name) for name in function.input]
            body = Graph(node=function.node, input=inputs, output=outputs)
            self._graph(body, scope)
            function.node = body.node
        functions.check_calls(self.model.graph.node, self.functions, self.findings)
        self.places.check_overlaps(self.findings)

    def _check_head(self) -> None:
        model = self.model
        if not operators.MIN_IR <= model.ir_version <= operators.MAX_IR:
            self.findings.add(
                OnnxCode.IR_VERSION, "the IR version is not one that the runtime reads", "",
                f"{operators.MIN_IR} to {operators.MAX_IR}", model.ir_version,
            )  # fmt: skip
        if model.training_info or model.configuration:
            self.findings.add(OnnxCode.TRAINING, "the model carries training information or a distribution on devices")

    def _opsets(self, imports: Iterable[OperatorSet], place: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for item in imports:
            domain = operators.plain_domain(item.domain)
            if found.setdefault(domain, item.version) != item.version:  # skl2onnx repeats equal ones
                self.findings.add(OnnxCode.OPSET, f"{domain or 'ai.onnx'} is imported in two versions", place)
            low, high = operators.OPSETS.get(domain, (1, 1 << 31))
            if not low <= item.version <= high:
                self.findings.add(OnnxCode.OPSET, f"the version of {domain or 'ai.onnx'} is not supported", place,
                                  f"{low} to {high}", item.version)  # fmt: skip
        return found

    def _check_interface(self, graph: Graph) -> None:
        """Ask for types of the whole model's inputs and outputs; those of subgraphs get theirs from outside."""
        for what, values in (("input", graph.input), ("output", graph.output)):
            for value in values:
                if value.type is None or not _is_type(value.type):
                    self.findings.add(OnnxCode.TYPE, f"the {what} has no type that ONNX has", f"{what} {value.name!r}")

    # ------------------------------------------------------------------------------------- one graph

    def _graph(self, graph: Graph, scope: Scope) -> frozenset[str]:
        """Check a graph and what lies in it; return the names that it takes from outside."""
        names = self._own_names(graph, scope)
        self._tensors(graph, scope)
        taken = [self._node(node, names, scope) for node in graph.node]
        outside = check_order(graph, taken, names, scope.place, self.findings)
        for output in graph.output:
            if output.name not in names and not (scope.depth and output.name in scope.outer):
                self.findings.add(OnnxCode.OUTPUT, "nothing gives an output of the graph", f"{scope.place}, output {output.name!r}")  # fmt: skip  # noqa: E501
        for name in sorted(outside - scope.outer)[: bounds.MAX_FINDINGS]:
            self.findings.add(OnnxCode.UNDEFINED, "a node takes a value that nothing gives", f"{scope.place}, value {name!r}")  # fmt: skip  # noqa: E501
        captured = {output.name for output in graph.output} - names
        return outside | captured

    def _own_names(self, graph: Graph, scope: Scope) -> set[str]:
        """Return the names that a graph defines, after noting those that are there twice or stand outside already."""
        given = [tensor.name for tensor in graph.initializer] + [item.values.name for item in graph.sparse_initializer]
        inputs = [value.name for value in graph.input]
        made = [name for node in graph.node for name in node.output if name]
        if any(not name for name in [*given, *inputs, *(value.name for value in graph.output)]):
            self.findings.add(OnnxCode.NAME, "an input, output or initializer has no name", scope.place)
        names: set[str] = set()
        for group in (given, inputs, made):
            defaults = set(given) if group is inputs and scope.depth == 0 else set()
            for name in group:
                if (name in names and name not in defaults) or name in scope.outer:
                    self.findings.add(OnnxCode.DUPLICATE_NAME, "two values have one name", f"{scope.place}, value {name!r}")  # fmt: skip  # noqa: E501
                defaults.discard(name)
                names.add(name)
        return names

    def _tensors(self, graph: Graph, scope: Scope) -> None:
        for tensor in graph.initializer:
            check_tensor(tensor, f"{scope.place}, initializer {tensor.name!r}", self.findings, self.places)
        for sparse in graph.sparse_initializer:
            check_sparse(sparse, f"{scope.place}, initializer {sparse.values.name!r}", self.findings)

    def _node(self, node: Node, names: set[str], scope: Scope) -> set[str]:
        """Check a node; return all names that it takes, those of its subgraphs too."""
        place = f"{scope.place}, {operators.written(node.domain, node.op_type)[:80]} {node.name[:80]!r}"
        self._operator(node, place, scope)
        attributes.check_attributes(node, place, self.findings, in_function=scope.function)
        check_locale(node, place, self.findings)
        for tensor in attributes.tensors(node):
            check_tensor(tensor, place, self.findings, None)
        for sparse in attributes.sparse_tensors(node):
            check_sparse(sparse, place, self.findings)
        taken = {name for name in node.input if name}
        for graph in attributes.subgraphs(node):
            if scope.depth >= bounds.MAX_SUBGRAPHS:
                self.findings.add(OnnxCode.NESTING, "subgraphs are nested too deep", place, bounds.MAX_SUBGRAPHS)
                break
            taken |= self._graph(graph, scope.inner(names, place))
        return taken

    def _operator(self, node: Node, place: str, scope: Scope) -> None:
        domain, name = operators.plain_domain(node.domain), operators.written(node.domain, node.op_type)
        self.used[name] = self.used.get(name, 0) + 1
        if node.device_configurations:
            self.findings.add(OnnxCode.TRAINING, "a node is placed on a device", place)
        if node.op_type in operators.NEVER:
            self.findings.add(OnnxCode.OPERATOR_NEVER, "the operator loads code or files", place)
        elif functions.key_of(node) in self.functions:
            pass
        elif node.op_type not in operators.ALLOWED.get(domain, ()) and name not in self.permitted:
            self.findings.add(OnnxCode.OPERATOR, "the operator is not one that every model may use", place,
                              "a standard operator, or one that the manifest names", name)  # fmt: skip
        elif domain not in scope.opsets:
            self.findings.add(OnnxCode.DOMAIN, "the node's operator set is not imported", place, found=domain or "ai.onnx")  # fmt: skip  # noqa: E501
        if domain in operators.ALLOWED and node.op_type not in _WITH_GRAPHS and any(attributes.subgraphs(node)):
            self.findings.add(OnnxCode.ATTRIBUTE, "the operator has a subgraph, and takes none", place)


def _is_type(kind: Type, depth: int = 0) -> bool:
    """Tell whether a type is one of ONNX's, with element types that are known, and not absurdly nested."""
    kinds = (kind.tensor_type, kind.sequence_type, kind.map_type, kind.optional_type, kind.sparse_tensor_type)
    if sum(item is not None for item in kinds) != 1 or kind.opaque_type or depth > 8:
        return False
    if kind.map_type is not None:
        inner = kind.map_type.value_type
        return kind.map_type.key_type in dtypes.NAMES and inner is not None and _is_type(inner, depth + 1)
    for tensor in (kind.tensor_type, kind.sparse_tensor_type):
        if tensor is not None:
            return tensor.elem_type in dtypes.NAMES
    element = kind.sequence_type or kind.optional_type
    return element is not None and element.elem_type is not None and _is_type(element.elem_type, depth + 1)
