"""Requests against manifests: dtypes, shared axes, text, sizes; and the steps before and after inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attestation.errors import WireError
from attestation.wire.messages import Body, decode_body, encode_body
from enclave.errors import EnclaveError
from enclave.process import compile_post, compile_pre, run_steps
from enclave.validate import RequestPlan
from manifests.model import ModelManifest
from manifests.signing import Signer

OWNER = Signer.generate().public
AXES = {"n": {"minimum": 0, "maximum": 4}, "m": {"minimum": 1, "maximum": 3}}


def manifest(inputs: list[dict[str, Any]], **more: Any) -> ModelManifest:
    outputs = more.pop("outputs", [{"name": "y", "dtype": "float32", "shape": [1]}])
    table = {"name": "t", "version": "1", "epoch": 1, "owner": OWNER, "axes": AXES, "inputs": inputs}
    return ModelManifest.from_map({**table, "outputs": outputs, **more})


def plan(*inputs: dict[str, Any], **more: Any) -> RequestPlan:
    return RequestPlan.compile(manifest(list(inputs), **more))


def body(**tensors: Any) -> Body:
    return decode_body(encode_body({}, {name: np.asarray(value) for name, value in tensors.items()}))


def field(dtype: str, shape: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": more.pop("name", "x"), "dtype": dtype, "shape": shape, **more}


def code_of(checked: RequestPlan, **tensors: Any) -> str:
    with pytest.raises(EnclaveError) as refusal:
        checked.check(body(**tensors))
    return str(refusal.value.code)


def test_axes_of_one_name_have_one_length_across_tensors() -> None:
    both = plan(field("int8", ["n", 2], name="a"), field("int8", ["n"], name="b"))
    both.check(body(a=np.zeros((3, 2), np.int8), b=np.zeros(3, np.int8)))
    with pytest.raises(EnclaveError) as refusal:
        both.check(body(a=np.zeros((3, 2), np.int8), b=np.zeros(2, np.int8)))
    assert refusal.value.code == "tensor-shape"
    assert refusal.value.field == "b"
    assert "'n'" in refusal.value.message


def test_the_missing_input_is_named() -> None:
    both = plan(field("int8", [1], name="a"), field("int8", [1], name="b"))
    with pytest.raises(EnclaveError) as refusal:
        both.check(body(a=np.zeros(1, np.int8)))
    assert (refusal.value.code, refusal.value.field) == ("tensor-name", "b")


def test_the_inputs_together_are_bounded() -> None:
    small = plan(field("int8", ["n"], name="a"), field("int8", ["n"], name="b"), limits={"max_request_bytes": 7})
    small.check(body(a=np.zeros(3, np.int8), b=np.zeros(3, np.int8)))
    assert code_of(small, a=np.zeros(4, np.int8), b=np.zeros(4, np.int8)) == "request-too-large"


@pytest.mark.parametrize(
    ("dtype", "low", "high", "good", "bad"),
    [
        ("int64", -5, 5, [-5, 5], [6]),
        ("int64", None, (1 << 63) - 2, [(1 << 63) - 2], [(1 << 63) - 1]),
        ("uint64", None, (1 << 64) - 2, [(1 << 64) - 2], [(1 << 64) - 1]),
        ("uint8", 1, None, [1, 255], [0]),
        ("float32", 0.0, 1.0, [0.0, 1.0], [-1e-9]),
        ("float64", None, 1.0, [-1e300, 1.0], [1.0000000000000002]),
        ("float16", -1.0, None, [-1.0], [-1.001]),
    ],
)
def test_ranges_are_exact_at_their_ends(dtype: str, low: Any, high: Any, good: list[Any], bad: list[Any]) -> None:
    ends = {name: value for name, value in (("minimum", low), ("maximum", high)) if value is not None}
    ranged = plan(field(dtype, ["n"], **ends))
    ranged.check(body(x=np.array(good, dtype)))
    ranged.check(body(x=np.array([], dtype)))
    assert code_of(ranged, x=np.array(bad, dtype)) == "tensor-value"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("allowed", "value", "accepted"),
    [
        ({}, np.nan, False),
        ({}, np.inf, False),
        ({"allow_nan": True}, np.nan, True),
        ({"allow_nan": True}, -np.inf, False),
        ({"allow_infinity": True}, np.inf, True),
        ({"allow_infinity": True}, np.nan, False),
        ({"allow_nan": True, "allow_infinity": True}, np.nan, True),
        ({"allow_nan": True, "allow_infinity": True}, np.inf, True),
    ],
)
def test_nan_and_infinity_pass_only_where_the_manifest_admits_them(
    dtype: str, allowed: dict[str, bool], value: float, *, accepted: bool
) -> None:
    checked = plan(field(dtype, ["n"], **allowed))
    if accepted:
        checked.check(body(x=np.array([1, value], dtype)))
    else:
        assert code_of(checked, x=np.array([1, value], dtype)) == "tensor-not-finite"


def test_a_range_with_nan_admitted_looks_at_the_other_values() -> None:
    ranged = plan(field("float32", ["n"], allow_nan=True, minimum=0.0, maximum=1.0))
    ranged.check(body(x=np.array([np.nan, 0.5], np.float32)))
    assert code_of(ranged, x=np.array([np.nan, 2.0], np.float32)) == "tensor-value"
    assert code_of(ranged, x=np.array([-2.0, np.nan], np.float32)) == "tensor-value"


def test_bytes_that_are_neither_true_nor_false_are_refused() -> None:
    checked = plan(field("bool", ["n"]))
    checked.check(body(x=np.array([True, False])))
    with pytest.raises(WireError, match="truth value"):
        checked.check(body(x=np.array([1, 2], np.uint8).view(np.bool_)))


def test_texts_are_bounded_in_bytes_each() -> None:
    checked = plan(field("string", ["n"], max_text=4))
    checked.check(body(x=np.array(["", "abcd", "éé"], object)))
    assert code_of(checked, x=np.array(["abcde"], object)) == "tensor-value"
    assert code_of(checked, x=np.array(["ééé"], object)) == "tensor-value"


def test_arrays_are_aligned_whatever_the_length_of_the_header() -> None:
    checked = plan(field("float64", ["n"]))
    for length in range(16):
        content = encode_body({"pad": "p" * length}, {"x": np.arange(3.0)})
        (array,) = checked.check(decode_body(content)).values()
        assert array.flags.aligned
        assert array.tolist() == [0.0, 1.0, 2.0]


# ------------------------------------------------------------------------------------------ steps

FLOATS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    (3, 5),
    elements=st.floats(-1000, 1000, width=16),
)


def post(steps: list[dict[str, Any]], tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    outputs = [{"name": name, "dtype": value.dtype.name, "shape": list(value.shape)} for name, value in tensors.items()]
    return run_steps(compile_post(manifest([field("int8", [1])], outputs=outputs, post=steps, **more)), tensors)


@settings(derandomize=True, deadline=None)
@given(FLOATS, st.integers(1, 5))
def test_top_k_is_descending_with_equal_values_by_ascending_index(y: np.ndarray, k: int) -> None:
    result = post([{"kind": "top_k", "output": "y", "k": k}], {"y": y})
    for row, values, indices in zip(y, result["y_values"], result["y_indices"], strict=True):
        expected = sorted(range(5), key=lambda i: (-row[i], i))[:k]
        assert indices.tolist() == expected
        assert values.tolist() == row[expected].tolist()
    assert result["y_values"].dtype == y.dtype
    assert result["y_indices"].dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_top_k_orders_unsigned_and_negative_integers(dtype: Any) -> None:
    y = np.array([[3, 0, 200, 1, 200]]).astype(dtype)
    result = post([{"kind": "top_k", "output": "y", "k": 5}], {"y": y})
    assert result["y_indices"].tolist() == [sorted(range(5), key=lambda i: (-int(y[0, i]), i))]


@settings(derandomize=True, deadline=None)
@given(FLOATS)
def test_softmax_sums_to_one_in_its_own_type(y: np.ndarray) -> None:
    result = post([{"kind": "softmax", "output": "y", "axis": -1}], {"y": y})["y"]
    assert result.dtype == y.dtype
    assert np.allclose(result.astype(np.float64).sum(axis=1), 1, atol=1e-2 if y.dtype == np.float16 else 1e-5)
    assert (result[range(3), y.argmax(axis=1)] == result.max(axis=1)).all()


@settings(derandomize=True, deadline=None)
@given(FLOATS, st.integers(0, 15))
def test_rounding_keeps_the_type_and_never_overflows(y: np.ndarray, decimals: int) -> None:
    result = post([{"kind": "round", "output": "y", "decimals": decimals}], {"y": y})["y"]
    assert result.dtype == y.dtype
    assert np.isfinite(result).all()
    assert (np.abs(result.astype(np.float64) - y) <= 0.5 * 10.0**-decimals + np.abs(y) * 2.0**-9).all()


def test_rounding_leaves_values_alone_that_would_overflow() -> None:
    y = np.array([1e300, -1e300, np.inf, 0.125])
    result = post([{"kind": "round", "output": "y", "decimals": 15}], {"y": y})["y"]
    assert result.tolist() == y.tolist()


def test_labels_take_the_place_of_classes() -> None:
    y = np.array([1, 0])
    assert post([{"kind": "label", "output": "y"}], {"y": y}, labels=["no", "yes"])["y"].tolist() == ["yes", "no"]


@pytest.mark.parametrize("bad", [-1, 2])
def test_a_class_without_label_is_refused(bad: int) -> None:
    with pytest.raises(EnclaveError) as refusal:
        post([{"kind": "label", "output": "y"}], {"y": np.array([0, bad])}, labels=["no", "yes"])
    assert refusal.value.code == "inference-failed"


def test_label_only_drops_everything_else() -> None:
    tensors = {"y": np.array([[0.1, 0.9], [0.5, 0.5]], np.float32), "z": np.ones(2, np.float32)}
    step = [{"kind": "label_only", "output": "y"}]
    named = post(step, tensors, labels=["no", "yes"])
    assert {name: value.tolist() for name, value in named.items()} == {"label": ["yes", "no"]}
    numbered = post(step, tensors)
    assert numbered["label"].dtype == np.int64
    assert numbered["label"].tolist() == [1, 0]
    assert post([{"kind": "label_only", "output": "c"}], {"c": np.array([7], np.int8)})["label"].tolist() == [7]


def test_sigmoid_is_exact_at_the_ends_and_in_its_own_type() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        result = post([{"kind": "sigmoid", "output": "y"}], {"y": np.array([-1e4, 0, 1e4, np.nan], dtype)})["y"]
        assert result.dtype == dtype
        assert result[:3].tolist() == [0.0, 0.5, 1.0]
        assert np.isnan(result[3])


def test_argmax_takes_the_first_of_equals_and_drops_the_axis() -> None:
    y = np.array([[1, 3, 3], [2, 2, 0]], np.float32)
    result = post([{"kind": "argmax", "output": "y"}], {"y": y})["y"]
    assert (result.dtype, result.tolist()) == (np.int64, [1, 0])
    named = post(
        [{"kind": "argmax", "output": "y"}, {"kind": "label", "output": "y"}], {"y": y}, labels=["a", "b", "c"]
    )
    assert named["y"].tolist() == ["b", "a"]


def test_a_threshold_is_reached_at_its_very_number_and_never_by_nan() -> None:
    y = np.array([[0.5, 0.49, np.nan]], np.float32)
    result = post([{"kind": "threshold", "output": "y", "at": 0.5}], {"y": y})["y"]
    assert (result.dtype, result.tolist()) == (np.bool_, [[True, False, False]])
    each = post([{"kind": "threshold", "output": "y", "at": [0.6, 0.4, 0.0]}], {"y": y})["y"]
    assert each.tolist() == [[False, True, False]]
    steps = [{"kind": "threshold", "output": "y", "at": 0.5}, {"kind": "label", "output": "y"}]
    assert post(steps, {"y": y}, labels=["no", "yes"])["y"].tolist() == [["yes", "no", "no"]]


def test_select_keeps_some_in_order() -> None:
    tensors = {name: np.ones(1, np.float32) for name in "abc"}
    assert list(post([{"kind": "select", "outputs": ["c", "a"]}], tensors)) == ["c", "a"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scaling_is_done_in_the_tensors_own_type(dtype: str) -> None:
    inputs = [field(dtype, [2, 3])]
    steps = [{"kind": "scale", "input": "x", "mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]}]
    compiled = compile_pre(manifest(inputs, pre=steps))
    x = np.arange(6, dtype=dtype).reshape(2, 3)
    result = run_steps(compiled, {"x": x})["x"]
    assert result.dtype == np.dtype(dtype)
    assert result.tobytes() == ((x - np.array([1, 2, 3], dtype)) / np.array([2, 4, 8], dtype)).tobytes()


def test_a_cast_out_of_range_warns_nobody() -> None:
    compiled = compile_pre(manifest([field("float32", [2])], pre=[{"kind": "cast", "input": "x", "dtype": "int8"}]))
    assert run_steps(compiled, {"x": np.array([1e30, 1.5], np.float32)})["x"][1] == 1
