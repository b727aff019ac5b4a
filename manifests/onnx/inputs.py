"""What is known of a model's inputs: from its manifest, or from the graph where there is none yet; and of constants."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from manifests.model import ModelManifest
from manifests.onnx import dtypes
from manifests.onnx.messages import Graph, Tensor, Type
from manifests.onnx.tensors import EXTERNAL, numbers
from manifests.onnx.values import (
    MAX_CONTENT,
    UNBOUNDED,
    Content,
    Interval,
    Value,
    fixed,
    made,
    with_content,
    with_span,
)
from manifests.tensors import DEFAULT_TEXT, Axis, TensorField
from manifests.values import FLOATS

DEFAULT_BATCH, DEFAULT_AXIS = 64, 1024
"""Bounds of a graph's own dynamic axes where no manifest says otherwise: those that a draft writes."""
MAX_FLOATS = 64
"""Floats that are followed one by one: factors of a Resize, ends of a Range."""
MAX_SPAN = 1 << 16
"""Integers of a constant whose least and greatest are looked up."""


def described(manifest: ModelManifest) -> dict[str, Value]:
    """Return the graph's inputs at the limits of its manifest, by name."""
    sent = {tensor.name: tensor for tensor in manifest.inputs}
    return {
        tensor.name: _described(tensor, _most_elements(tensor, sent.get(tensor.name), manifest))
        for tensor in manifest.graph_inputs()
    }


def _most_elements(tensor: TensorField, sent: TensorField | None, manifest: ModelManifest) -> int:
    """Return how many elements of a tensor, or bytes of its text, fit a request; a step that decodes makes others."""
    if sent is None or sent.shape != tensor.shape or sent.dtype == "string" != tensor.dtype:
        lengths = (axis.maximum if isinstance(axis, Axis) else axis for axis in tensor.shape)
        return math.prod(lengths)
    limit, dtype = manifest.limits.max_request_bytes, dtypes.BY_NAME[sent.dtype]
    return limit if dtype == dtypes.STRING else limit * 8 // dtypes.BITS[dtype]


def _described(tensor: TensorField, most: int) -> Value:
    dims = [(axis.minimum, axis.maximum) if isinstance(axis, Axis) else (axis, axis) for axis in tensor.shape]
    for at, (low, high) in enumerate(dims):
        others = math.prod(axis[0] for i, axis in enumerate(dims) if i != at)
        dims[at] = low, max(low, min(high, most // others)) if others and low < high else high
    dtype = dtypes.BY_NAME[tensor.dtype]
    value = made(dtype, tuple(dims), max(most, 1))
    if dtype == dtypes.STRING:
        longest = tensor.max_text or DEFAULT_TEXT
        text = min(value.elements * longest, most)
        return Value(dtype, value.dims, value.elements, text=text, longest=longest)
    return with_span(value, _span(tensor))


def _span(tensor: TensorField) -> Interval | None:
    if tensor.dtype == "bool":
        return 0, 1
    if tensor.minimum is None or tensor.maximum is None or tensor.allow_nan or tensor.allow_infinity:
        return _half(tensor) if tensor.dtype not in FLOATS else None
    return tensor.minimum, tensor.maximum


def _half(tensor: TensorField) -> Interval | None:
    low, high = dtypes.RANGES[dtypes.BY_NAME[tensor.dtype]]
    return (low if tensor.minimum is None else tensor.minimum), (high if tensor.maximum is None else tensor.maximum)


def assumed(graph: Graph) -> dict[str, Value]:
    """Return the graph's inputs as a drafted manifest would bound them."""
    given = {tensor.name for tensor in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    return {value.name: _assumed(value.type) for value in graph.input if value.name not in given}


def _assumed(kind: Type | None) -> Value:
    tensor = None if kind is None else kind.tensor_type
    if tensor is None or tensor.shape is None:
        return Value(dtypes.FLOAT if tensor is None else tensor.elem_type, None, UNBOUNDED)
    dims = []
    for at, dim in enumerate(tensor.shape.dim):
        if dim.dim_value is not None and dim.dim_value > 0:
            dims.append((dim.dim_value, dim.dim_value))
        else:
            dims.append((1, DEFAULT_BATCH if at == 0 else DEFAULT_AXIS))
    value = made(tensor.elem_type, tuple(dims))
    if tensor.elem_type != dtypes.STRING:
        return value
    text = value.elements * DEFAULT_TEXT
    return Value(value.dtype, value.dims, value.elements, text=text, longest=DEFAULT_TEXT)


def constant(tensor: Tensor) -> Value:
    """Return what is known of a tensor that the model brings along; its numbers only where it is small."""
    text = sum(map(len, tensor.string_data))
    value = made(tensor.data_type, fixed(*tensor.dims), text=text, constant=True)
    return value if tensor.data_location == EXTERNAL else _with_numbers(value, tensor)


def _with_numbers(value: Value, tensor: Tensor) -> Value:
    whole = value.dtype in dtypes.RANGES
    if not whole and (value.dtype not in {dtypes.FLOAT, dtypes.DOUBLE} or value.elements > MAX_FLOATS):
        return value
    found = numbers(tensor) if value.elements <= MAX_SPAN else None
    if found is None or found.size != value.elements or not found.size:
        return value if found is None or found.size else row_of([], value, tensor.dims)
    if value.elements > MAX_CONTENT:
        return with_span(value, (int(found.min()), int(found.max())))
    return row_of(found.tolist() if whole else [float(item) for item in found], value, tensor.dims)


def row_of(items: Iterable[float], value: Value, dims: tuple[int, ...]) -> Value:
    """Return a constant with these numbers."""
    row = np.array([None, *items], object)[1:].reshape(dims)
    return with_content(value, Content(row, row))
