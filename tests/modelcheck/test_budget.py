"""The check ends soon whatever the graph asks for: its work is counted here, not timed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from manifests.model import ModelManifest
from manifests.onnx import cost, intervals, memory, values
from manifests.onnx.bounds import MAX_EXPANDED, MAX_FOLLOWED
from manifests.onnx.budget import Budget
from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.onnx.memory import Step, peak
from manifests.onnx.requests import MAX_NODES, RequestBounds, bound_requests
from manifests.onnx.requests import _points as grid_points
from manifests.onnx.values import MAX_CONTENT
from tests.enclave.rig import Owner
from tests.modelcheck.hostile import ints, made, model
from tests.modelcheck.ordinary import ALL
from tests.modelcheck.ordinary import made as ordinary

Node = helper.make_node


class Counted:
    """How often the arithmetic of one number was done, and how many nodes were looked at."""

    numbers = nodes = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    count, guarded, node = Counted(), intervals._guarded, cost.Evaluator._node

    def number(*args: Any) -> Any:
        count.numbers += 1
        return guarded(*args)

    def looked(*args: Any) -> Any:
        count.nodes += 1
        return node(*args)

    monkeypatch.setattr(intervals, "_guarded", number)
    monkeypatch.setattr(cost.Evaluator, "_node", looked)
    return count


def chain(nodes: int, *numbers: int) -> bytes:
    """Return a model that adds a row of numbers to itself again and again, beside the request."""
    sums = [Node("Add", ["c" if at == 0 else f"v{at - 1}", "c"], [f"v{at}"]) for at in range(nodes)]
    return bytes(model(*sums, Node("Relu", ["x"], ["y"]), weights={"c": ints(*numbers)}).SerializeToString())


def manifest(limit: int = 1 << 30) -> ModelManifest:
    field = {"dtype": "float32", "shape": ["n", 4]}
    return ModelManifest.from_map(
        {
            "name": "m",
            "version": "1",
            "epoch": 1,
            "owner": Owner().public,
            "axes": {"n": {"minimum": 1, "maximum": 4096}},
            "inputs": [{"name": "x", **field}],
            "outputs": [{"name": "y", **field}],
            "limits": {"max_request_memory": limit},
        }
    )


def requests(data: bytes) -> RequestBounds:
    found = bound_requests(data, manifest(), {})
    assert found is not None
    return found


def test_a_chain_of_sums_of_thousands_of_numbers_costs_none_of_them(counted: Counted) -> None:
    assert check_model(chain(2000, *range(4096))).passed
    assert counted.numbers <= MAX_FOLLOWED


def test_a_chain_of_sums_is_followed_no_further_than_the_budget(counted: Counted) -> None:
    report = check_model(chain(5000, *range(MAX_CONTENT)))
    assert [finding.code for finding in report.findings] == [OnnxCode.FOLLOWED]
    assert 0 < counted.numbers <= MAX_FOLLOWED


def test_all_points_of_a_grid_share_one_budget(counted: Counted) -> None:
    data = chain(400, *range(100))
    assert check_model(data, manifest=manifest()).passed
    once, counted.numbers = counted.numbers, 0
    found = requests(data)
    assert len(found.memory) > 1
    assert once < counted.numbers <= MAX_FOLLOWED


def test_a_small_graph_keeps_its_whole_grid() -> None:
    assert len(requests(chain(10, 1, 2)).memory) > 50


def test_a_loop_that_is_followed_many_times_has_fewer_points(counted: Counted) -> None:
    """The grid is bounded by nodes that are looked at, not by those that are written down."""
    body = helper.make_graph(
        [Node("Concat", ["s", "s"], ["t"], axis=0), Node("Identity", ["c"], ["d"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", 1, None)],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("t", 1, None)],
    )  # fmt: skip
    loops = [Node("Loop", ["trips", "", "x"], [f"o{at}"], body=body, name=str(at)) for at in range(100)]
    weights = {"trips": np.array(100, np.int64)}
    requests(bytes(model(*loops, Node("Relu", ["x"], ["y"]), weights=weights).SerializeToString()))
    assert counted.nodes <= MAX_NODES


def test_a_grid_whose_smaller_points_cost_more_ends_with_its_greatest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the greatest point took tells nothing of smaller ones, if a graph is made for it."""
    monkeypatch.setattr("manifests.onnx.requests._points", lambda _: 64)
    one = helper.make_tensor("v", TensorProto.INT64, [1], [1])
    nodes = [
        Node("ConstantOfShape", ["s"], ["f"], value=one),
        *(Node("Add", ["f", "f"], [f"g{n}"]) for n in range(300)),
    ]
    data = bytes(model(*nodes, Node("Relu", ["x"], ["y"]), weights={"s": ints(500)}).SerializeToString())
    found = requests(data)
    assert list(found.memory) == [(4096,)]
    checked = check_model(data, manifest=manifest()).cost
    assert checked is not None
    assert found.of({"x": (1, 4)}) == found.least == checked.memory


