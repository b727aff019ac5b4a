"""The reader against the `onnx` package: the same names, shapes and counts, or a documented refusal."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxError
from manifests.onnx.reader import read_model
from manifests.onnx.tensors import numbers
from tests.fuzz.mutate import mutated
from tests.fuzz.targets_models import _models
from tests.modelcheck.ordinary import ALL, made

EXAMPLES = settings(
    max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
SEEDS = _models()


def dims_of(kind: Any) -> list[tuple[int, str]] | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return [(dim.dim_value, dim.dim_param) for dim in kind.tensor_type.shape.dim]


def compare_values(ours: Any, theirs: Any) -> None:
    assert [value.name for value in ours] == [value.name for value in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        kind = None if mine.type is None else mine.type.tensor_type
        shape = None if kind is None or kind.shape is None else kind.shape.dim
        found = None if shape is None else [(dim.dim_value or 0, dim.dim_param or "") for dim in shape]
        assert found == dims_of(other.type)
        assert (0 if kind is None else kind.elem_type) == other.type.tensor_type.elem_type


def compare_tensors(ours: Any, theirs: Any) -> None:
    assert [(tensor.name, list(tensor.dims), tensor.data_type) for tensor in ours] == [
        (tensor.name, list(tensor.dims), tensor.data_type) for tensor in theirs
    ]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.raw_data is not None) == other.HasField("raw_data")
        assert bytes(mine.raw_data or b"") == other.raw_data


def compare_attribute(mine: Any, other: Any) -> None:
    assert (mine.name, mine.type, mine.i or 0) == (other.name, other.type, other.i)
    assert np.array_equal(mine.floats, np.array(other.floats, np.float32), equal_nan=True)
    assert mine.ints.tolist() == list(other.ints)
    assert [bytes(item) for item in mine.strings] == list(other.strings)
    assert (mine.g is not None) == other.HasField("g")
    if mine.g is not None:
        compare_graph(mine.g, other.g)
    if mine.t is not None:
        compare_tensors([mine.t], [other.t])


def compare_nodes(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.op_type, mine.domain, mine.name) == (other.op_type, other.domain, other.name)
        assert (mine.input, mine.output) == (list(other.input), list(other.output))
        for pair in zip(mine.attribute, other.attribute, strict=True):
            compare_attribute(*pair)


def compare_graph(mine: Any, other: Any) -> None:
    compare_nodes(mine.node, other.node)
    compare_tensors(mine.initializer, other.initializer)
    compare_values(mine.input, other.input)
    compare_values(mine.output, other.output)


def compare(data: bytes) -> None:
    mine, other = read_model(data), onnx.load_model_from_string(data)
    assert mine.ir_version == other.ir_version
    assert [(item.domain, item.version) for item in mine.opset_import] == [
        (item.domain, item.version) for item in other.opset_import
    ]
    compare_graph(mine.graph, other.graph)
    for own, function in zip(mine.functions, other.functions, strict=True):
        assert (own.name, own.input, own.output) == (function.name, list(function.input), list(function.output))
        compare_nodes(own.node, function.node)


@pytest.mark.parametrize("name", ALL)
def test_ordinary_models_read_the_same(name: str) -> None:
    compare(made(name))


def test_mutated_models_read_the_same_or_are_refused() -> None:
    outcomes: set[str] = set()

    @EXAMPLES
    @given(random=st.randoms(use_true_random=False))
    def run(random: Random) -> None:
        data = mutated(random, SEEDS)
        try:
            compare(data)
            outcomes.add("the same")
        except OnnxError as error:
            outcomes.add(str(error.code))

    run()
    assert "the same" in outcomes
    assert len(outcomes) >= 4


def test_what_onnx_itself_refuses_of_names_and_order_is_refused() -> None:
    """onnx.checker finds unknown inputs and names that are there twice; so does the check."""
    found = 0

    @EXAMPLES
    @given(random=st.randoms(use_true_random=False))
    def run(random: Random) -> None:
        nonlocal found
        model = onnx.load_model_from_string(random.choice(SEEDS[:8]))
        nodes = [node for node in model.graph.node if node.input]
        node = random.choice(nodes)
        at = random.randrange(len(node.input))
        node.input[at] = random.choice([node.output[0], "nothing", node.input[at]])
        data = model.SerializeToString()
        try:
            onnx.checker.check_model(data)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            found += 1
            assert not check_model(data, parts={"w.bin": 64}).passed

    run()
    assert found > 20


def test_numbers_of_every_form_are_read_as_onnx_reads_them() -> None:
    for dtype in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13):
        array = np.array([0, 1, 2, 3, 100], onnx.helper.tensor_dtype_to_np_dtype(dtype))
        typed = onnx.helper.make_tensor("w", dtype, [5], array.tolist())
        raw = onnx.numpy_helper.from_array(array, "w")
        for tensor in (typed, raw):
            graph = onnx.helper.make_graph([], "g", [], [onnx.helper.make_tensor_value_info("w", dtype, [5])], [tensor])
            model = read_model(onnx.helper.make_model(graph).SerializeToString())
            assert model.graph is not None
            assert np.array_equal(numbers(model.graph.initializer[0]), array)
