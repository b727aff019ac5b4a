"""A model's own functions: each defined once, hiding no operator, never calling itself, and counted as if expanded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from manifests.onnx import bounds
from manifests.onnx.attributes import subgraphs
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.messages import Function, Node
from manifests.onnx.operators import ALLOWED, plain_domain, written

Key = tuple[str, str, str]
"""Domain, name and overload."""
Functions = Mapping[Key, Function]


def key_of(node: Node) -> Key:
    """Return the key of the function that a node would call."""
    return plain_domain(node.domain), node.op_type, node.overload


def collect(functions: Iterable[Function], findings: Findings) -> dict[Key, Function]:
    """Return functions by key, after noting those that are defined twice or hide an operator."""
    found: dict[Key, Function] = {}
    for function in functions:
        key = plain_domain(function.domain), function.name, function.overload
        place = f"function {written(function.domain, function.name)}"
        if not function.name or key in found:
            findings.add(OnnxCode.FUNCTION, "a function has no name, or is defined twice", place)
        if function.name in ALLOWED.get(key[0], ()):
            findings.add(OnnxCode.FUNCTION, "a function hides an operator of ONNX", place)
        found[key] = function
    return found


def check_calls(nodes: list[Node], functions: Functions, findings: Findings) -> int:
    """Note recursion, and return how many nodes the graph has once every function is expanded."""
    if not functions:
        return 0
    sizes = _sizes(functions, findings)
    if sizes is None:
        return 0
    total = _expanded(nodes, sizes)
    if total > bounds.MAX_EXPANDED:
        findings.add(
            OnnxCode.EXPANSION, "expanded functions have more nodes than are looked at", "",
            f"at most {bounds.MAX_EXPANDED}", total if total < 1 << 63 else "more than 2^63",
        )  # fmt: skip
    return total


def _sizes(functions: Functions, findings: Findings) -> dict[Key, int] | None:
    """Return the nodes of each function with all that it calls, or None after noting one that calls itself."""
    calls = {key: {key_of(node) for node in every(body.node)} & functions.keys() for key, body in functions.items()}
    sizes: dict[Key, int] = {}
    while len(sizes) < len(functions):
        ready = [key for key in functions if key not in sizes and calls[key] <= sizes.keys()]
        if not ready:
            left = next(key for key in functions if key not in sizes)
            findings.add(OnnxCode.FUNCTION_RECURSION, "a function calls itself, if only by way of others",
                         f"function {written(left[0], left[1])}")  # fmt: skip
            return None
        for key in ready:
            sizes[key] = _expanded(functions[key].node, sizes)
    return sizes


def _expanded(nodes: list[Node], sizes: Mapping[Key, int]) -> int:
    return sum(1 + sizes.get(key_of(node), 0) for node in every(nodes))


def every(nodes: list[Node]) -> Iterator[Node]:
    """Return all nodes, those of subgraphs too."""
    pending = [iter(nodes)]
    while pending:
        node = next(pending[-1], None)
        if node is None:
            pending.pop()
            continue
        yield node
        pending.extend(iter(graph.node) for graph in subgraphs(node))
