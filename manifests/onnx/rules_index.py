"""Operators that choose elements by index or by value."""

from __future__ import annotations

import math

import numpy as np

from manifests.onnx import dtypes
from manifests.onnx.rules import Effect, Op, axis_of, rule
from manifests.onnx.rules_elementwise import like
from manifests.onnx.rules_shape import moving
from manifests.onnx.values import UNBOUNDED, Dims, Value, fixed, made, shapeless, unknown, upto, with_span


def _text(value: Value, times: int) -> int:
    """Return the bytes of texts when each element may be taken that often."""
    return value.text * max(1, times) if value.text else 0


@rule("Gather")
def _gather(op: Op) -> Effect:
    first, index = op.value(0), op.value(1)
    at = None if first.dims is None else axis_of(op, len(first.dims), 0)
    if first.dims is None or index.dims is None or at is None:
        return Effect([unknown(first.dtype, first.elements * index.elements, _text(first, index.elements))])
    out = made(
        first.dtype,
        first.dims[:at] + index.dims + first.dims[at + 1 :],
        first.elements * index.elements,
        text=_text(first, index.elements),
    )
    chosen = index.whole()
    if chosen is None:
        return Effect([with_span(out, first.span)], out.elements)
    shape = [high for _, high in index.dims]
    return moving(op, out, lambda a: a.take(np.array(chosen, np.int64).reshape(shape), at))


@rule("GatherElements", "ScatterElements", "Scatter", "ScatterND", "TensorScatter")
def _elements(op: Op) -> Effect:
    index = op.value(1)
    if op.node.op_type == "GatherElements":
        out = Value(op.value(0).dtype, index.dims, index.elements, text=_text(op.value(0), index.elements))
        return Effect([with_span(out, op.value(0).span)], index.elements)
    first, update = op.value(0), op.value(1 if op.node.op_type == "TensorScatter" else 2)
    out = Value(first.dtype, first.dims, first.elements, text=first.text + update.text)
    return Effect([out], first.elements + 4 * index.elements + update.elements)


@rule("GatherND")
def _gather_nd(op: Op) -> Effect:
    first, index = op.value(0), op.value(1)
    most = first.elements * max(1, index.elements)
    batch = op.integer("batch_dims", 0)
    if first.dims is None or index.dims is None or not index.dims or index.dims[-1][0] != index.dims[-1][1]:
        return Effect([unknown(first.dtype, most, _text(first, index.elements))], most)
    tail: Dims = first.dims[batch + index.dims[-1][0] :]
    out = made(first.dtype, index.dims[:-1] + tail, most, text=_text(first, index.elements))
    return Effect([with_span(out, first.span)], out.elements)


@rule("Slice")
def _slice(op: Op) -> Effect:
    first = op.value(0)
    if first.dims is None:
        return Effect([like(first)], first.elements)
    starts, ends, axes, steps = _slices(op)
    whole = Value(first.dtype, upto(high for _, high in first.dims), first.elements, text=first.text)
    if starts is None or ends is None or axes is None or steps is None:
        return Effect([with_span(whole, first.span)], first.elements)
    cuts = dict(zip([axis % len(first.dims) for axis in axes], zip(starts, ends, steps, strict=False), strict=False))
    dims = tuple(_cut(axis, cuts[at]) if at in cuts else axis for at, axis in enumerate(first.dims))
    out = made(first.dtype, dims, first.elements, text=first.text)
    index = tuple(slice(*_plain(cuts[at])) if at in cuts else slice(None) for at in range(len(dims)))
    return moving(op, out, lambda a: a[index])


def _slices(op: Op) -> tuple[list[int] | None, list[int] | None, list[int] | None, list[int] | None]:
    """Return starts, ends, axes and steps: attributes before opset 10, inputs since; None where not known."""
    if op.version < 10:
        starts, ends = op.integers("starts"), op.integers("ends")
        return starts, ends, op.integers("axes") or list(range(len(starts or []))), [1] * len(starts or [])
    given = [op.optional(at) for at in range(1, 5)]
    starts, ends = (None if value is None else value.whole() for value in given[:2])
    count = len(starts or [])
    axes = list(range(count)) if given[2] is None else given[2].whole()
    steps = [1] * count if given[3] is None else given[3].whole()
    return starts, ends, axes, steps


