"""Models that an attacker makes: each with the one code that refuses it.

`HOSTILE` maps a sentence to a case.  A case's bytes are made when they are asked for; some are megabytes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from manifests.onnx.errors import OnnxCode
from tests.modelcheck.ordinary import value

INT64, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
Node = helper.make_node


@dataclass(frozen=True)
class Case:
    """A hostile model, the code of its first finding, and the files beside it."""

    code: OnnxCode
    make: Callable[[], bytes]
    parts: Mapping[str, bytes] = field(default_factory=dict)


HOSTILE: dict[str, Case] = {}


def case(sentence: str, code: OnnxCode, **parts: bytes) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Enter a case; what it makes is bytes or a ModelProto."""

    def enter(make: Callable[[], Any]) -> Callable[[], Any]:
        assert sentence not in HOSTILE
        HOSTILE[sentence] = Case(code, lambda: _bytes(make()), {name.replace("_", "."): d for name, d in parts.items()})
        return make

    return enter


def _bytes(model: Any) -> bytes:
    return model if isinstance(model, bytes) else bytes(model.SerializeToString())


def model(
    *nodes: Any,
    inputs: tuple[Any, ...] | None = None,
    weights: Mapping[str, Any] | None = None,
    output: str = "y",
    opset: int = 20,
    **options: Any,
) -> Any:
    """Return a model from x, float ["n", 4], to an output; every part can be changed afterwards."""
    tensors = [
        tensor if isinstance(tensor, TensorProto) else numpy_helper.from_array(np.array(tensor), name)
        for name, tensor in (weights or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes) or [Node("Relu", ["x"], ["y"])],
        "hostile",
        [value("x", ["n", 4])] if inputs is None else list(inputs),
        [value(output, None)],
        tensors,
    )
    domains = {node.domain for node in nodes if node.domain}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)


def tensor(name: str, dims: list[int], raw: bytes, dtype: int = FLOAT) -> Any:
    made = TensorProto(name=name, data_type=dtype, raw_data=raw)
    made.dims.extend(dims)
    return made


