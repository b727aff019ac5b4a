"""Products, convolutions, pools and what else networks spend their time on."""

from __future__ import annotations

import math

from manifests.onnx import dtypes
from manifests.onnx.rules import TRANSCENDENTAL, Effect, Op, rule
from manifests.onnx.rules_elementwise import broadcast, like
from manifests.onnx.values import Dims, Value, fixed, made, unknown, upto


@rule("MatMul", "MatMulInteger", "QLinearMatMul")
def _matmul(op: Op) -> Effect:
    kind = op.node.op_type
    a, b = op.value(0), op.value(3 if kind == "QLinearMatMul" else 1)
    dtype = {"MatMulInteger": dtypes.INT32, "QLinearMatMul": op.value(7).dtype}.get(kind, a.dtype)
    if a.dims is None or b.dims is None or not a.dims or not b.dims:
        return Effect([unknown(dtype, a.elements * b.elements)], 2 * a.elements * b.elements, a.bytes + b.bytes)
    left = a.dims if len(a.dims) > 1 else ((1, 1), *a.dims)
    right = b.dims if len(b.dims) > 1 else (*b.dims, (1, 1))
    batch = broadcast(Value(dtype, left[:-2], 1), Value(dtype, right[:-2], 1)) or ()
    dims = batch + (left[-2:-1] if len(a.dims) > 1 else ()) + (right[-1:] if len(b.dims) > 1 else ())
    inner = min(left[-1][1], right[-2][1])
    out = made(dtype, dims, _product_bound(a, b, left, right))
    return Effect([out], 2 * out.elements * max(1, inner), a.bytes + b.bytes)


