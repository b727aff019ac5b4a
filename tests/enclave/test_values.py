"""The values that inputs may hold: subnormal and whole numbers, sets, features, positions, characters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.errors import EnclaveError
from manifests.errors import ManifestError
from tests.enclave.test_validate import body, code_of, field, manifest, plan

SMALLEST = {"float16": 5.960464477539063e-08, "float32": 1.401298464324817e-45, "float64": 5e-324}


def refusal_of(checked: Any, **tensors: Any) -> EnclaveError:
    with pytest.raises(EnclaveError) as refusal:
        checked.check(body(**tensors))
    return refusal.value


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_subnormal_numbers_pass_only_where_the_manifest_admits_them(dtype: str) -> None:
    least_normal = float(np.finfo(dtype).tiny)
    greatest_subnormal = np.nextafter(np.array(least_normal, dtype), np.array(0, dtype))
    strict, lenient = plan(field(dtype, ["n"])), plan(field(dtype, ["n"], allow_subnormal=True))
    strict.check(body(x=np.array([0.0, -0.0, least_normal, -least_normal], dtype)))
    for value in (SMALLEST[dtype], -SMALLEST[dtype], greatest_subnormal, -greatest_subnormal):
        assert code_of(strict, x=np.array([1.0, value], dtype)) == "tensor-subnormal"
        lenient.check(body(x=np.array([1.0, value], dtype)))


def test_bounds_do_not_hide_subnormal_numbers() -> None:
    ranged = plan(field("float32", ["n"], minimum=0.0, maximum=1.0))
    assert code_of(ranged, x=np.array([1e-40], np.float32)) == "tensor-subnormal"


def test_nan_and_infinity_are_no_subnormal_numbers() -> None:
    checked = plan(field("float32", ["n"], allow_nan=True, allow_infinity=True))
    checked.check(body(x=np.array([np.nan, np.inf, -np.inf], np.float32)))


def test_whole_numbers_are_asked_of_floats() -> None:
    whole = plan(field("float64", ["n"], whole=True, allow_nan=True))
    whole.check(body(x=np.array([-3.0, 0.0, np.nan, 1e300])))
    assert code_of(whole, x=np.array([1.5])) == "tensor-value"
    assert code_of(whole, x=np.array([5e-324])) == "tensor-value"


@pytest.mark.parametrize(
    ("dtype", "values", "good", "bad"),
    [
        ("int64", [-1, 3, 1 << 62], [3, -1, 1 << 62], [2]),
        ("uint64", [0, (1 << 64) - 1], [(1 << 64) - 1], [1]),
        ("float32", [0.1, 2.0], [0.1, 2.0], [0.3]),
        ("float32", [0.0], [-0.0], [1.0]),
        ("float64", [0.0, 1.0], [0.0], [np.inf]),
    ],
)
def test_a_set_of_values_is_exact(dtype: str, values: list[Any], good: list[Any], bad: list[Any]) -> None:
    chosen = plan(field(dtype, ["n"], values=values, **({"allow_infinity": True} if bad == [np.inf] else {})))
    chosen.check(body(x=np.array(good, dtype)))
    chosen.check(body(x=np.array([], dtype)))
    assert code_of(chosen, x=np.array([*good, *bad], dtype)) == "tensor-category"


def test_nan_is_no_category_but_passes_where_it_is_admitted() -> None:
    chosen = plan(field("float32", ["n"], values=[0.0, 1.0], allow_nan=True))
    chosen.check(body(x=np.array([np.nan, 1.0], np.float32)))
    assert code_of(chosen, x=np.array([np.nan, 0.5], np.float32)) == "tensor-category"


def test_words_of_a_set_are_the_only_texts() -> None:
    chosen = plan(field("string", ["n"], values=["no", "yes"]))
    chosen.check(body(x=np.array(["yes", "no"], object)))
    refusal = refusal_of(chosen, x=np.array(["yes", "maybe"], object))
    assert (refusal.code, refusal.field) == ("tensor-category", "x")
    assert "'no', 'yes'" in refusal.message
    assert "maybe" not in refusal.message


FEATURES = [
    {"index": 0, "name": "age", "minimum": 0.0, "maximum": 120.0},
    {"index": 1, "minimum": 0.1},
    {"index": 2, "name": "sex", "values": [0.0, 1.0]},
    {"index": 4, "maximum": -0.1},
]


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_each_feature_has_its_own_range_or_set() -> None:
    checked = plan(field("float32", ["n", 5], features=FEATURES))
    checked.check(body(x=row(0, 0.1, 1, 1e30, -0.1)))
    checked.check(body(x=np.zeros((0, 5), np.float32)))
    for wrong, code, words in (
        (row(-1, 0.1, 1, 0, -1), "tensor-value", "at position 0 (age) must hold values between 0.0 and 120.0"),
        (row(121, 0.1, 1, 0, -1), "tensor-value", "at position 0 (age)"),
        (row(1, 0.0999, 1, 0, -1), "tensor-value", "at position 1 must hold no value below 0.1"),
        (row(1, 0.1, 0.5, 0, -1), "tensor-category", "at position 2 (sex) must hold one of 0.0, 1.0"),
        (row(1, 0.1, 1, 0, 0), "tensor-value", "at position 4 must hold no value above -0.1"),
    ):
        refusal = refusal_of(checked, x=np.concatenate([row(1, 1, 1, 1, -1), wrong]))
        assert (refusal.code, refusal.field) == (code, "x")
        assert words in refusal.message


def test_features_of_integers_are_exact_at_the_ends_of_their_type() -> None:
    most = (1 << 64) - 1
    features = [{"index": 0, "minimum": most}, {"index": 1, "maximum": most - 1}]
    checked = plan(field("uint64", ["n", 3], features=features))
    checked.check(body(x=np.array([[most, most - 1, most]], np.uint64)))
    assert code_of(checked, x=np.array([[most - 1, 0, 0]], np.uint64)) == "tensor-value"
    assert code_of(checked, x=np.array([[most, most, 0]], np.uint64)) == "tensor-value"


def test_nan_lies_beyond_no_feature_where_it_is_admitted() -> None:
    checked = plan(field("float32", ["n", 5], features=FEATURES, allow_nan=True))
    checked.check(body(x=row(np.nan, np.nan, np.nan, np.nan, np.nan)))
    strict = plan(field("float32", ["n", 5], features=FEATURES))
    assert code_of(strict, x=row(np.nan, 1, 1, 1, -1)) == "tensor-not-finite"


def test_a_bound_beyond_the_type_admits_what_ieee_754_says() -> None:
    above = plan(field("float16", ["n", 1], features=[{"index": 0, "maximum": 1e9}]))
    above.check(body(x=np.array([[65504.0]], np.float16)))
    below = plan(field("float16", ["n", 1], features=[{"index": 0, "minimum": 1e9}]))
    assert code_of(below, x=np.array([[65504.0]], np.float16)) == "tensor-value"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3, width=32), st.sampled_from(["minimum", "maximum"]))
def test_a_feature_compares_as_exact_numbers_do(bound: float, value: float, end: str) -> None:
    checked = plan(field("float32", ["n", 1], allow_subnormal=True, features=[{"index": 0, end: bound}]))
    if value >= bound if end == "minimum" else value <= bound:
        checked.check(body(x=row(value)))
    else:
        assert code_of(checked, x=row(value)) == "tensor-value"


def test_words_of_a_feature_are_the_only_texts_there() -> None:
    checked = plan(field("string", ["n", 2], features=[{"index": 1, "name": "ward", "values": ["north", "south"]}]))
    checked.check(body(x=np.array([["anything", "south"]], object)))
    assert code_of(checked, x=np.array([["south", "anything"]], object)) == "tensor-category"


def test_positions_stay_within_the_axis_that_they_count_along() -> None:
    checked = plan(field("float32", ["n"], name="x"), field("int64", ["m"], name="at", below_axis="n"))
    values = np.zeros(3, np.float32)
    checked.check(body(x=values, at=np.array([0, 2], np.int64)))
    for wrong in ([3], [-1], [0, 1 << 62]):
        refusal = refusal_of(checked, x=values, at=np.array(wrong, np.int64))
        assert (refusal.code, refusal.field) == ("tensor-value", "at")
    assert code_of(checked, x=np.zeros(0, np.float32), at=np.array([0], np.int64)) == "tensor-value"


@pytest.mark.parametrize(
    ("characters", "good", "bad"),
    [
        (
            "text",
            ["Grüße\n\t\r", "日本語 👩\u200d⚕️", ""],
            ["\x00", "a\x1b[2J", "\x7f", "\x85", "\u202egnp.exe", "\u2066"],
        ),
        ("ascii", ["plain\n", "~", " "], ["é", "\x00", "\u2028", "\x7f"]),
        ("any", ["\x00\u202e"], []),
    ],
)
def test_characters_are_those_of_the_manifest(characters: str, good: list[str], bad: list[str]) -> None:
    checked = plan(field("string", ["n"], characters=characters))
    for text in good:
        checked.check(body(x=np.array([text], object)))
    for text in bad:
        assert code_of(checked, x=np.array(["fine", text], object)) == "tensor-text"


def test_texts_have_a_least_length_where_the_manifest_says_so() -> None:
    checked = plan(field("string", ["n"], min_text=2, max_text=4))
    checked.check(body(x=np.array(["ab", "é"], object)))
    assert code_of(checked, x=np.array(["a"], object)) == "tensor-value"


def test_the_promises_survive_the_sealed_form_and_the_owners_text() -> None:
    written = manifest(
        [
            field("float32", ["n", 5], features=FEATURES, whole=True),
            field("int64", ["m"], name="at", below_axis="n"),
            field("string", [1], name="word", values=["no", "yes"], characters="ascii", min_text=2),
            field("float64", [1], name="tiny", allow_subnormal=True),
        ]
    )
    assert type(written).decode(written.encode()) == written
    assert type(written).from_toml(written.to_toml()) == written


@pytest.mark.parametrize(
    "wrong",
    [
        field("float32", ["n"], features=[{"index": 0}]),
        field("float32", ["n", 2], features=[{"index": 2}]),
        field("float32", ["n", 2], features=[{"index": 1}, {"index": 0}]),
        field("float32", ["n", 2], features=[{"index": 1}, {"index": 1}]),
        field("float32", ["n", 2], features=[{"index": 0, "minimum": 2.0, "maximum": 1.0}]),
        field("float32", ["n", 2], features=[{"index": 0, "minimum": 2.0, "values": [1.0]}]),
        field("bool", ["n", 2], features=[{"index": 0, "minimum": 1}]),
        field("float32", ["n"], values=[2.0, 1.0]),
        field("float32", ["n"], values=[1e39]),
        field("float32", ["n"], values=["one"]),
        field("int8", ["n"], values=[128]),
        field("int8", ["n"], whole=True),
        field("int8", ["n"], allow_subnormal=True),
        field("int8", ["n"], characters="ascii"),
        field("string", ["n"], characters="latin"),
        field("int8", ["n"], min_text=1),
        field("string", ["n"], min_text=9, max_text=8),
        field("float32", ["n"], below_axis="n"),
        field("int8", ["n"], below_axis="nowhere"),
        field("int8", [2], below_axis="n"),
    ],
    ids=str,
)
def test_promises_that_make_no_sense_are_refused_when_the_manifest_is_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as refusal:
        manifest([wrong])
    assert refusal.value.code in {"field-invalid", "manifest-invalid"}


@pytest.mark.parametrize("name", ["values", "features", "below_axis", "whole", "characters"])
def test_outputs_make_no_promises(name: str) -> None:
    with pytest.raises(ManifestError) as refusal:
        manifest([field("int8", [1])], outputs=[field("float32", ["n", 2], **{name: []})])
    assert refusal.value.code == "field-invalid"
