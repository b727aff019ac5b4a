"""Small ONNX graphs for whole-deployment tests."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
ROWS = np.array([[1, 2, 3, 4], [0.5, 0.25, 0.125, 0]], dtype=np.float32)


def linear(weights: np.ndarray = WEIGHTS) -> bytes:
    """Return the ONNX bytes of y = x @ weights."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())
