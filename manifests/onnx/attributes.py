"""Attributes of nodes: one value each, of the type that they name, and nothing that divides by zero in a kernel."""

from __future__ import annotations

from collections.abc import Iterator

from manifests.onnx.errors import OnnxCode
from manifests.onnx.findings import Findings
from manifests.onnx.messages import Attribute, Graph, Node, SparseTensor, Tensor

FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS, TENSORS, GRAPHS = range(1, 11)
SPARSE_TENSOR, SPARSE_TENSORS, TYPE_PROTO, TYPE_PROTOS = range(11, 15)

_FIELD = {
    FLOAT: "f", INT: "i", STRING: "s", TENSOR: "t", GRAPH: "g", FLOATS: "floats", INTS: "ints", STRINGS: "strings",
    TENSORS: "tensors", GRAPHS: "graphs", SPARSE_TENSOR: "sparse_tensor", SPARSE_TENSORS: "sparse_tensors",
    TYPE_PROTO: "tp", TYPE_PROTOS: "type_protos",
}  # fmt: skip
_NEEDED = frozenset({TENSOR, GRAPH, SPARSE_TENSOR, TYPE_PROTO})
"""Types whose value has no default: it must be there."""
_POSITIVE = frozenset(
    {"strides", "dilations", "kernel_shape", "group", "blocksize", "num_groups", "num_heads", "q_num_heads",
     "kv_num_heads", "hidden_size", "num_outputs", "num_scan_inputs", "output_height", "output_width", "p", "targets",
     "n_targets", "size"}
)  # fmt: skip
"""Numbers that kernels divide by or allocate by: none may be below 1.  ONNX Runtime 1.32 refuses most of them."""
_FROM_ZERO = frozenset({"output_height", "output_width", "num_heads"})
"""Where 0 stands for a default."""


def check_attributes(node: Node, place: str, findings: Findings, *, in_function: bool) -> None:
    """Note what is wrong with a node's attributes."""
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names):
        findings.add(OnnxCode.DUPLICATE_NAME, "a node has two attributes of one name", place)
    for attribute in node.attribute:
        _check(attribute, f"{place}, attribute {attribute.name!r}", findings, in_function=in_function)


def _check(attribute: Attribute, place: str, findings: Findings, *, in_function: bool) -> None:
    used = [name for name in _FIELD.values() if _is_set(getattr(attribute, name))]
    home = _FIELD.get(attribute.type)
    if not attribute.name:
        findings.add(OnnxCode.NAME, "an attribute has no name", place)
    elif attribute.ref_attr_name:
        if used or not in_function or home is None:
            findings.add(OnnxCode.ATTRIBUTE, "an attribute refers to another outside of a function", place)
    elif home is None or used not in ([], [home]) or (not used and attribute.type in _NEEDED):
        findings.add(OnnxCode.ATTRIBUTE, "an attribute's value is not of the type that it names", place, home, used)
    elif attribute.name in _POSITIVE:
        _check_positive(attribute, place, findings)


def _check_positive(attribute: Attribute, place: str, findings: Findings) -> None:
    least = 0 if attribute.name in _FROM_ZERO else 1
    numbers = [attribute.i or 0] if attribute.type == INT else attribute.ints.tolist()[:64]
    if attribute.type in {INT, INTS} and any(number < least for number in numbers):
        findings.add(
            OnnxCode.ATTRIBUTE, "an attribute has a value that no kernel can work with", place,
            f"at least {least}", min(numbers),
        )  # fmt: skip


def _is_set(value: object) -> bool:
    return value is not None and (not hasattr(value, "__len__") or isinstance(value, memoryview) or len(value) > 0)


def subgraphs(node: Node) -> Iterator[Graph]:
    """Return the graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.g is not None:
            yield attribute.g
        yield from attribute.graphs


def tensors(node: Node) -> Iterator[Tensor]:
    """Return the tensors among a node's attributes."""
    for attribute in node.attribute:
        if attribute.t is not None:
            yield attribute.t
        yield from attribute.tensors


def sparse_tensors(node: Node) -> Iterator[SparseTensor]:
    """Return the sparse tensors among a node's attributes."""
    for attribute in node.attribute:
        if attribute.sparse_tensor is not None:
            yield attribute.sparse_tensor
        yield from attribute.sparse_tensors
