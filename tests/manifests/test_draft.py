"""A manifest is drafted from a graph, and a manifest that does not fit its graph is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from manifests.draft import check_graph, check_limits, draft_manifest, draft_toml, load_graph
from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.steps import Cast
from manifests.tensors import Axis, TensorField
from tests.manifests.graphs import doubling, graph, value
from tests.manifests.small import OWNER


def drafted(model: onnx.ModelProto) -> ModelManifest:
    return draft_manifest(model, owner=OWNER.public)


def test_initializers_are_no_inputs() -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4)
    model = graph([value("x", [4]), value("w", [4])], [value("y", [4])], initializers=[weight])
    assert drafted(model).inputs == (TensorField("x", "float32", (4,)),)


@pytest.mark.parametrize("dims", [(), ("N", 4), (0, 3), ("N", "M", 7), (1 << 23,)])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.STRING, TensorProto.BOOL])
def test_every_draft_admits_a_request(dims: tuple[Any, ...], dtype: int) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    check_limits(drafted(graph([value("x", dims, dtype)], [value("y", dims, dtype)], nodes=[node])))


DTYPES = {
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint64": TensorProto.UINT64,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_that_can_be_sent_is_named(dtype: str) -> None:
    manifest = drafted(graph([value("x", [2], DTYPES[dtype])], [value("y", [2], DTYPES[dtype])]))
    assert (manifest.inputs[0].dtype, manifest.outputs[0].dtype) == (dtype, dtype)
    assert manifest.inputs[0].max_text == (4096 if dtype == "string" else None)
    assert ModelManifest.from_toml(draft_toml(manifest)) == manifest


def test_dynamic_axes_get_names_and_bounds() -> None:
    model = graph(
        [value("ids", ["batch size", "seq", 3]), value("mask", [None, "seq"]), value("z", [0, -1])],
        [value("y", [None, "seq", "2*seq", "2-seq", None])],
    )
    manifest = drafted(model)
    batch, seq = Axis("batch_size", 1, 64), Axis("seq", 1, 1024)
    assert manifest.inputs[0].shape == (batch, seq, 3)
    assert manifest.inputs[1].shape == (Axis("batch", 1, 64), seq)
    assert manifest.inputs[2].shape == (Axis("batch", 1, 64), Axis("z_axis1", 1, 1024))
    assert manifest.outputs[0].shape == (
        batch,
        seq,
        Axis("2_seq", 1, 1024),
        Axis("2_seq__2", 1, 1024),
        Axis("y_axis4", 1, 1024),
    )


def test_the_draft_tells_its_owner_what_to_review() -> None:
    manifest = drafted(doubling(("N", "n m")))
    text = draft_toml(manifest, with_owner=False)
    assert text.startswith("# Drafted from the ONNX graph. Review it")
    assert "# Review: 'N' is a dynamic axis" in text
    assert "# Review: 'n_m' is a dynamic axis" in text
    assert "owner =" not in text
    assert ModelManifest.from_toml(text, owner=OWNER.public) == manifest


def test_limits_follow_from_the_bounds_up_to_16_mib() -> None:
    assert drafted(doubling(("N", 4))).limits.max_request_bytes == 64 * 4 * 4
    assert drafted(doubling(("a", "b", "c", "d"))).limits.max_request_bytes == 16 << 20
    assert drafted(doubling((1 << 23,))).limits.max_request_bytes == 1 << 25


def test_names_that_could_not_be_printed_are_made_printable() -> None:
    model = doubling()
    assert draft_manifest(model, owner=OWNER.public).name == "drawn"
    assert draft_manifest(model, owner=OWNER.public, suggested="a\n/" + "c" * 200).name == "a--" + "c" * 125
    assert draft_manifest(model, owner=OWNER.public, suggested="*").name == "-"


@pytest.mark.parametrize("name", ["", "a/b", "*", "a\nb", "c" * 129, 7])
def test_a_name_that_was_chosen_is_taken_as_it_is_or_refused(name: Any) -> None:
    with pytest.raises(ManifestError) as caught:
        draft_manifest(doubling(), owner=OWNER.public, name=name)
    assert caught.value.code is ManifestCode.FIELD_INVALID


def _sequence(name: str) -> Any:
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, [2])


def _map(name: str) -> Any:
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    return helper.make_value_info(name, kind)


UNSUPPORTED = {
    "a sequence": ([_sequence("x")], [value("y", [1])]),
    "a map as output": ([value("x", [1])], [_map("y")]),
    "an input without a type": ([onnx.ValueInfoProto(name="x")], [value("y", [1])]),
    "an input without a rank": ([value("x", None)], [value("y", [1])]),
    "a complex input": ([value("x", [1], TensorProto.COMPLEX64)], [value("y", [1])]),
    "a bfloat16 output": ([value("x", [1])], [value("y", [1], TensorProto.BFLOAT16)]),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_served_is_refused_with_a_way_out(case: str) -> None:
    with pytest.raises(ManifestError) as caught:
        drafted(graph(*UNSUPPORTED[case]))
    assert caught.value.code is ManifestCode.MODEL_UNSUPPORTED
    assert caught.value.remedy


@pytest.mark.parametrize("data", [b"", b"\x00", b"no model at all", b"\x08\x0a"])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    for model in (data, tmp_path / "m.onnx"):
        with pytest.raises(ManifestError) as caught:
            load_graph(model)
        assert caught.value.code is ManifestCode.MODEL_MALFORMED


def test_a_draft_fits_its_graph_also_with_tighter_axes_and_steps() -> None:
    model = doubling(("N", 4))
    manifest = drafted(model)
    check_graph(manifest, model)
    tighter = TensorField("x", "float32", (Axis("M", 2, 3), Axis("four", 4, 4)))
    check_graph(dataclasses.replace(manifest, inputs=(tighter,)), model)
    cast = dataclasses.replace(manifest, inputs=(TensorField("x", "uint8", (8, 4)),), pre=(Cast("x", "float32"),))
    check_graph(cast, model)


MISFITS = {
    "another input": {"inputs": (TensorField("z", "float32", (1, 4)),)},
    "one input more": {"inputs": (TensorField("x", "float32", (1, 4)), TensorField("z", "float32", (1,)))},
    "another dtype": {"inputs": (TensorField("x", "float64", (1, 4)),)},
    "another rank": {"inputs": (TensorField("x", "float32", (4,)),)},
    "another length": {"inputs": (TensorField("x", "float32", (1, 5)),)},
    "a dynamic axis that the graph fixes": {"inputs": (TensorField("x", "float32", (1, Axis("n", 1, 4))),)},
    "a cast too many": {"pre": (Cast("x", "int8"),)},
    "another output": {"outputs": (TensorField("z", "float32", (1, 4)),)},
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_manifest_that_does_not_fit_is_refused(case: str) -> None:
    model = doubling(("N", 4))
    with pytest.raises(ManifestError) as caught:
        check_graph(dataclasses.replace(drafted(model), **MISFITS[case]), model)
    assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_an_input_that_the_manifest_forgets_is_refused() -> None:
    model = graph([value("x", [1]), value("w", [1])], [value("y", [1])])
    manifest = drafted(model)
    with pytest.raises(ManifestError) as caught:
        check_graph(dataclasses.replace(manifest, inputs=manifest.inputs[:1]), model)
    assert caught.value.code is ManifestCode.MANIFEST_INVALID
    check_graph(manifest, model)