def weighted(made: Any) -> Any:
    """Return a model that adds one weight."""
    return model(Node("Add", ["x", "w"], ["y"]), weights={"w": made})


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def length_delimited(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# ----------------------------------------------------------------------------------------------- the bytes

PLAIN = _bytes(model())


@case("a file that is no protobuf", OnnxCode.MALFORMED)
def _() -> bytes:
    return b"\x12\xff\xff\xff\x7fnothing"


@case("a file without a byte", OnnxCode.INCOMPLETE)
def _() -> bytes:
    return b""


@case("a number that does not end", OnnxCode.MALFORMED)
def _() -> bytes:
    return PLAIN + b"\x28\xff"


@case("a packed field that ends within a float", OnnxCode.MALFORMED)
def _() -> bytes:
    return b"\x3a" + varint(11) + length_delimited(5, length_delimited(4, b"1234567"))[:11]


@case("a group, as protobuf had them once", OnnxCode.GROUP)
def _() -> bytes:
    return PLAIN + b"\x0b\x0c"


@case("a version in more bytes than it needs", OnnxCode.VARINT)
def _() -> bytes:
    return b"\x08\x8a\x00" + PLAIN[2:]


@case("a number of eleven bytes", OnnxCode.VARINT)
def _() -> bytes:
    return PLAIN + b"\x28" + b"\xff" * 10 + b"\x01"


@case("an element type beyond 32 bits", OnnxCode.VARINT)
def _() -> bytes:
    return PLAIN + length_delimited(25, length_delimited(11, b"\xa0\x01" + varint(1 << 40)))


@case("a field that ONNX does not have", OnnxCode.UNKNOWN_FIELD)
def _() -> bytes:
    return PLAIN + length_delimited(99, b"hidden")


@case("a graph as a number", OnnxCode.UNKNOWN_FIELD)
def _() -> bytes:
    return b"\x38\x01"


@case("two graphs, of which readers take one or merge both", OnnxCode.DUPLICATE_FIELD)
def _() -> bytes:
    return PLAIN + length_delimited(7, model(Node("Neg", ["x"], ["y"])).graph.SerializeToString())


@case("types within types, a thousand deep", OnnxCode.DEPTH)
def _() -> bytes:
    body = b""
    for _ in range(1000):
        body = length_delimited(4, length_delimited(1, body))
    return length_delimited(7, length_delimited(11, length_delimited(2, body)))


@case("three million empty names", OnnxCode.COUNT)
def _() -> bytes:
    return PLAIN + length_delimited(25, b"\x22\x00" * 3_000_000)


@case("a million empty nodes", OnnxCode.COUNT)
def _() -> bytes:
    return PLAIN + length_delimited(25, b"\x3a\x00" * 1_000_000)


@case("seventy thousand initializers", OnnxCode.COUNT)
def _() -> bytes:
    return length_delimited(7, b"\x2a\x00" * 70_000)


@case("eighty megabytes of names", OnnxCode.SIZE)
def _() -> bytes:
    return PLAIN + length_delimited(25, (b"\x22\xd0\x0f" + b"a" * 2000) * 40_000)


@case("a name of a megabyte", OnnxCode.NAME)
def _() -> Any:
    return model(Node("Relu", ["x"], ["y"], name="n" * (1 << 20)))


@case("an initializer without a name", OnnxCode.NAME)
def _() -> Any:
    return model(weights={"": np.float32(1)})


@case("a name that is not UTF-8", OnnxCode.TEXT)
def _() -> bytes:
    return PLAIN.replace(b"hostile", b"hos\xff\xfele")


@case("seventy megabytes of documentation", OnnxCode.METADATA)
def _() -> Any:
    made = model()
    made.doc_string = "d" * (70 << 20)
    return made


@case("three hundred thousand entries of metadata", OnnxCode.METADATA)
def _() -> bytes:
    return PLAIN + length_delimited(14, b"\x0a\x00\x12\x00") * 300_000


# -------------------------------------------------------------------------------- versions and operators


@case("an IR version of the future", OnnxCode.IR_VERSION)
def _() -> Any:
    made = model()
    made.ir_version = 99
    return made


@case("an operator set of the future", OnnxCode.OPSET)
def _() -> Any:
    return model(opset=2000)


@case("one operator set in two versions", OnnxCode.OPSET)
def _() -> Any:
    made = model()
    made.opset_import.append(helper.make_opsetid("ai.onnx", 13))
    return made


@case("a negative version of an operator set", OnnxCode.OPSET)
def _() -> Any:
    made = model()
    made.opset_import[0].version = -1
    return made


@case("an operator that ONNX does not have", OnnxCode.OPERATOR)
def _() -> Any:
    return model(Node("Steal", ["x"], ["y"]))


@case("an operator of a stranger's library", OnnxCode.OPERATOR)
def _() -> Any:
    return model(Node("Relu", ["x"], ["y"], domain="stranger.library"))


@case("an operator of the runtime's own", OnnxCode.OPERATOR)
def _() -> Any:
    return model(Node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft"))


@case("an operator that decompresses images", OnnxCode.OPERATOR)
def _() -> Any:
    return model(Node("ImageDecoder", ["x"], ["y"]), inputs=(value("x", [100], TensorProto.UINT8),))


@case("an operator that loads compiled code", OnnxCode.OPERATOR_NEVER)
def _() -> Any:
    return model(Node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/lib/evil.so"))


@case("an operator that calls an interpreter", OnnxCode.OPERATOR_NEVER)
def _() -> Any:
    return model(Node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib"))


@case("an operator of a set that is not imported", OnnxCode.DOMAIN)
def _() -> Any:
    made = model(Node("Scaler", ["x"], ["y"], domain="ai.onnx.ml"))
    del made.opset_import[1]
    return made


@case("training information", OnnxCode.TRAINING)
def _() -> Any:
    made = model()
    made.training_info.add()
    return made


# --------------------------------------------------------------------------------- functions and subgraphs


def functional(*functions: Any, call: str = "F") -> Any:
    made = model(Node(call, ["x"], ["y"], domain="own"))
    made.functions.extend(functions)
    return made


def function(name: str, *nodes: Any, domain: str = "own") -> Any:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_function(domain, name, ["a"], ["b"], list(nodes), opsets)


@case("a function that calls itself", OnnxCode.FUNCTION_RECURSION)
def _() -> Any:
    return functional(function("F", Node("F", ["a"], ["b"], domain="own")))


@case("two functions that call each other", OnnxCode.FUNCTION_RECURSION)
def _() -> Any:
    return functional(
        function("F", Node("G", ["a"], ["b"], domain="own")), function("G", Node("F", ["a"], ["b"], domain="own"))
    )


@case("functions that double forty times", OnnxCode.EXPANSION)
def _() -> Any:
    made = [function("F40", Node("Relu", ["a"], ["b"]))]
    for at in range(39, 0, -1):
        calls = [Node(f"F{at + 1}", [a], [b], domain="own") for a, b in (("a", "t"), ("t", "b"))]
        made.append(function(f"F{at}", *calls))
    return functional(*made, call="F1")


@case("a function that hides an operator", OnnxCode.FUNCTION)
def _() -> Any:
    return functional(function("F", Node("Relu", ["a"], ["b"])), function("Relu", Node("Neg", ["a"], ["b"]), domain=""))


@case("one function twice", OnnxCode.FUNCTION)
def _() -> Any:
    return functional(*[function("F", Node("Relu", ["a"], ["b"]))] * 2)


@case("subgraphs in subgraphs, twelve deep", OnnxCode.NESTING)
def _() -> Any:
    node = Node("Relu", ["x"], ["d0"])
    for at in range(12):
        body = helper.make_graph([node], "g", [], [value(f"d{at}", None)])
        node = Node("If", ["c"], [f"d{at + 1}"], then_branch=body, else_branch=_leaf(f"e{at}"))
    return model(node, inputs=(value("x", ["n", 4]), value("c", [], BOOL)), output="d12")


def _leaf(name: str) -> Any:
    return helper.make_graph([Node("Relu", ["x"], [name])], "leaf", [], [value(name, None)])


# ------------------------------------------------------------------------------------------ names and order


@case("two nodes that give one name", OnnxCode.DUPLICATE_NAME)
def _() -> Any:
    return model(Node("Relu", ["x"], ["y"]), Node("Neg", ["x"], ["y"]))


@case("two initializers of one name", OnnxCode.DUPLICATE_NAME)
def _() -> Any:
    made = weighted(np.float32(1))
    made.graph.initializer.append(made.graph.initializer[0])
    return made


@case("a node that gives an input's name", OnnxCode.DUPLICATE_NAME)
def _() -> Any:
    return model(Node("Relu", ["x"], ["x"]), Node("Neg", ["x"], ["y"]))


@case("a subgraph that gives a name of the graph around it", OnnxCode.DUPLICATE_NAME)
def _() -> Any:
    inner = helper.make_graph([Node("Relu", ["x"], ["t"])], "g", [], [value("t", None)])
    return model(
        Node("Neg", ["x"], ["t"]),
        Node("If", ["c"], ["y"], then_branch=inner, else_branch=_leaf("e")),
        inputs=(value("x", ["n", 4]), value("c", [], BOOL)),
    )


@case("an attribute twice", OnnxCode.DUPLICATE_NAME)
def _() -> Any:
    made = model(Node("LeakyRelu", ["x"], ["y"], alpha=0.1))
    made.graph.node[0].attribute.append(made.graph.node[0].attribute[0])
    return made


@case("a node that takes what nothing gives", OnnxCode.UNDEFINED)
def _() -> Any:
    return model(Node("Add", ["x", "nothing"], ["y"]))


@case("a subgraph that takes what nothing gives", OnnxCode.UNDEFINED)
def _() -> Any:
    inner = helper.make_graph([Node("Add", ["x", "nothing"], ["t"])], "g", [], [value("t", None)])
    return model(
        Node("If", ["c"], ["y"], then_branch=inner, else_branch=_leaf("e")),
        inputs=(value("x", ["n", 4]), value("c", [], BOOL)),
    )


@case("two nodes in a circle", OnnxCode.CYCLE)
def _() -> Any:
    return model(Node("Add", ["x", "b"], ["a"]), Node("Relu", ["a"], ["b"]), Node("Neg", ["b"], ["y"]))


@case("a node that takes its own output", OnnxCode.CYCLE)
def _() -> Any:
    return model(Node("Add", ["x", "y"], ["y"]))


@case("an output that nothing gives", OnnxCode.OUTPUT)
def _() -> Any:
    return model(output="nothing")


@case("an input without a type", OnnxCode.TYPE)
def _() -> Any:
    return model(inputs=(onnx.ValueInfoProto(name="x"),))


@case("an input of an element type that does not exist", OnnxCode.TYPE)
def _() -> Any:
    return model(inputs=(value("x", [4], 77),))


@case("an input that is a map of maps", OnnxCode.INTERFACE)
def _() -> Any:
    inner = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    kind = helper.make_map_type_proto(INT64, inner)
    return model(inputs=(helper.make_value_info("x", kind),))


@case("an attribute without a type", OnnxCode.ATTRIBUTE)
def _() -> Any:
    made = model(Node("LeakyRelu", ["x"], ["y"], alpha=0.1))
    made.graph.node[0].attribute[0].ClearField("type")
    return made


@case("an attribute whose value is of another type", OnnxCode.ATTRIBUTE)
def _() -> Any:
    made = model(Node("LeakyRelu", ["x"], ["y"], alpha=0.1))
    made.graph.node[0].attribute[0].type = onnx.AttributeProto.INT
    return made


@case("strides of zero", OnnxCode.ATTRIBUTE)
def _() -> Any:
    inputs = (value("x", ["n", 3, 8, 8]),)
    return model(Node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 0]), inputs=inputs)


@case("a reference to an attribute outside of a function", OnnxCode.ATTRIBUTE)
def _() -> Any:
    made = model(Node("LeakyRelu", ["x"], ["y"]))
    made.graph.node[0].attribute.append(
        onnx.AttributeProto(name="alpha", ref_attr_name="a", type=onnx.AttributeProto.FLOAT)
    )
    return made


@case("a subgraph at an operator that has none", OnnxCode.ATTRIBUTE)
def _() -> Any:
    return model(Node("Relu", ["x"], ["y"], body=_leaf("e")))


# --------------------------------------------------------------------------------------------------- tensors


@case("a shape of 2^60 elements", OnnxCode.TENSOR_OVERFLOW)
def _() -> Any:
    return weighted(tensor("w", [1 << 60], b""))


@case("a shape whose product wraps around to four", OnnxCode.TENSOR_OVERFLOW)
def _() -> Any:
    return weighted(tensor("w", [1 << 32, 1 << 32, 4], b"\0" * 16))


@case("a shape that hides 2^60 behind a zero", OnnxCode.TENSOR_OVERFLOW)
def _() -> Any:
    return weighted(tensor("w", [0, 1 << 60], b""))


@case("a shape of a hundred axes", OnnxCode.TENSOR_OVERFLOW)
def _() -> Any:
    return weighted(tensor("w", [1] * 100, b"\0" * 4))


@case("an axis of length -1", OnnxCode.TENSOR_NEGATIVE)
def _() -> Any:
    return weighted(tensor("w", [-1, 4], b"\0" * 16))


@case("a weight that is longer than its shape", OnnxCode.TENSOR_LENGTH)
def _() -> Any:
    return weighted(tensor("w", [4], b"\0" * 20))


@case("a weight that is shorter than its shape", OnnxCode.TENSOR_LENGTH)
def _() -> Any:
    return weighted(tensor("w", [1 << 30], b"\0" * 16))


@case("fewer integers than the shape says", OnnxCode.TENSOR_LENGTH)
def _() -> Any:
    made = TensorProto(name="w", data_type=INT64, int64_data=[1, 2, 3])
    made.dims.append(4)
    return weighted(made)


@case("a weight in two places", OnnxCode.TENSOR_PLACE)
def _() -> Any:
    made = tensor("w", [4], b"\0" * 16)
    made.float_data.extend([1.0] * 4)
    return weighted(made)


@case("floats among integers", OnnxCode.TENSOR_PLACE)
def _() -> Any:
    made = TensorProto(name="w", data_type=INT64, float_data=[1.0] * 4)
    made.dims.append(4)
    return weighted(made)


@case("strings in raw form", OnnxCode.TENSOR_PLACE)
def _() -> Any:
    return weighted(tensor("w", [1], b"abc", TensorProto.STRING))


@case("a weight without an element type", OnnxCode.TENSOR_TYPE)
def _() -> Any:
    return weighted(tensor("w", [4], b"\0" * 16, 0))


@case("a weight of an element type that does not exist", OnnxCode.TENSOR_TYPE)
def _() -> Any:
    return weighted(tensor("w", [4], b"\0" * 16, 99))


def sparse(values: list[float], indices: Any, dims: list[int]) -> Any:
    made = model(Node("Add", ["x", "w"], ["y"]))
    stored = numpy_helper.from_array(np.array(values, np.float32), "w")
    places = numpy_helper.from_array(np.array(indices, np.int64), "w_indices")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(stored, places, dims))
    return made


@case("a sparse tensor with an index beyond its shape", OnnxCode.SPARSE)
def _() -> Any:
    return sparse([1, 2], [0, 4], [4])


@case("a sparse tensor with a negative index", OnnxCode.SPARSE)
def _() -> Any:
    return sparse([1, 2], [-1, 2], [4])


@case("a sparse tensor with a pair of indices beyond its shape", OnnxCode.SPARSE)
def _() -> Any:
    return sparse([1, 2], [[0, 0], [0, 9]], [4, 4])


@case("a sparse tensor with one index twice", OnnxCode.SPARSE)
def _() -> Any:
    return sparse([1, 2], [1, 1], [4])


@case("a sparse tensor with fewer indices than values", OnnxCode.SPARSE)
def _() -> Any:
    return sparse([1, 2], [1], [4])


@case("a sparse tensor that becomes a terabyte", OnnxCode.RESIDENT)
def _() -> Any:
    return sparse([1], [0], [1 << 38])


# ------------------------------------------------------------------------------------------- external data


def external(*entries: tuple[str, str], dims: tuple[int, ...] = (4,), name: str = "w") -> Any:
    made = TensorProto(name=name, data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    made.dims.extend(dims)
    for key, text in entries:
        made.external_data.add(key=key, value=text)
    return made


def outside(location: str) -> Callable[[], Any]:
    return lambda: weighted(external(("location", location), ("offset", "0"), ("length", "16")))


for where in ("../../etc/passwd", "/etc/passwd", "a/../../b", "./w.bin", "C:\\w.bin", "c:/w.bin", "a//b", "w\x00.bin"):
    case(f"external data at {where!r}", OnnxCode.EXTERNAL_PATH, w_bin=bytes(16))(outside(where))


@case("external data in a file that is not there", OnnxCode.EXTERNAL_PART, other_bin=bytes(16))
def _() -> Any:
    return outside("w.bin")()


@case("external data that ends beyond its file", OnnxCode.EXTERNAL_RANGE, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("location", "w.bin"), ("offset", "8"), ("length", "16")))


@case("external data that begins beyond its file", OnnxCode.EXTERNAL_RANGE, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("location", "w.bin"), ("offset", "4096")))