def _plain(cut: tuple[int, int, int]) -> tuple[int, int | None, int]:
    """Return Python's form: going down to the very first element has no other end than None."""
    start, end, step = cut
    return start, None if step < 0 and end < -(1 << 31) else end, step or 1


def _cut(axis: tuple[int, int], cut: tuple[int, int, int]) -> tuple[int, int]:
    """Return the lengths of what a slice leaves of an axis of either length."""
    found = [len(range(*slice(*_plain(cut)).indices(min(length, 1 << 60)))) for length in axis]
    if axis[0] == axis[1]:
        return found[0], found[0]
    return 0, axis[1] if cut[0] < 0 or cut[1] < 0 or cut[2] < 0 else max(found)


@rule("OneHot")
def _one_hot(op: Op) -> Effect:
    index, depth, values = op.value(0), op.value(1).reach, op.value(2)
    most = UNBOUNDED if depth is None else max(0, int(depth[1]))
    if index.dims is None:
        return Effect([unknown(values.dtype, index.elements * most)])
    rank = len(index.dims) + 1
    at = axis_of(op, rank, -1) or 0
    dims = (*index.dims[:at], (0 if depth is None else max(0, int(depth[0])), most), *index.dims[at:])
    out = made(values.dtype, dims, index.elements * most, text=_text(values, index.elements * min(most, 1 << 40)))
    return Effect([out], out.elements)


@rule("TopK")
def _top_k(op: Op) -> Effect:
    first, count = op.value(0), op.value(1).reach if len(op.inputs) > 1 else (op.integer("k", 1),) * 2
    work = 10 * first.elements * max(1, first.elements.bit_length() if first.bounded else 1)
    at = None if first.dims is None else axis_of(op, len(first.dims), -1)
    if first.dims is None or at is None:
        return Effect([Value(first.dtype, None, first.elements), Value(dtypes.INT64, None, first.elements)], work)
    axis = first.dims[at]
    length = axis if count is None else (max(0, min(count[0], axis[0])), min(axis[1], max(0, int(count[1]))))
    length = length if count is not None else (0, axis[1])
    dims = (*first.dims[:at], length, *first.dims[at + 1 :])
    index = with_span(made(dtypes.INT64, dims, first.elements), (0, max(axis[1], 1)))
    return Effect([made(first.dtype, dims, first.elements), index], work, first.bytes)


@rule("NonZero")
def _non_zero(op: Op) -> Effect:
    first = op.value(0)
    rank = 64 if first.dims is None else max(1, len(first.dims))
    out = made(dtypes.INT64, ((rank, rank) if first.dims is not None else (0, rank), (0, first.elements)))
    longest = max((high for _, high in first.dims), default=1) if first.dims is not None else first.elements
    return Effect([with_span(out, (0, max(1, longest)))], 2 * rank * first.elements)


@rule("Compress")
def _compress(op: Op) -> Effect:
    first = op.value(0)
    if "axis" not in op.attributes or first.dims is None:
        out = made(first.dtype, ((0, first.elements),), text=first.text)
    else:
        at = axis_of(op, len(first.dims), 0)
        dims = tuple((0, axis[1]) if i == at else axis for i, axis in enumerate(first.dims))
        out = made(first.dtype, dims, first.elements, text=first.text)
    return Effect([with_span(out, first.span)], first.elements)


@rule("Unique")
def _unique(op: Op) -> Effect:
    first = op.value(0)
    row = ((0, first.elements),)
    dims = row if "axis" not in op.attributes else (None if first.dims is None else upto(h for _, h in first.dims))
    index = made(dtypes.INT64, row)
    work = 20 * first.elements * max(1, min(first.elements, 1 << 60).bit_length()) + first.text
    out = Value(first.dtype, dims, first.elements, text=first.text)
    return Effect([with_span(out, first.span), index, index, index], work, 8 * first.bytes)


@rule("NonMaxSuppression")
def _suppress(op: Op) -> Effect:
    boxes, scores = op.value(0), op.value(1)
    limit = op.optional(2)
    each = boxes.axis(1)
    if limit is None:
        each = 0
    elif limit.reach is not None:
        each = min(each, max(0, int(limit.reach[1])))
    pairs = scores.axis(0) * scores.axis(1)
    count = min(pairs * each, scores.elements)
    out = with_span(made(dtypes.INT64, ((0, count), (3, 3))), (0, max(1, scores.elements)))
    return Effect([out], scores.elements * 64 + 20 * scores.elements * each, 16 * scores.elements)


