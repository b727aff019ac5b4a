"""The table [graph] of a model manifest: what it reads, what it changes, and what it never allows."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxCode
from manifests.onnx.permits import GraphPermits
from tests.manifests.small import OWNER
from tests.modelcheck.hostile import Node, model
from tests.modelcheck.hostile import made as hostile
from tests.modelcheck.ordinary import made, value


def manifest(
    graph: dict[str, Any] | None = None,
    dtype: str = "float32",
    shape: tuple[Any, ...] = ("n", 4),
    maximum: int = 64,
    **more: Any,
) -> ModelManifest:
    tensor = {"name": "x", "dtype": dtype, "shape": list(shape), **more}
    axes = {"n": {"minimum": 1, "maximum": maximum}} if "n" in shape else {}
    table = {"name": "m", "version": "1", "epoch": 1, "owner": OWNER.public, "axes": axes, "inputs": [tensor]}
    output = {key: tensor[key] for key in ("dtype", "shape")} | {"name": "y"}
    return ModelManifest.from_map({**table, "outputs": [output], **({} if graph is None else {"graph": graph})})


def codes(data: bytes, *arguments: Any, **options: Any) -> list[OnnxCode]:
    report = check_model(data, manifest=manifest(*arguments, **options))
    return [finding.code for finding in report.findings]


FULL = {
    "operators": ["ai.onnx:ImageDecoder", "com.microsoft:Gelu"],
    "max_memory": 1 << 20,
    "max_work": 1 << 30,
    "max_iterations": 7,
    "bounds": {"boxes": 9},
}


def test_a_full_table_comes_back_from_both_forms() -> None:
    described = manifest(FULL)
    assert described.graph is not None
    assert described.graph.to_map() == FULL
    assert ModelManifest.decode(described.encode()) == described
    assert ModelManifest.from_toml(described.to_toml(), owner=OWNER.public) == described


def test_a_manifest_without_the_table_is_written_as_before() -> None:
    assert "graph" not in manifest().to_map()
    assert manifest().graph is None
    assert "[graph]" not in manifest().to_toml()


BROKEN: dict[str, dict[str, Any]] = {
    "says nothing": {},
    "has a field that nobody knows": {"max_memroy": 1},
    "names an operator without its domain": {"operators": ["Gelu"]},
    "names operators out of order": {"operators": ["b:A", "a:A"]},
    "names an operator twice": {"operators": ["a:A", "a:A"]},
    "allows no memory": {"max_memory": 0},
    "allows a fraction of an operation": {"max_work": 0.5},
    "bounds a value below zero": {"bounds": {"a": -1}},
    "bounds too many values": {"bounds": {f"v{at}": 1 for at in range(2000)}},
    "names too many operators": {"operators": [f"a:A{at:04}" for at in range(300)]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_is_refused_that(name: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest(BROKEN[name])
    assert caught.value.code is ManifestCode.FIELD_INVALID


def test_a_named_operator_passes_once_its_size_is_bounded() -> None:
    data = model(Node("Gelu", ["x"], ["y"], domain="com.microsoft")).SerializeToString()
    named = {"operators": ["com.microsoft:Gelu"]}
    assert codes(data) == [OnnxCode.OPERATOR]
    assert codes(data, named) == [OnnxCode.UNBOUNDED]
    assert codes(data, {**named, "bounds": {"y": 256}}) == []


def test_no_manifest_allows_an_operator_that_loads_code() -> None:
    data = hostile("an operator that loads compiled code")
    assert codes(data, {"operators": ["com.microsoft:EPContext"]}) == [OnnxCode.OPERATOR_NEVER]


def test_iterations_are_the_owners_word() -> None:
    data = hostile("a loop without an end")
    assert codes(data, {"max_iterations": 100}) == []
    assert codes(data, {"max_iterations": 1 << 31, "max_work": 1 << 30}) == [OnnxCode.WORK]


def test_limits_are_those_of_the_manifest() -> None:
    data = model(Node("MatMul", ["x", "w"], ["y"]), weights={"w": [[1.0] * 4] * 4}).SerializeToString()
    assert OnnxCode.MEMORY in codes(data, {"max_memory": 100})
    assert codes(data, {"max_work": 100}) == [OnnxCode.WORK]


def test_smaller_axes_make_a_request_cheaper() -> None:
    data = hostile("a Tile of a million million times")
    assert codes(data) == [OnnxCode.MEMORY, OnnxCode.WORK]
    costs = [check_model(made("a transformer"), manifest=tokens(most)).cost for most in (8, 64, 512)]
    memory = [cost.memory for cost in costs if cost is not None]
    assert memory == sorted(memory)
    assert memory[0] * 100 < memory[2]


def tokens(most: int) -> ModelManifest:
    tensor = {"name": "tokens", "dtype": "int64", "shape": ["batch", "steps"]}
    return ModelManifest.from_map(
        {
            "name": "m", "version": "1", "epoch": 1, "owner": OWNER.public,
            "axes": {name: {"minimum": 1, "maximum": most} for name in ("batch", "steps")},
            "inputs": [tensor], "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", "steps", 64]}],
        }
    )  # fmt: skip


def test_the_bytes_of_a_request_bound_its_axes() -> None:
    data = model(Node("MatMul", ["x", "w"], ["y"]), weights={"w": [[1.0] * 4] * 4}).SerializeToString()
    cost = check_model(data, manifest=manifest(maximum=1 << 31)).cost
    assert cost is not None
    assert cost.memory < 200 << 20


DIVISION = model(
    Node("Div", ["x", "d"], ["y"]), inputs=(value("x", ["n"], 7),), weights={"d": [-1]}
).SerializeToString()


def test_a_range_in_the_manifest_lets_a_division_pass() -> None:
    assert codes(DIVISION, None, "int64", ("n",)) == [OnnxCode.DIVISION]
    assert codes(DIVISION, None, "int64", ("n",), minimum=-5) == []


@pytest.mark.parametrize("guard", ["Max", "Clip"])
def test_a_guard_in_the_graph_lets_a_division_pass(guard: str) -> None:
    nodes = [Node(guard, ["d", "one"], ["e"]), Node("Div", ["x", "e"], ["y"])]
    inputs = (value("x", ["n"], 7), value("d", ["n"], 7))
    data = model(*nodes, inputs=inputs, weights={"one": 1}).SerializeToString()
    assert check_model(data).passed
    bare = model(Node("Div", ["x", "d"], ["y"]), inputs=inputs).SerializeToString()
    assert [finding.code for finding in check_model(bare).findings] == [OnnxCode.DIVISION]


def test_a_manifest_that_describes_other_inputs_is_refused() -> None:
    assert codes(model().SerializeToString(), None, "int64") == [OnnxCode.INTERFACE]


def test_the_defaults_are_stated() -> None:
    assert (GraphPermits().memory, GraphPermits().work) == (8 << 30, 10**14)