def test_a_gather_of_hundreds_from_hundreds_makes_no_quarter_of_a_million(monkeypatch: pytest.MonkeyPatch) -> None:
    largest, content = [0], values.Content.__post_init__

    def seen(self: values.Content) -> None:
        content(self)
        largest[0] = max(largest[0], self.low.size)

    monkeypatch.setattr(values.Content, "__post_init__", seen)
    row = np.zeros((1, 500), np.int64)
    twice = [Node("Gather", ["r", "i"], ["g"], axis=0), Node("Gather", ["g", "i"], ["h"], axis=1)]
    data = model(*twice, Node("Relu", ["x"], ["y"]), weights={"r": row, "i": np.zeros(400, np.int64)})
    assert check_model(bytes(data.SerializeToString())).passed
    assert 0 < largest[0] <= MAX_CONTENT


def test_constants_beyond_half_of_the_budget_are_known_by_their_span_alone() -> None:
    """A quantized network has thousands of rows of zero points, with which nothing is computed."""
    count = MAX_FOLLOWED // MAX_CONTENT
    weights = {f"z{at}": np.arange(MAX_CONTENT, dtype=np.int64) for at in range(count)}
    assert check_model(bytes(model(Node("Relu", ["x"], ["y"]), weights=weights).SerializeToString())).passed


def test_nodes_that_take_each_others_values_by_the_million_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(memory, "_block", never)
    steps = [Step(1, 0, set(range(max(0, at - 200), at))) for at in range(4000)]
    assert peak(steps) == 4000


def test_a_scan_of_as_many_inputs_as_there_are_numbers_is_refused() -> None:
    body = helper.make_graph([Node("Relu", ["r"], ["t"])], "b", [helper.make_tensor_value_info("r", 1, None)],
                             [helper.make_tensor_value_info("t", 1, None)])  # fmt: skip
    scan = Node("Scan", ["x"], ["y"], body=body, num_scan_inputs=(1 << 63) - 1)
    assert not check_model(bytes(model(scan).SerializeToString())).passed


def test_a_budget_counts_nodes_values_and_numbers() -> None:
    budget = Budget()
    known = values.with_content(values.made(7, values.fixed(3)), values.content_of([(1, 1)] * 3))
    budget.follow([known, None])
    assert budget.units == MAX_FOLLOWED - 5
    budget.join([known, known])
    assert budget.units == MAX_FOLLOWED - 5 - 8 - 6
    for _ in range(MAX_EXPANDED):
        budget.node()
    with pytest.raises(OnnxError) as refusal:
        budget.node()
    assert refusal.value.code is OnnxCode.EXPANSION
    with pytest.raises(OnnxError) as refusal:
        budget.take(MAX_FOLLOWED)
    assert refusal.value.code is OnnxCode.FOLLOWED


def test_ordinary_models_take_a_tenth_of_it_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    least, take = [MAX_FOLLOWED], Budget.take

    def seen(self: Budget, units: int) -> None:
        take(self, units)
        least[0] = min(least[0], self.units)

    monkeypatch.setattr(Budget, "take", seen)
    for name in itertools.islice(ALL, 0, None, 5):
        check_model(ordinary(name))
    assert MAX_FOLLOWED * 9 // 10 < least[0] < MAX_FOLLOWED


def test_the_hostile_models_of_the_budget_are_refused_by_it(counted: Counted) -> None:
    for sentence in ("two thousand sums of four hundred numbers", "a loop of ten thousand states, followed two hundred times"):  # fmt: skip # noqa: E501
        assert check_model(made(sentence)).findings[0].code is OnnxCode.FOLLOWED
    assert counted.numbers <= 2 * MAX_FOLLOWED
    assert counted.nodes < MAX_NODES


def test_a_grid_keeps_to_the_part_of_the_budget_in_which_constants_are_known() -> None:
    """A scarce budget forgets what constants hold, by which graphs are bounded: then no point would be of use."""
    budget = Budget(MAX_NODES)
    budget.take(20_000)
    points = grid_points(budget)
    assert points > 10
    for _ in range(points - 1):
        budget.take(20_000)
    assert not budget.scarce