@rule("Pad")
def _pad(op: Op) -> Effect:
    first = op.value(0)
    given = op.optional(1)
    named = op.integers("pads") or op.integers("paddings")
    pads = [(item, item) for item in named] if named is not None else None if given is None else given.ints()
    if pads is None or first.dims is None:
        return Effect([unknown(first.dtype)])
    chosen = op.optional(3)
    axes = list(range(len(first.dims))) if chosen is None else chosen.whole()
    if axes is None or len(pads) != 2 * len(axes) or any(not -len(first.dims) <= at < len(first.dims) for at in axes):
        return Effect([unknown(first.dtype)])
    dims = list(first.dims)
    for i, axis in enumerate(axes):
        low, high = (pads[i][end] + pads[i + len(axes)][end] for end in (0, 1))
        dims[axis] = max(0, dims[axis][0] + low), max(0, dims[axis][1] + high)
    out = made(first.dtype, tuple(dims))
    return Effect([out], out.elements)


@rule("Resize", "Upsample")
def _resize(op: Op) -> Effect:
    first = op.value(0)
    old = op.node.op_type == "Upsample" or op.version < 11
    scales = op.optional(1 if old else 2)
    sizes = None if old else op.optional(3)
    if first.dims is None:
        return Effect([unknown(first.dtype)])
    axes = [axis % len(first.dims) for axis in op.integers("axes") or range(len(first.dims)) if first.dims]
    dims = list(first.dims)
    wanted = sizes.ints() if sizes is not None and sizes.elements else None
    factors = op.floats("scales") or (scales.exact() if scales is not None and scales.elements else None)
    if wanted is not None and len(wanted) == len(axes):
        for axis, (low, high) in zip(axes, wanted, strict=True):
            dims[axis] = max(0, low), max(0, high)
        if op.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            dims = [(0, max(high, 1) * max(1, _greatest(first.dims))) for _, high in dims]
    elif factors is not None and len(factors) == len(axes) and all(0 < f < 1 << 40 for f in factors):
        for axis, factor in zip(axes, factors, strict=True):
            dims[axis] = math.floor(dims[axis][0] * factor), math.ceil(dims[axis][1] * factor)
    else:
        return Effect([unknown(first.dtype)])
    out = made(first.dtype, tuple(dims))
    return Effect([out], 64 * out.elements, first.bytes)


def _greatest(dims: Dims) -> int:
    return max((high for _, high in dims), default=1)


@rule("DepthToSpace", "SpaceToDepth")
def _blocks(op: Op) -> Effect:
    first, block = op.value(0), max(1, op.integer("blocksize", 1))
    if first.dims is None or len(first.dims) != 4:
        return Effect([shapeless(first)], first.elements)
    (n, c, h, w) = first.dims
    wide = op.node.op_type == "DepthToSpace"

    def times(axis: tuple[int, int], by: int) -> tuple[int, int]:
        return axis[0] * by, axis[1] * by

    def parts(axis: tuple[int, int], by: int) -> tuple[int, int]:
        return axis[0] // by, axis[1] // by

    area = block * block
    rest = (parts(c, area), times(h, block), times(w, block)) if wide else (
        times(c, area), parts(h, block), parts(w, block)
    )  # fmt: skip
    return Effect([made(first.dtype, (n, *rest), first.elements)], first.elements)


@rule("CenterCropPad")
def _crop(op: Op) -> Effect:
    first, sizes = op.value(0), op.value(1).ints()
    if first.dims is None or sizes is None:
        return Effect([unknown(first.dtype)])
    axes = op.integers("axes") or list(range(len(first.dims)))
    dims = list(first.dims)
    for axis, (low, high) in zip(axes, sizes, strict=False):
        dims[axis % len(dims)] = max(0, low), max(0, high)
    out = made(first.dtype, tuple(dims))
    return Effect([out], out.elements)


@rule("AffineGrid")
def _grid(op: Op) -> Effect:
    sizes = op.value(1).ints()
    if sizes is None:
        return Effect([unknown(op.value(0).dtype)])
    space = [max(0, high) for _, high in sizes]
    dims = fixed(*(space[:1] + space[2:] + [len(space) - 2]))
    out = made(op.value(0).dtype, upto(high for _, high in dims))
    return Effect([out], 16 * out.elements)