@case("external data shorter than its shape", OnnxCode.TENSOR_LENGTH, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("location", "w.bin"), ("length", "8")))


@case("external data with a negative offset", OnnxCode.EXTERNAL_ENTRY, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("location", "w.bin"), ("offset", "-16"), ("length", "16")))


@case("external data with two locations", OnnxCode.EXTERNAL_ENTRY, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("location", "w.bin"), ("location", "v.bin")))


@case("external data without a location", OnnxCode.EXTERNAL_ENTRY, w_bin=bytes(16))
def _() -> Any:
    return weighted(external(("length", "16")))


@case("two weights that share half of their external data", OnnxCode.EXTERNAL_OVERLAP, w_bin=bytes(64))
def _() -> Any:
    weights = {
        name: external(("location", "w.bin"), ("offset", offset), ("length", "16"), name=name)
        for name, offset in (("w", "0"), ("v", "8"))
    }
    return model(Node("Add", ["w", "v"], ["t"]), Node("Add", ["x", "t"], ["y"]), weights=weights)


@case("a constant with external data", OnnxCode.EXTERNAL_ATTRIBUTE, w_bin=bytes(16))
def _() -> Any:
    return model(Node("Constant", [], ["w"], value=external(("location", "w.bin"))), Node("Add", ["x", "w"], ["y"]))


