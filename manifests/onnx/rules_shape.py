"""Operators that make and use shapes, and move elements without computing anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from manifests.onnx import dtypes
from manifests.onnx.bounds import MAX_RANK
from manifests.onnx.rules import Effect, Op, axis_of, rule
from manifests.onnx.rules_elementwise import like, spread
from manifests.onnx.tensors import numbers
from manifests.onnx.values import (
    MAX_CONTENT,
    UNBOUNDED,
    Content,
    Dims,
    Value,
    content_of,
    fixed,
    made,
    shapeless,
    unknown,
    upto,
    with_content,
    with_span,
)


def moved(value: Value, move: Callable[[np.ndarray], np.ndarray], out: Value) -> Value:
    """Return `out` with the numbers of `value` after the same move, where they are known."""
    if value.content is None or out.elements > MAX_CONTENT:
        return with_span(out, value.span)
    try:
        return with_content(out, Content(move(value.content.low), move(value.content.high)))
    except (ValueError, IndexError, TypeError):
        return out


def moving(op: Op, out: Value, move: Callable[[np.ndarray], np.ndarray]) -> Effect:
    """Return the effect of moving the elements of the first input."""
    first = op.value(0)
    text = first.text if first.elements >= out.elements else first.text * -(-out.elements // max(1, first.elements))
    return Effect([moved(first, move, replace(out, text=text, longest=first.longest))], out.elements)


@rule("Shape")
def _shape(op: Op) -> Effect:
    dims = op.value(0).dims
    if dims is None:
        return Effect([with_span(made(dtypes.INT64, ((0, MAX_RANK),)), (0, op.value(0).longest_axis))])
    start, end = op.integer("start", 0), op.integer("end", len(dims))
    part = list(dims[start:end])
    return Effect([with_content(made(dtypes.INT64, fixed(len(part))), content_of(part))])


@rule("Size")
def _size(op: Op) -> Effect:
    value = op.value(0)
    least = math.prod(low for low, _ in value.dims) if value.dims is not None else 0
    return Effect([with_span(made(dtypes.INT64, ()), (least, value.elements))])


@rule("Reshape")
def _reshape(op: Op) -> Effect:
    first, wanted = op.value(0), op.integers("shape")
    items = [(dim, dim) for dim in wanted] if wanted is not None else op.value(1).ints()
    if items is None:
        rank = op.value(1).dims
        known = rank is not None and len(rank) == 1 and rank[0][0] == rank[0][1] <= 64
        longest = first.elements if _filled_always(first) else UNBOUNDED
        dims = upto([longest] * rank[0][0]) if known and rank else None
        return moving(op, Value(first.dtype, dims, first.elements, widest=longest), _no)
    dims = _reshaped(first, items, keep_zero=bool(op.integer("allowzero", 0)))
    out = Value(first.dtype, dims, first.elements)
    lengths = [low for low, high in dims if low == high]
    return moving(op, out, lambda a: a.reshape(lengths)) if len(lengths) == len(dims) else moving(op, out, _no)


def _no(_: np.ndarray) -> np.ndarray:
    raise ValueError


def _filled_always(value: Value) -> bool:
    """Tell whether a value cannot be empty: no axis of what has its elements is longer than they are many."""
    return value.dims is not None and all(low > 0 for low, _ in value.dims)


def _reshaped(first: Value, items: list[tuple[int, int]], *, keep_zero: bool) -> Dims:
    """Return the axes that a reshape gives: each at most as long as there are elements, -1 what the others leave."""
    """An empty value can be given axes of any length besides the empty one."""
    longest = first.elements if _filled_always(first) else UNBOUNDED
    dims: list[tuple[int, int]] = []
    for at, (low, high) in enumerate(items):
        if low <= 0 <= high and not keep_zero and first.dims is not None and at < len(first.dims):
            same = first.dims[at]
            dims.append(same if low == high else (0, max(same[1], min(high, longest), first.elements)))
        elif low < 0:
            dims.append((-1, -1) if low == high else (0, max(min(high, longest), first.elements)))
        else:
            dims.append((low, high if low == high else min(high, longest)))
    rest = math.prod(max(1, low) for low, _ in dims)
    least = math.prod(low for low, _ in first.dims) if first.dims is not None else 0
    most = math.prod(max(1, high) for low, high in dims if low >= 0)
    return tuple(axis if axis[0] >= 0 else (least // most, first.elements // rest) for axis in dims)


@rule("Flatten")
def _flatten(op: Op) -> Effect:
    first = op.value(0)
    if first.dims is None:
        return moving(op, Value(first.dtype, upto([UNBOUNDED] * 2), first.elements), _no)
    at = op.integer("axis", 1)
    at = at + len(first.dims) if at < 0 else at
    halves = first.dims[:at], first.dims[at:]
    dims = tuple(
        (math.prod(low for low, _ in half), min(math.prod(high for _, high in half), UNBOUNDED)) for half in halves
    )
    return moving(op, Value(first.dtype, dims, first.elements), _no)


def _named_axes(op: Op) -> list[int] | None:
    """Return the axes that Squeeze and Unsqueeze name, as an attribute or as an input."""
    given = op.optional(1)
    return op.integers("axes") if given is None else given.whole()


@rule("Squeeze")
def _squeeze(op: Op) -> Effect:
    first, axes = op.value(0), _named_axes(op)
    if first.dims is None or (axes is None and op.optional(1) is not None):
        return Effect([shapeless(first)], first.elements)
    rank = len(first.dims)
    gone = {axis % rank for axis in axes if rank} if axes else {
        at for at, axis in enumerate(first.dims) if axis == (1, 1)
    }  # fmt: skip
    if not axes and any(axis[0] <= 1 < axis[1] for axis in first.dims):
        return Effect([shapeless(first)], first.elements)
    dims = tuple(axis for at, axis in enumerate(first.dims) if at not in gone)
    return moving(op, Value(first.dtype, dims, first.elements), lambda a: a.squeeze(tuple(gone)))


@rule("Unsqueeze")
def _unsqueeze(op: Op) -> Effect:
    first, axes = op.value(0), _named_axes(op)
    if first.dims is None or axes is None:
        return Effect([shapeless(first)], first.elements)
    rank = len(first.dims) + len(axes)
    places = {axis % rank for axis in axes}
    rest = iter(first.dims)
    dims = tuple((1, 1) if at in places else next(rest, (1, 1)) for at in range(rank))
    return moving(op, Value(first.dtype, dims, first.elements), lambda a: np.expand_dims(a, tuple(places)))


@rule("Transpose")
def _transpose(op: Op) -> Effect:
    first, order = op.value(0), op.integers("perm")
    if first.dims is None:
        return Effect([like(first)], first.elements)
    order = order or list(reversed(range(len(first.dims))))
    if sorted(order) != list(range(len(first.dims))):
        return Effect([shapeless(first)], first.elements)
    dims = tuple(first.dims[at] for at in order)
    return moving(op, Value(first.dtype, dims, first.elements), lambda a: a.transpose(order))


@rule("Concat")
def _concat(op: Op) -> Effect:
    values = [value for value in op.inputs if value is not None]
    text, total = sum(value.text for value in values), op.total
    if not values or any(value.dims is None or len(value.dims) != len(values[0].dims or ()) for value in values):
        return Effect([Value(op.value(0).dtype, None, total, text=text)], total)
    rows = [value.dims or () for value in values]
    at = axis_of(op, len(rows[0]), 1)
    if at is None:
        return Effect([Value(values[0].dtype, None, total, text=text)], total)
    dims = tuple(
        (sum(row[i][0] for row in rows), sum(row[i][1] for row in rows)) if i == at else
        (max(row[i][0] for row in rows), min(row[i][1] for row in rows))
        for i in range(len(rows[0]))
    )  # fmt: skip
    out = made(values[0].dtype, dims, total, text=text)
    contents = [value.content for value in values]
    if any(content is None for content in contents) or total > MAX_CONTENT:
        spans = [value.span for value in values]
        known = [span for span in spans if span]
        span = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        return Effect([with_span(out, span if len(known) == len(spans) else None)], total)
    low, high = (np.concatenate([getattr(c, end) for c in contents], at) for end in ("low", "high"))
    return Effect([with_content(out, Content(low, high))], total)


@rule("Split", "SplitToSequence")
def _split(op: Op) -> Effect:
    first, count = op.value(0), max(1, len(op.node.output))
    if op.node.op_type == "SplitToSequence":
        return Effect([shapeless(first)], first.elements)
    given = op.optional(1)
    sizes = op.integers("split") if given is None else given.whole()
    at = None if first.dims is None else axis_of(op, len(first.dims), 0)
    if first.dims is None or at is None:
        return Effect([shapeless(first)] * count, first.elements)
    low, high = first.dims[at]
    parts = -(-high // count)
    lengths = [(0, parts)] * count if given is None and sizes is None else [(0, high)] * count
    if sizes is not None and len(sizes) == count:
        lengths = [(size, size) for size in sizes]
    elif given is None and low == high and high % count == 0:
        lengths = [(parts, parts)] * count
    rows = [(*first.dims[:at], length, *first.dims[at + 1 :]) for length in lengths]
    return Effect([made(first.dtype, row, first.elements, text=first.text) for row in rows], first.elements)


@rule("Expand")
def _expand(op: Op) -> Effect:
    first, items = op.value(0), op.value(1).ints()
    if items is None:
        return Effect([unknown(first.dtype)])
    shape = made(first.dtype, tuple((max(0, low), max(0, high)) for low, high in items))
    out = spread(first.dtype, first, shape)
    out = made(first.dtype, out.dims, text=first.text * max(1, out.elements if first.text else 1))
    return Effect([with_span(out, first.span)], out.elements)


@rule("Tile")
def _tile(op: Op) -> Effect:
    first, items = op.value(0), op.value(1).ints()
    if items is None or first.dims is None or len(items) != len(first.dims):
        times = math.prod(max(0, high) for _, high in items) if items is not None else UNBOUNDED
        return Effect([unknown(first.dtype, first.elements * times, first.text * times)])
    times = math.prod(max(0, high) for _, high in items)
    pairs = zip(first.dims, items, strict=True)
    dims = tuple((axis[0] * max(0, low), axis[1] * max(0, high)) for axis, (low, high) in pairs)
    out = made(first.dtype, dims, first.elements * times, text=first.text * times)
    return Effect([with_span(out, first.span)], out.elements)


@rule("ConstantOfShape")
def _constant_of_shape(op: Op) -> Effect:
    attribute = op.attributes.get("value")
    tensor = None if attribute is None else attribute.t
    dtype = dtypes.FLOAT if tensor is None else tensor.data_type
    items = op.value(0).ints()
    if items is None:
        return Effect([unknown(dtype)])
    out = made(dtype, tuple((max(0, low), max(0, high)) for low, high in items))
    return Effect([_filled(out, op)], out.elements)


def _filled(out: Value, op: Op) -> Value:
    attribute = op.attributes.get("value")
    found = None if attribute is None or attribute.t is None else numbers(attribute.t)
    if found is None or found.size != 1 or out.dtype not in dtypes.RANGES:
        return out if attribute is not None else with_span(out, (0.0, 0.0))
    number = int(found[0])
    if out.dims is not None and all(low == high for low, high in out.dims) and out.elements <= MAX_CONTENT:
        return with_content(out, content_of([(number, number)] * out.elements, tuple(low for low, _ in out.dims)))
    return with_span(out, (number, number))


@rule("Range")
def _range(op: Op) -> Effect:
    start, limit, step = (op.value(at).span for at in range(3))
    dtype = op.value(0).dtype
    if start is None or limit is None or step is None or step[0] <= 0 <= step[1]:
        return Effect([unknown(dtype)])
    reach = max(limit[1] - start[0], 0) if step[0] > 0 else max(start[1] - limit[0], 0)
    least = min(abs(step[0]), abs(step[1]))
    if not math.isfinite(reach / least):
        return Effect([unknown(dtype)])
    most = math.ceil(reach / least) if isinstance(reach, float) or isinstance(least, float) else -(-reach // least)
    exact = start[0] == start[1] and limit[0] == limit[1] and step[0] == step[1]
    out = made(dtype, ((most if exact else 0, most),))
    if exact and most <= MAX_CONTENT and dtype in dtypes.RANGES:
        row = [start[0] + at * step[0] for at in range(most)]
        return Effect([with_content(out, content_of([(item, item) for item in row]))], most)
    return Effect([with_span(out, (min(start[0], limit[0]), max(start[1], limit[1])))], most)


@rule("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def _alike(op: Op) -> Effect:
    first = op.value(0)
    return Effect([like(first, op.integer("dtype", first.dtype))], 40 * first.elements)


@rule("RandomNormal", "RandomUniform")
def _random(op: Op) -> Effect:
    out = made(op.integer("dtype", dtypes.FLOAT), fixed(*(max(0, dim) for dim in op.integers("shape") or [])))
    return Effect([out], 40 * out.elements)


@rule("Multinomial")
def _multinomial(op: Op) -> Effect:
    rows, samples = op.value(0).axis(0), max(1, op.integer("sample_size", 1))
    out = made(op.integer("dtype", dtypes.INT32), upto([rows, samples]))
    return Effect([out], 40 * out.elements + op.value(0).elements)


@rule("BlackmanWindow", "HammingWindow", "HannWindow")
def _window(op: Op) -> Effect:
    span = op.value(0).reach
    most = UNBOUNDED if span is None else max(0, int(span[1]))
    out = made(op.integer("output_datatype", dtypes.FLOAT), ((0, most),))
    return Effect([out], 40 * out.elements)