def _product_bound(a: Value, b: Value, left: Dims, right: Dims) -> int | None:
    """Return a bound of a product's elements from those of its factors, where the inner axis cannot be empty."""
    inner = min(left[-1][0], right[-2][0])
    if inner < 1:
        return None
    rows = a.elements // inner
    if len(right) == 2:
        return rows * right[-1][1]
    return rows * (b.elements // inner)


@rule("Gemm")
def _gemm(op: Op) -> Effect:
    a, b = op.value(0), op.value(1)
    if a.dims is None or b.dims is None or len(a.dims) != 2 or len(b.dims) != 2:
        return Effect([unknown(a.dtype, a.elements * b.elements)], 2 * a.elements * b.elements)
    rows, inner = reversed(a.dims) if op.integer("transA", 0) else a.dims
    columns = b.dims[0] if op.integer("transB", 0) else b.dims[1]
    least = inner[0]
    bound = a.elements // least * columns[1] if least > 0 else None
    out = made(a.dtype, (rows, columns), bound)
    return Effect([out], 2 * out.elements * max(1, inner[1]), a.bytes + b.bytes)


@rule("Einsum")
def _einsum(op: Op) -> Effect:
    """Bound by the product of all different letters: what a loop over all of them would do."""
    values = [value for value in op.inputs if value is not None]
    left, arrow, right = op.text("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, tuple[int, int]] = {}
    plain = "." not in left and len(terms) == len(values)
    for term, value in zip(terms, values, strict=False):
        if not plain or value.dims is None or len(term) != len(value.dims):
            every = math.prod(max(1, item.elements) for item in values)
            return Effect([unknown(op.value(0).dtype, every)], 4 * every, 4 * every)
        for letter, axis in zip(term, value.dims, strict=True):
            known = sizes.get(letter, (0, axis[1]))
            sizes[letter] = max(known[0], axis[0]), max(known[1], axis[1])
    letters = right if arrow else "".join(sorted(letter for letter in sizes if left.count(letter) == 1))
    out = made(op.value(0).dtype, tuple(sizes.get(letter, (0, 1)) for letter in letters))
    work = math.prod(max(1, high) for _, high in sizes.values())
    step = max((value.bytes for value in values), default=0)
    return Effect([out], 2 * work * max(1, len(values) - 1), 2 * step + out.bytes)


# ------------------------------------------------------------------------------------------- convolutions


def _window(op: Op, axis: tuple[int, int], at: int, kernel: int, *, wide: bool = False) -> tuple[int, int]:
    """Return the lengths that a window leaves of one spatial axis (ONNX's formula of Conv and pools)."""
    strides, dilations, pads = op.integers("strides"), op.integers("dilations"), op.integers("pads")
    stride = strides[at] if strides and at < len(strides) else 1
    dilation = dilations[at] if dilations and at < len(dilations) else 1
    padding = (pads[at] + pads[at + len(pads) // 2]) if pads and at + len(pads) // 2 < len(pads) else 0
    reach = (kernel - 1) * dilation + 1
    if op.text("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return -(-axis[0] // stride), -(-axis[1] // stride)
    if wide:
        return (axis[0] - 1) * stride, axis[1] * stride + padding + reach
    low, high = ((end + padding - reach) // stride + 1 for end in axis)
    return max(0, low), max(0, high + op.integer("ceil_mode", 0))


@rule("Conv", "ConvInteger", "QLinearConv", "DeformConv")
def _conv(op: Op) -> Effect:
    kind = op.node.op_type
    x, w = op.value(0), op.value(3 if kind == "QLinearConv" else 1)
    dtype = {"ConvInteger": dtypes.INT32, "QLinearConv": op.value(7).dtype}.get(kind, x.dtype)
    if x.dims is None or w.dims is None or len(x.dims) < 3 or len(x.dims) != len(w.dims):
        return Effect([unknown(dtype)])
    kernel = op.integers("kernel_shape") or [high for _, high in w.dims[2:]]
    if len(kernel) != len(x.dims) - 2:
        return Effect([unknown(dtype)])
    space = tuple(_window(op, axis, at, kernel[at]) for at, axis in enumerate(x.dims[2:]))
    out = made(dtype, (x.dims[0], w.dims[0], *space))
    each = math.prod(kernel) * max(1, w.dims[1][1])
    columns = x.dims[1][1] * math.prod(kernel) * math.prod(high for _, high in space) * 8
    return Effect([out], 2 * out.elements * each * (8 if kind == "DeformConv" else 1), columns + w.bytes + x.bytes)


@rule("ConvTranspose")
def _conv_transpose(op: Op) -> Effect:
    x, w = op.value(0), op.value(1)
    if x.dims is None or w.dims is None or len(x.dims) < 3 or len(x.dims) != len(w.dims):
        return Effect([unknown(x.dtype)])
    kernel = op.integers("kernel_shape") or [high for _, high in w.dims[2:]]
    more, shape = op.integers("output_padding") or [], op.integers("output_shape")
    strides, count = op.integers("strides") or [], len(x.dims) - 2
    if len(kernel) != count:
        return Effect([unknown(x.dtype)])
    space = [_transposed(op, axis, at, kernel[at]) + sum(more[at : at + 1]) for at, (_, axis) in enumerate(x.dims[2:])]
    space = shape[-count:] if shape and len(shape) >= count else space
    out = made(x.dtype, (x.dims[0], (0, w.dims[1][1] * max(1, op.integer("group", 1))), *upto(space)))
    work = 2 * x.elements * math.prod(kernel) * max(1, w.dims[1][1]) + math.prod(strides or [1])
    columns = w.dims[1][1] * math.prod(kernel) * math.prod(high for _, high in x.dims[2:]) * 8
    return Effect([out], work + out.elements, columns + x.bytes + w.bytes)


def _transposed(op: Op, length: int, at: int, kernel: int) -> int:
    strides, dilations, pads = op.integers("strides"), op.integers("dilations"), op.integers("pads")
    stride = strides[at] if strides and at < len(strides) else 1
    dilation = dilations[at] if dilations and at < len(dilations) else 1
    if op.text("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return length * stride
    padding = (pads[at] + pads[at + len(pads) // 2]) if pads and at + len(pads) // 2 < len(pads) else 0
    return max(0, stride * (length - 1) + (kernel - 1) * dilation + 1 - padding)


@rule("AveragePool", "MaxPool", "LpPool")
def _pool(op: Op) -> Effect:
    x, kernel = op.value(0), op.integers("kernel_shape") or []
    if x.dims is None or len(x.dims) != len(kernel) + 2:
        return Effect([unknown(x.dtype)] * 2)
    space = tuple(_window(op, axis, at, kernel[at]) for at, axis in enumerate(x.dims[2:]))
    out = made(x.dtype, (*x.dims[:2], *space))
    return Effect([out, like(out, dtypes.INT64)], 2 * out.elements * math.prod(kernel))


@rule("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
def _global(op: Op) -> Effect:
    x = op.value(0)
    dims = None if x.dims is None else x.dims[:2] + ((1, 1),) * (len(x.dims) - 2)
    return Effect([made(x.dtype, dims) if dims else unknown(x.dtype, x.elements)], 2 * x.elements)


@rule("MaxUnpool")
def _unpool(op: Op) -> Effect:
    x, kernel = op.value(0), op.integers("kernel_shape") or []
    wanted = op.optional(2)
    items = None if wanted is None else wanted.ints()
    if wanted is not None and items is not None:
        out = made(x.dtype, tuple((max(0, low), max(0, high)) for low, high in items))
    elif wanted is not None or x.dims is None or len(x.dims) != len(kernel) + 2:
        return Effect([unknown(x.dtype)])
    else:
        space = [_transposed(op, high, at, kernel[at]) for at, (_, high) in enumerate(x.dims[2:])]
        out = made(x.dtype, (*x.dims[:2], *upto(space)))
    return Effect([out], out.elements)


@rule("RoiAlign", "MaxRoiPool")
def _regions(op: Op) -> Effect:
    x, regions = op.value(0), op.value(1)
    height, width = op.integer("output_height", 1), op.integer("output_width", 1)
    if op.node.op_type == "MaxRoiPool":
        height, width = (op.integers("pooled_shape") or [1, 1])[:2]
    out = made(x.dtype, (upto([regions.axis(0)])[0], (0, x.axis(1)), *fixed(max(1, height), max(1, width))))
    ratio = op.integer("sampling_ratio", 0)
    each = ratio * ratio if ratio > 0 else max(1, x.axis(2) * x.axis(3))
    return Effect([out], 16 * out.elements * each, 64 * out.elements)


@rule("GridSample")
def _grid_sample(op: Op) -> Effect:
    x, grid = op.value(0), op.value(1)
    if x.dims is None or grid.dims is None:
        return Effect([unknown(x.dtype, x.elements * grid.elements)])
    out = made(x.dtype, (*x.dims[:2], *grid.dims[1:-1]))
    return Effect([out], 80 * out.elements)


@rule("Col2Im")
def _col2im(op: Op) -> Effect:
    x, image = op.value(0), op.value(1).ints()
    if image is None:
        return Effect([unknown(x.dtype)])
    channels = (0, x.axis(1))
    out = made(x.dtype, ((0, x.axis(0)), channels, *((max(0, low), max(0, high)) for low, high in image)))
    return Effect([out], 4 * (out.elements + x.elements))


# ---------------------------------------------------------------------------------------------- recurrent


@rule("LSTM", "GRU", "RNN")
def _recurrent(op: Op) -> Effect:
    x, w, r = op.value(0), op.value(1), op.value(2)
    if x.dims is None or r.dims is None or len(x.dims) != 3 or len(r.dims) != 3:
        return Effect([unknown(x.dtype)] * 3)
    hidden, directions = r.dims[2], r.dims[0]
    steps, batch, width = x.dims
    if op.integer("layout", 0):
        steps, batch = batch, steps
        dims: Dims = (batch, steps, directions, hidden)
        state = made(x.dtype, (batch, directions, hidden))
    else:
        dims = (steps, directions, batch, hidden)
        state = made(x.dtype, (directions, batch, hidden))
    gates = {"LSTM": 4, "GRU": 3}.get(op.node.op_type, 1)
    rows = min(steps[1] * batch[1], x.elements if min(steps[0], batch[0], width[0]) > 0 else steps[1] * batch[1])
    per_row = gates * hidden[1] * (2 * (width[1] + hidden[1]) + TRANSCENDENTAL) * directions[1]
    scratch = rows * (gates + 2) * hidden[1] * directions[1] * 4 + w.bytes + r.bytes
    return Effect([made(x.dtype, dims), state, state], rows * per_row, scratch)


@rule("Attention")
def _attention(op: Op) -> Effect:
    q, k, v = op.value(0), op.value(1), op.value(2)
    past = op.optional(4)
    if q.dims is None or k.dims is None or v.dims is None or len(q.dims) != len(k.dims):
        return Effect([unknown(q.dtype)] * 4)
    heads = q.dims[1][1] if len(q.dims) == 4 else max(1, op.integer("q_num_heads", 1))
    batch, rows = q.dims[0][1], q.dims[-2][1]
    before = past.axis(2) if past is not None and past.dims is not None and len(past.dims) == 4 else 0
    columns = k.dims[-2][1] + before
    width = q.dims[-1][1] // (1 if len(q.dims) == 4 else heads)
    own = max(1, op.integer("kv_num_heads", 1)) if len(v.dims) == 3 else 1
    value = v.dims[-1][1] // own
    scores = made(q.dtype, upto([batch, heads, rows, columns]))
    last = value if len(q.dims) == 4 else value * heads
    out = made(q.dtype, (*q.dims[:-1], (0, last)))
    present = [made(q.dtype, upto([batch, heads, columns, size])) for size in (max(1, width), max(1, value))]
    work = scores.elements * (2 * (width + value) + TRANSCENDENTAL)
    return Effect([out, *present, scores], work, 3 * scores.bytes + q.bytes + k.bytes + v.bytes)


@rule("RotaryEmbedding")
def _rotary(op: Op) -> Effect:
    return Effect([like(op.value(0))], 8 * op.value(0).elements, op.value(0).bytes)


@rule("SwiGLU")
def _swiglu(op: Op) -> Effect:
    return Effect([like(op.value(0))], 2 * TRANSCENDENTAL * op.value(0).elements)


@rule("Det")
def _det(op: Op) -> Effect:
    x = op.value(0)
    return Effect([made(x.dtype, x.dims[:-2] if x.dims else None, x.elements + 1)], x.elements * max(1, x.axis(-1)))


@rule("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def _loss(op: Op) -> Effect:
    x = op.value(0)
    return Effect([unknown(x.dtype, max(1, x.elements)), like(x)], TRANSCENDENTAL * x.elements, x.bytes)


# ------------------------------------------------------------------------------------------------- signals


@rule("DFT")
def _dft(op: Op) -> Effect:
    x, length = op.value(0), op.optional(1)
    if x.dims is None or len(x.dims) < 2:
        return Effect([unknown(x.dtype)])
    if length is not None and length.reach is None:
        return Effect([unknown(x.dtype)])
    most = max(high for _, high in x.dims[:-1]) if length is None or length.reach is None else int(length.reach[1])
    rows = math.prod(max(1, high) for _, high in x.dims[:-1])
    out = Value(x.dtype, None, 2 * max(1, rows) * max(1, most))
    return Effect([out], 8 * out.elements * max(1, most), 4 * out.bytes)


@rule("STFT")
def _stft(op: Op) -> Effect:
    x, step = op.value(0), op.value(1).reach
    if x.dims is None or step is None:
        return Effect([unknown(x.dtype)])
    signal = x.axis(1)
    frames = signal // max(1, int(step[0])) + 1
    length = op.optional(3)
    size = signal if length is None or length.reach is None else min(signal, max(1, int(length.reach[1])))
    out = made(x.dtype, ((0, x.axis(0)), (0, frames), (0, size), (2, 2)))
    return Effect([out], 8 * out.elements * max(1, size), 4 * out.bytes)


@rule("MelWeightMatrix")
def _mel(op: Op) -> Effect:
    bins, length = op.value(0).reach, op.value(1).reach
    dtype = op.integer("output_datatype", dtypes.FLOAT)
    if bins is None or length is None:
        return Effect([unknown(dtype)])
    out = made(dtype, upto([max(0, int(length[1])) // 2 + 1, max(0, int(bins[1]))]))
    return Effect([out], TRANSCENDENTAL * out.elements)