# --------------------------------------------------------------------------------------------- bombs of cost


@case("a ConstantOfShape of 2^50 elements", OnnxCode.RESIDENT)
def _() -> Any:
    return model(
        Node("ConstantOfShape", ["s"], ["t"]), Node("ReduceSum", ["t"], ["u"]), Node("Add", ["x", "u"], ["y"]),
        weights={"s": ints(1 << 50)},
    )  # fmt: skip


@case("a ConstantOfShape of a shape that the client sends", OnnxCode.UNBOUNDED)
def _() -> Any:
    return model(Node("ConstantOfShape", ["x"], ["y"]), inputs=(value("x", [3], INT64),))


@case("an Expand by a number that the client sends", OnnxCode.UNBOUNDED)
def _() -> Any:
    return model(Node("Expand", ["x", "s"], ["y"]), inputs=(value("x", ["n", 1]), value("s", [2], INT64)))


@case("an Expand to a terabyte", OnnxCode.MEMORY)
def _() -> Any:
    return model(Node("Expand", ["x", "s"], ["y"]), weights={"s": ints(1 << 36, 1, 4)})


@case("a Range up to 2^62", OnnxCode.RESIDENT)
def _() -> Any:
    return model(
        Node("Range", ["a", "b", "c"], ["t"]), Node("Cast", ["t"], ["u"], to=FLOAT), Node("Add", ["x", "u"], ["y"]),
        weights={"a": np.int64(0), "b": np.int64(1 << 62), "c": np.int64(1)},
    )  # fmt: skip


