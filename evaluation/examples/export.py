"""The transformer as an ONNX graph with a key and value cache, and what its manifest says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evaluation.examples.transformer import EPSILON, HIDDEN, Shape, Weights

OPSET = 17


class _Graph:
    """Nodes and constants as they are added; each call returns the name of its result."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Any] = []
        self.constants = {name: value.astype(np.float32) for name, value in weights.items()}
        self._count = 0

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        self._count += 1
        output = to or f"{kind}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        self._count += 1
        name = f"constant_{self._count}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def norm(self, x: str) -> str:
        mean = self.add("ReduceMean", self.add("Mul", x, x), axes=[-1], keepdims=1)
        size = self.add("Sqrt", self.add("Add", mean, self.constant(EPSILON, np.float32)))
        return self.add("Div", x, size)


def export(weights: Weights, shape: Shape) -> bytes:
    """Return the ONNX bytes: tokens, positions [1, n] and caches [1, heads, past, depth] in; logits and caches out."""
    graph = _Graph(weights)
    x = graph.add("Add", graph.add("Gather", "E", "tokens"), graph.add("Gather", "P", "positions"))
    mask = ""
    for layer in range(shape.layers):
        h = graph.norm(x)
        q, k, v = (_heads(graph, graph.add("MatMul", h, f"{name}{layer}"), shape) for name in ("Wq", "Wk", "Wv"))
        k = graph.add("Concat", f"past_key{layer}", k, to=f"key{layer}", axis=2)
        v = graph.add("Concat", f"past_value{layer}", v, to=f"value{layer}", axis=2)
        mask = mask or _seen(graph, k)
        scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = graph.add("Div", scores, graph.constant(np.sqrt(shape.depth), np.float32))
        hidden = graph.add("Where", mask, scores, graph.constant(HIDDEN, np.float32))
        mixed = graph.add("MatMul", graph.add("Softmax", hidden, axis=-1), v)
        joined = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
        joined = graph.add("Reshape", joined, graph.constant([1, -1, shape.width]))
        x = graph.add("Add", x, graph.add("MatMul", joined, f"Wo{layer}"))
        inner = graph.add("Relu", graph.add("MatMul", graph.norm(x), f"W1{layer}"))
        x = graph.add("Add", x, graph.add("MatMul", inner, f"W2{layer}"))
    graph.add("MatMul", graph.norm(x), "U", to="logits")
    return _model(graph, shape)


def _heads(graph: _Graph, x: str, shape: Shape) -> str:
    split = graph.add("Reshape", x, graph.constant([1, -1, shape.heads, shape.depth]))
    return graph.add("Transpose", split, perm=[0, 2, 1, 3])


def _seen(graph: _Graph, keys: str) -> str:
    """Return which keys each position may look at, [n, total]: those at its own place and before."""
    total = graph.add("Gather", graph.add("Shape", keys), graph.constant(2), axis=0)
    places = graph.add("Range", graph.constant(0), total, graph.constant(1))
    own = graph.add("Reshape", "positions", graph.constant([-1, 1]))
    return graph.add("LessOrEqual", places, own)


def _model(graph: _Graph, shape: Shape) -> bytes:
    info = helper.make_tensor_value_info
    caches = [f"{kind}{layer}" for layer in range(shape.layers) for kind in ("key", "value")]
    past, total = ([1, shape.heads, axis, shape.depth] for axis in ("past", "total"))
    made = helper.make_graph(
        graph.nodes,
        "transformer",
        [
            info("tokens", TensorProto.INT64, [1, "n"]),
            info("positions", TensorProto.INT64, [1, "n"]),
            *(info(f"past_{name}", TensorProto.FLOAT, past) for name in caches),
        ],
        [
            info("logits", TensorProto.FLOAT, [1, "n", shape.vocabulary]),
            *(info(name, TensorProto.FLOAT, total) for name in caches),
        ],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def review(shape: Shape, **changes: Any) -> dict[str, Any]:
    """Return what the owner sets in the drafted manifest: bounds of the axes, and how the model generates."""
    caches = [f"{kind}{layer}" for layer in range(shape.layers) for kind in ("key", "value")]
    return {
        "axes": {
            "n": {"minimum": 1, "maximum": shape.context},
            "past": {"minimum": 0, "maximum": shape.context},
            "total": {"minimum": 1, "maximum": shape.context},
        },
        "generation": {
            "tokens": "tokens",
            "positions": "positions",
            "logits": "logits",
            "cache": [[f"past_{name}", name] for name in caches],
            "context": shape.context,
            "max_new_tokens": shape.context - 1,
            "vocabulary": "bytes",
            "sampling": ["temperature", "top_k", "top_p"],
        }
        | changes,
    }
