"""The bounds against what ONNX Runtime really gives: no value is larger than its bound says."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from manifests.onnx.check import check_model
from manifests.onnx.cost import Evaluator
from manifests.onnx.findings import Findings
from manifests.onnx.functions import collect
from manifests.onnx.memory import Step, peak
from manifests.onnx.permits import GraphPermits
from manifests.onnx.reader import read_model
from manifests.onnx.values import Value, made
from tests.modelcheck.ordinary import ALL
from tests.modelcheck.ordinary import made as ordinary
from tests.modelcheck.test_ordinary import REFUSED_AS_IT_IS

LENGTH = 3
"""Of every dynamic axis in these requests, and so in the bounds."""
KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(string)": object}


def bounds_of(data: bytes) -> tuple[dict[str, Value], Findings]:
    model, findings = read_model(data), Findings()
    assert model.graph is not None
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = {}
    for value in model.graph.input:
        if value.name not in given:
            assert value.type is not None
            tensor = value.type.tensor_type
            assert tensor is not None
            assert tensor.shape is not None
            dims = [dim.dim_value or LENGTH for dim in tensor.shape.dim]
            inputs[value.name] = made(tensor.elem_type, tuple((length, length) for length in dims), text=1000)
    evaluator = Evaluator(collect(model.functions, findings), GraphPermits(), findings)
    evaluator.model(model.graph, inputs, {item.domain: item.version for item in model.opset_import})
    return dict(evaluator.values), findings


def answers(data: bytes) -> dict[str, Any]:
    """Run a model and return all values of its main graph."""
    model = onnx.load_model_from_string(data)
    own = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in own]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    feeds = {}
    for item in session.get_inputs():
        shape = [dim if isinstance(dim, int) else LENGTH for dim in item.shape]
        kind = KINDS[item.type]
        plain = random.uniform(0, 3, shape)
        feeds[item.name] = texts(shape) if kind is object else plain.astype(kind)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))


def texts(shape: list[int]) -> np.ndarray:
    """Return words that the encoders know, or texts for the vectorizers, which take one in a row."""
    return np.resize(np.array(["red", "big"] if shape[-1] == 2 else ["One two three", "NINE, six"], object), shape)


@pytest.mark.parametrize("name", [name for name in ALL if name not in REFUSED_AS_IT_IS])
def test_no_value_is_larger_than_its_bound(name: str) -> None:
    bounds, findings = bounds_of(ordinary(name))
    assert findings.listed == []
    seen = 0
    for value, array in answers(ordinary(name)).items():
        if not isinstance(array, np.ndarray):
            continue
        bound = bounds[value]
        assert array.size <= bound.elements, value
        if bound.dims is not None:
            assert len(bound.dims) == array.ndim, value
            assert all(low <= at <= high for at, (low, high) in zip(array.shape, bound.dims, strict=True)), value
        if bound.span is not None and array.size and array.dtype.kind in "iub":
            assert bound.span[0] <= array.min(), value
            assert array.max() <= bound.span[1], value
        seen += 1
    assert seen


DIVISION = """
import numpy as np, onnxruntime as ort
from onnx import helper, TensorProto
kind = TensorProto.{kind}
tensors = [helper.make_tensor_value_info(name, kind, [1]) for name in "xdy"]
graph = helper.make_graph([helper.make_node("{operator}", ["x", "d"], ["y"])], "g", tensors[:2], tensors[2:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
dtype = np.{dtype}
print(session.run(None, dict(x=np.array([np.iinfo(dtype).min], dtype), d=np.array([-1], dtype))))
"""


@pytest.mark.parametrize(
    ("operator", "kind", "ends"),
    [("Div", "INT32", True), ("Div", "INT64", True), ("Div", "INT8", False), ("Div", "INT16", False),
     ("Mod", "INT32", False), ("Mod", "INT64", False)],
)  # fmt: skip
def test_which_division_ends_the_process_of_the_pinned_runtime(operator: str, kind: str, ends: bool) -> None:
    """Where this fails after an update, the check of divisions is no longer needed, or has become too narrow."""
    text = DIVISION.format(operator=operator, kind=kind, dtype=kind.lower())
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode == -8) == ends, done.stderr


def sizes(*items: tuple[int, set[int]]) -> list[Step]:
    return [Step(size, 0, takes, at == len(items) - 1) for at, (size, takes) in enumerate(items)]


def test_memory_of_a_chain_is_that_of_two_neighbours() -> None:
    chain = sizes(*((10, {at - 1} if at else set()) for at in range(100)))
    assert peak(chain) == peak(chain[:5]) == 20


def test_memory_of_branches_counts_what_some_order_would_keep() -> None:
    """Three branches from one value, joined at the end: all of them may be there at once."""
    branches = sizes((1, set()), (10, {0}), (10, {0}), (10, {0}), (1, {1, 2, 3}))
    assert peak(branches) == 31


def test_many_nodes_are_added_up() -> None:
    steps = sizes(*((10, {at - 1} if at else set()) for at in range(9000)))
    assert peak(steps) == 90_000


def test_a_hundred_megabytes_of_weights_are_not_looked_at() -> None:
    weight = onnx.TensorProto(name="w", data_type=1, raw_data=bytes(100 << 20))
    weight.dims.extend([100, 1 << 18])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "large",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 100])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", 1 << 18])], [weight],
    )  # fmt: skip
    data = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    raw, start = data.SerializeToString(), time.process_time()
    assert check_model(raw).passed
    assert time.process_time() - start < 0.5