@case("a Range by a step that the client sends", OnnxCode.UNBOUNDED)
def _() -> Any:
    return model(
        Node("Range", ["a", "b", "x"], ["y"]),
        inputs=(value("x", [], INT64),),
        weights={"a": np.int64(0), "b": np.int64(1000)},
    )


@case("a Tile of a million million times", OnnxCode.MEMORY)
def _() -> Any:
    return model(Node("Tile", ["x", "s"], ["y"]), weights={"s": ints(1_000_000, 1_000_000)})


@case("a Resize by a factor of a million", OnnxCode.MEMORY)
def _() -> Any:
    return model(
        Node("Resize", ["x", "", "s"], ["y"], mode="nearest"),
        inputs=(value("x", ["n", 3, 8, 8]),),
        weights={"s": np.array([1, 1, 1e6, 1e6], np.float32)},
    )


@case("a Pad of 2^40 elements", OnnxCode.MEMORY)
def _() -> Any:
    return model(Node("Pad", ["x", "p"], ["y"]), weights={"p": ints(0, 0, 0, 1 << 40)})


@case("a OneHot of a depth of 2^40", OnnxCode.MEMORY)
def _() -> Any:
    return model(
        Node("OneHot", ["x", "d", "v"], ["y"]),
        inputs=(value("x", ["n"], INT64),),
        weights={"d": np.int64(1 << 40), "v": np.array([0, 1], np.float32)},
    )


