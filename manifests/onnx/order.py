"""The order of a graph's nodes: whether there is one, and which names come from outside.

ONNX asks for nodes in an order in which they can run; ONNX Runtime sorts them itself.  So any graph without a cycle
passes, and what follows here works in the order that this module finds.
"""

from __future__ import annotations

from collections import deque

from manifests.onnx.attributes import subgraphs
from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.messages import Graph, Node


def check_order(graph: Graph, taken: list[set[str]], names: set[str], place: str, findings: Findings) -> frozenset[str]:
    """Note a cycle, and put the graph's nodes into an order in which they can run.

    `taken` are the names that each node takes.  Returns those that are not among the graph's own `names`.
    """
    outside = frozenset(name for group in taken for name in group if name not in names)
    order = sort(graph.node, taken)
    if order is None:
        findings.add(OnnxCode.CYCLE, "nodes wait for each other in a circle", place)
    else:
        graph.node = [graph.node[at] for at in order]
    return outside


def sort(nodes: list[Node], taken: list[set[str]]) -> list[int] | None:
    """Return the positions of nodes in an order in which each comes after what it takes, or None for a cycle."""
    maker = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    if all(maker.get(name, -1) < at for at, group in enumerate(taken) for name in group):
        return list(range(len(nodes)))
    before = [{maker[name] for name in group if name in maker} for group in taken]
    after: list[list[int]] = [[] for _ in nodes]
    for at, group in enumerate(before):
        for earlier in group:
            after[earlier].append(at)
    return _kahn([len(group) for group in before], after)


def _kahn(waits: list[int], after: list[list[int]]) -> list[int] | None:
    ready, order = deque(at for at, count in enumerate(waits) if not count), []
    while ready:
        at = ready.popleft()
        order.append(at)
        for later in after[at]:
            waits[later] -= 1
            if not waits[later]:
                ready.append(later)
    return order if len(order) == len(waits) else None


def names_taken(node: Node) -> set[str]:
    """Return all names that a node takes from its graph or from outside, by way of its subgraphs too."""
    taken = {name for name in node.input if name}
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {item.values.name for item in graph.sparse_initializer}
        own |= {name for inner in graph.node for name in inner.output}
        inside = {name for inner in graph.node for name in names_taken(inner)}
        taken |= (inside | {value.name for value in graph.output}) - own
    return taken
