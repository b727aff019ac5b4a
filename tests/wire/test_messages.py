"""Message bodies: tensors survive, and any bytes are a body or refused."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from attestation.errors import WireCode
from attestation.wire.messages import DTYPES, MAX_HEADER, decode_body, encode_body
from manifests import canonical
from tests.wire.kit import outcome, refusal

ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: stn.arrays(DTYPES[name], stn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), ARRAYS, max_size=3), st.integers(0, 9))
def test_tensors_arrive_bit_for_bit(tensors, number):
    body = decode_body(encode_body({"op": "infer", "id": number}, tensors))
    assert body.header == {"op": "infer", "id": number}
    arrays = body.arrays()
    assert list(arrays) == list(tensors)
    for name, array in tensors.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
        assert not arrays[name].flags.writeable


def test_text_arrives_in_its_shape():
    array = np.array([["a", "bc"], ["", "ü"]])
    assert decode_body(encode_body({}, {"t": array})).arrays()["t"].tolist() == array.tolist()


def test_a_tensor_is_not_copied_out_of_its_message():
    content = memoryview(encode_body({}, {"x": np.arange(100.0)}))
    assert np.shares_memory(decode_body(content).arrays()["x"], np.frombuffer(content, np.uint8))


def test_a_dtype_that_cannot_travel_is_refused():
    assert refusal(encode_body, {}, {"z": np.zeros(2, np.complex64)}) is WireCode.MESSAGE_MALFORMED


def _body(specs, tail=b"", **header):
    head = canonical.encode({**header, "tensors": specs})
    return struct.pack(">I", len(head)) + head + tail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\1",
        b"\0\0\0\1\x90",
        struct.pack(">I", MAX_HEADER + 1) + bytes(MAX_HEADER + 1),
        b"\0\0\0\1\x80x",
        b"\0\0\0\7\x82\xa1a\1\xa1a\1",
        _body("none"),
        _body([["x", "float32", [1]]]),
        _body([["x", "complex64", [1], 8]], bytes(8)),
        _body([["x", "float32", [2], 4]], bytes(4)),
        _body([["x", "float32", [-1], 4]], bytes(4)),
        _body([["x", "float32", [1] * 17, 4]], bytes(4)),
        _body([["x", "float32", [1], 4]], bytes(3)),
        _body([["x", "float32", [1], 4]], bytes(5)),
        _body([["x", "float32", [1], 4], ["x", "float32", [1], 4]], bytes(8)),
        _body([["", "float32", [1], 4]], bytes(4)),
        _body([["x", "string", [5], 4]], bytes(4)),
        _body([["x", "float32", [1 << 62, 0], 0]] * 1025),
        _body([["x", "float32", [1 << 40, 1 << 40], 4]], bytes(4)),
    ],
)
def test_a_body_of_another_form_is_refused(content):
    assert refusal(decode_body, content) is WireCode.MESSAGE_MALFORMED


def test_deep_nesting_is_refused():
    head = b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0"
    assert refusal(decode_body, struct.pack(">I", len(head)) + head) is WireCode.MESSAGE_MALFORMED


def test_huge_axes_around_an_empty_one_are_refused():
    for shape in ([0, 1 << 62], [0, 1 << 31, 1 << 31], [1 << 41, 0]):
        assert refusal(decode_body, _body([["x", "float32", shape, 0]])) is WireCode.MESSAGE_MALFORMED


def test_a_truth_value_that_is_neither_is_refused():
    body = decode_body(_body([["x", "bool", [2], 2]], b"\1\2"))
    assert refusal(body.arrays) is WireCode.MESSAGE_MALFORMED


@pytest.mark.parametrize("value", [np.array([1, "a"], object), np.array(["\ud800"])])
def test_objects_that_are_no_text_never_travel(value):
    assert refusal(encode_body, {}, {"x": value}) is WireCode.MESSAGE_MALFORMED


def test_a_header_outside_the_canonical_subset_never_travels():
    assert refusal(encode_body, {"x": {1: 2}}) is WireCode.MESSAGE_MALFORMED


@given(st.binary(min_size=2, max_size=120))
def test_any_text_tensor_is_read_or_refused(data):
    result = outcome(decode_body(_body([["t", "string", [1], len(data)]], data)).arrays)
    assert result is WireCode.MESSAGE_MALFORMED or result["t"].shape == (1,)


@pytest.mark.parametrize("size", [15, 16, 70_000])
def test_text_tensors_of_every_header_arrive(size):
    array = np.array([str(number) for number in range(size)], object)
    assert decode_body(encode_body({}, {"t": array})).arrays()["t"].tolist() == array.tolist()


@pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\x00", b"\xa0"])
def test_a_text_tensor_of_more_elements_than_its_shape_costs_nothing(item):
    many = (1 << 20) - 5
    body = decode_body(_body([["t", "string", [1], many + 5]], b"\xdd" + struct.pack(">I", many) + item * many))
    assert _peak(body.arrays) < 1 << 16


@pytest.mark.parametrize("data", [b"\x92\xa1a\x80", b"\x92\xa1a\x91\xa1b", b"\x92\xa1a\xd9\x01b", b"\x92\xa1a\xa1bc"])
def test_a_text_tensor_of_other_things_is_refused(data):
    assert refusal(decode_body(_body([["t", "string", [2], len(data)]], data)).arrays) is WireCode.MESSAGE_MALFORMED


def test_a_text_tensor_is_announced_no_larger_than_its_elements_can_be():
    size = 2 << 20
    assert refusal(decode_body, _body([["t", "string", [1], size]], bytes(size))) is WireCode.MESSAGE_MALFORMED


@pytest.mark.parametrize("item", [b"\x80", b"\x90"])
@pytest.mark.parametrize("count", [MAX_HEADER - 64, canonical.MAX_CONTAINERS])
def test_a_header_of_nothing_but_containers_is_refused_while_it_is_read(item, count):
    head = b"\x81\xa1a\xdd" + struct.pack(">I", count) + item * count
    assert _peak(lambda: decode_body(struct.pack(">I", len(head)) + head)) < 4 << 20


def _peak(function):
    """Bytes that a refused call takes at most."""
    tracemalloc.start()
    try:
        assert outcome(function) is WireCode.MESSAGE_MALFORMED
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**63) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
SPECS = st.lists(
    st.tuples(
        st.text("xy", max_size=2),
        st.sampled_from([*DTYPES, "string", "float8"]),
        st.lists(st.integers(-1, 2**63 - 1) | st.integers(0, 4), max_size=3),
        st.integers(-1, 40),
    ).map(list)
    | VALUES,
    max_size=3,
)


@given(st.binary(max_size=200) | st.builds(_body, SPECS | VALUES, st.binary(max_size=60)))
def test_any_bytes_are_a_body_or_refused(content):
    body = outcome(decode_body, content)
    if body is not WireCode.MESSAGE_MALFORMED:
        arrays = outcome(body.arrays)
        assert arrays is WireCode.MESSAGE_MALFORMED or set(arrays) == {spec.name for spec in body.specs}