@case("outer products that square the size three times", OnnxCode.MEMORY)
def _() -> Any:
    nodes, last = [], "x"
    for at in range(3):
        nodes += [
            Node("Reshape", [last, "column"], [f"c{at}"]),
            Node("Reshape", [last, "row"], [f"r{at}"]),
            Node("Mul", [f"c{at}", f"r{at}"], [f"p{at}"]),
        ]
        last = f"p{at}"
    return model(
        *nodes, Node("Identity", [last], ["y"]), weights={"column": ints(-1, 1), "row": ints(1, -1)}
    )  # fmt: skip


@case("concatenations that double forty times", OnnxCode.MEMORY)
def _() -> Any:
    names = ["x", *(f"t{at}" for at in range(40)), "y"]
    nodes = [Node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)]
    return model(*nodes)


@case("an empty tensor with an axis that the client chooses", OnnxCode.UNBOUNDED)
def _() -> Any:
    """Elements stay zero, the axis does not: read back by Shape, it is the length of a Range."""
    return model(
        Node("Slice", ["x", "zero", "zero"], ["e"]),
        Node("Reshape", ["e", "s"], ["r"], allowzero=1),
        Node("Shape", ["r"], ["h"]),
        Node("Gather", ["h", "one"], ["n"]),
        Node("Range", ["start", "n", "step"], ["y"]),
        inputs=(value("x", ["n", 4]), value("s", [2], INT64)),
        weights={"zero": ints(0), "one": np.int64(1), "start": np.int64(0), "step": np.int64(1)},
    )


@case("a tree that says it has 2^40 targets", OnnxCode.MEMORY)
def _() -> Any:
    return model(
        Node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1 << 40, nodes_nodeids=[0],
             nodes_modes=["LEAF"], target_ids=[0], target_nodeids=[0], target_treeids=[0], target_weights=[1.0])
    )  # fmt: skip


@case("a vocabulary with an index of 2^40", OnnxCode.MEMORY)
def _() -> Any:
    return model(
        Node("TfIdfVectorizer", ["x"], ["y"], max_gram_length=1, min_gram_length=1, max_skip_count=0, mode="TF",
             ngram_counts=[0], ngram_indexes=[1 << 40], pool_int64s=[1]),
        inputs=(value("x", [3], INT64),),
    )  # fmt: skip


@case("a chain of products of large matrices", OnnxCode.WORK)
def _() -> Any:
    nodes = [Node("MatMul", [f"t{at}", f"t{at}"], [f"t{at + 1}"]) for at in range(100)]
    return model(*nodes, Node("Identity", ["t100"], ["y"]), inputs=(value("t0", [9000, 9000]),))


# ----------------------------------------------------------------------------------------------------- loops


def loop(body: Any, trips: int | None, *inputs: str) -> Any:
    weights = {} if trips is None else {"m": np.int64(trips)}
    return model(Node("Loop", ["" if trips is None else "m", "", *inputs], ["y"], body=body), weights=weights)


def body(*nodes: Any, state: list[Any] | None = None) -> Any:
    return helper.make_graph(
        [Node("Identity", ["go"], ["go_on"]), *nodes],
        "body",
        [value("i", [], INT64), value("go", [], BOOL), *([value("s", None)] if state is None else state)],
        [value("go_on", [], BOOL), value("t", None)],
    )


@case("a loop without an end", OnnxCode.LOOP)
def _() -> Any:
    return loop(body(Node("Relu", ["s"], ["t"])), None, "x")


@case("a loop of as many iterations as the client says", OnnxCode.LOOP)
def _() -> Any:
    made = loop(body(Node("Relu", ["s"], ["t"])), 1, "x")
    del made.graph.initializer[0]
    made.graph.input.append(value("m", [], INT64))
    return made


@case("a loop of 2^50 iterations", OnnxCode.WORK)
def _() -> Any:
    return loop(body(Node("Relu", ["s"], ["t"])), 1 << 50, "x")


@case("a loop whose state doubles a hundred times", OnnxCode.MEMORY)
def _() -> Any:
    return loop(body(Node("Concat", ["s", "s"], ["t"], axis=0)), 100, "x")


@case("a loop whose state grows a million times", OnnxCode.UNBOUNDED)
def _() -> Any:
    return loop(body(Node("Concat", ["s", "x"], ["t"], axis=0)), 1_000_000, "x")


@case("a loop that collects a terabyte", OnnxCode.MEMORY)
def _() -> Any:
    return loop(body(Node("Identity", ["x"], ["t"]), state=[]), 1 << 32)


@case("loops within loops", OnnxCode.WORK)
def _() -> Any:
    inner = body(Node("Relu", ["s"], ["t"]))
    for at in range(6):
        names = {name: f"{name}{at}" for name in ("i", "go", "s", "go_on", "t")}
        renamed = onnx.GraphProto()
        renamed.CopyFrom(inner)
        inner = helper.make_graph(
            [
                Node("Identity", [names["go"]], [names["go_on"]]),
                Node("Loop", ["m", "", names["s"]], [names["t"]], body=renamed),
            ],
            "outer",
            [value(names["i"], [], INT64), value(names["go"], [], BOOL), value(names["s"], None)],
            [value(names["go_on"], [], BOOL), value(names["t"], None)],
        )
    return loop(inner, 1000, "x")


@case("a scan that makes a terabyte of a row", OnnxCode.MEMORY)
def _() -> Any:
    inner = helper.make_graph(
        [Node("Expand", ["row", "s"], ["out"])], "scan", [value("row", None)], [value("out", None)]
    )
    return model(
        Node("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1), weights={"s": ints(1 << 28, 4)}
    )  # fmt: skip


@case("loops of two hundred rounds within each other", OnnxCode.EXPANSION)
def _() -> Any:
    """Each loop's state grows, so that each is followed to its end."""
    made = Node("Concat", ["s3", "x"], ["t3"], axis=0)
    for at in range(3, -1, -1):
        graph = helper.make_graph(
            [Node("Identity", [f"go{at}"], [f"on{at}"]), made],
            "body",
            [value(f"i{at}", [], INT64), value(f"go{at}", [], BOOL), value(f"s{at}", None)],
            [value(f"on{at}", [], BOOL), value(f"t{at}", None)],
        )
        made = Node("Loop", ["m", "", f"s{at - 1}" if at else "x"], [f"t{at - 1}" if at else "y"], body=graph)
    return model(made, weights={"m": np.int64(200)})


# ---------------------------------------------------------------------------------------------------- locales


def normalizer(**attributes: Any) -> Any:
    text = (value("x", ["n"], TensorProto.STRING),)
    made = model(Node("StringNormalizer", ["x"], ["y"], **attributes), inputs=text)
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    return made


@case("texts in lower case by the rules of a language that is not named", OnnxCode.LOCALE)
def _() -> Any:
    return normalizer(case_change_action="LOWER")


@case("texts in upper case by the rules of Turkish", OnnxCode.LOCALE)
def _() -> Any:
    return normalizer(case_change_action="UPPER", locale="tr_TR.UTF-8")


@case("stopwords in whatever case, by the rules of a language that is not named", OnnxCode.LOCALE)
def _() -> Any:
    return normalizer(stopwords=["the"])


# -------------------------------------------------------------------------------------------------- divisions


@case("a division that ends the process", OnnxCode.DIVISION)
def _() -> Any:
    return model(
        Node("Div", ["x", "d"], ["y"]), inputs=(value("x", ["n"], INT64),), weights={"d": np.array([-1], np.int64)}
    )


@case("a division by what the client sends", OnnxCode.DIVISION)
def _() -> Any:
    return model(
        Node("Div", ["x", "d"], ["y"]),
        inputs=(value("x", ["n"], TensorProto.INT32), value("d", ["n"], TensorProto.INT32)),
    )


@case("a division of constants that would end the process while it loads", OnnxCode.DIVISION)
def _() -> Any:
    return model(
        Node("Div", ["a", "b"], ["c"]),
        Node("Cast", ["c"], ["d"], to=FLOAT),
        Node("Add", ["x", "d"], ["y"]),
        weights={"a": ints(-(1 << 63)), "b": ints(-1)},
    )


@functools.cache
def made(sentence: str) -> bytes:
    """Return a hostile model, made once in a process."""
    return HOSTILE[sentence].make()


@case("two thousand sums of four hundred numbers", OnnxCode.FOLLOWED)
def _numbers() -> Any:
    chain = [Node("Add", ["c" if at == 0 else f"v{at - 1}", "c"], [f"v{at}"]) for at in range(2000)]
    tail = [Node("ReduceMax", ["v1999"], ["top"], keepdims=0), Node("Expand", ["x", "top"], ["y"])]
    return model(*chain, *tail, weights={"c": ints(*range(400))})


@case("a loop of ten thousand states, followed two hundred times", OnnxCode.FOLLOWED)
def _states() -> Any:
    count = 10_000
    names = [f"s{at}" for at in range(count)]
    step = [Node("Concat", ["grows", "grows"], ["grown"], axis=0), Node("Identity", ["going"], ["still"])]
    body = helper.make_graph(
        step, "body",
        [value("at", [], INT64), value("going", [], BOOL), value("grows", None), *(value(n, None) for n in names)],
        [value("still", [], BOOL), value("grown", None), *(value(n, None) for n in names)],
    )  # fmt: skip
    loop = Node("Loop", ["trips", "", "x", *["x"] * count], ["y", *(f"o{n}" for n in names)], body=body)
    return model(loop, weights={"trips": np.array(200, np.int64)})
