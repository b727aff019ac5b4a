"""Operators that work on each element by itself, with broadcasting, and reductions over axes."""

from __future__ import annotations

import math

from manifests.onnx import dtypes, intervals
from manifests.onnx.rules import TRANSCENDENTAL, Effect, Op, rule
from manifests.onnx.values import Content, Dims, Value, content_of, fixed, made, with_content, with_span

_UNARY = (
    "Abs Ceil Floor Neg Not Relu Round Sign BitwiseNot Identity LeakyRelu PRelu ThresholdedRelu Shrink Trilu Hardmax "
    "Dropout HardSigmoid HardSwish ReverseSequence CumSum CumProd"
)
_SLOW = (
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu Log LogSoftmax Mish Reciprocal Selu Sigmoid Sin "
    "Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh LpNormalization MeanVarianceNormalization LRN "
    "InstanceNormalization BatchNormalization GroupNormalization"
)
_BINARY = (
    "Add Sub Mul Div Mod Pow And Or Xor BitShift BitwiseAnd BitwiseOr BitwiseXor Max Min Sum Mean StringConcat PRelu"
)
_COMPARE = "Equal Less Greater LessOrEqual GreaterOrEqual And Or Xor"
_PREDICATE = "IsInf IsNaN RegexFullMatch"


def broadcast(*values: Value) -> Dims | None:
    """Return the axes of values that are broadcast against each other; None where a rank is not known."""
    if any(value.dims is None for value in values):
        return None
    rank = max((len(value.dims or ()) for value in values), default=0)
    rows = [((1, 1),) * (rank - len(value.dims or ())) + (value.dims or ()) for value in values]
    return tuple(_common([row[at] for row in rows]) for at in range(rank))


def _common(axes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return what several axes are broadcast to: one that is longer than 1 always wins, and an empty one too."""
    firm = [axis for axis in axes if axis[0] > 1]
    if firm:
        return max(low for low, _ in firm), min(high for _, high in firm)
    return min(low for low, _ in axes), max(high for _, high in axes)


def elements_of(dims: Dims | None, *values: Value) -> int | None:
    """Return a bound of a broadcast's elements that is better than the product of its axes, where there is one."""
    if dims is None:
        return math.prod(value.elements for value in values)
    if len(values) == 1 or all(value.dims == dims for value in values):
        return min(value.elements for value in values)
    return math.prod(value.elements for value in values)


def spread(dtype: int, *values: Value) -> Value:
    """Return the result of an operator that broadcasts its inputs."""
    dims = broadcast(*values)
    return made(dtype, dims, elements_of(dims, *values)) if dims is not None else Value(
        dtype, None, math.prod(max(value.elements, 1) for value in values)
    )  # fmt: skip


def like(value: Value, dtype: int | None = None) -> Value:
    """Return a value of the same axes of which no numbers are known."""
    kind = value.dtype if dtype is None else dtype
    if kind != dtypes.STRING:
        return Value(kind, value.dims, value.elements)
    return Value(kind, value.dims, value.elements, text=value.text, longest=value.longest)


@rule(*_UNARY.split())
def _unary(op: Op) -> Effect:
    first = op.value(0)
    out = intervals.single(op.node.op_type, like(first), first)
    mask = [like(first, dtypes.BOOL)] if op.node.op_type == "Dropout" else []
    return Effect([out, *mask], first.elements)


@rule(*_SLOW.split())
def _slow(op: Op) -> Effect:
    first = op.value(0)
    out = intervals.single(op.node.op_type, like(first), first)
    rest = [like(op.value(at)) for at in (3, 4)] if op.node.op_type == "BatchNormalization" else []
    window = max(1, op.integer("size", 1)) if op.node.op_type == "LRN" else 1
    return Effect([out, *rest, *rest], (TRANSCENDENTAL + window) * first.elements, first.bytes)


@rule(*_BINARY.split())
def _binary(op: Op) -> Effect:
    values = [value for value in op.inputs if value is not None]
    out = spread(values[0].dtype, *values) if values else op.value(0)
    if out.dtype == dtypes.STRING:
        out = Value(out.dtype, out.dims, out.elements, text=sum(value.text for value in values) * max(out.elements, 1))
    result = values[0] if values else op.value(0)
    for value in values[1:]:
        result = intervals.pair(op.node.op_type, out, result, value)
    kind = op.node.op_type
    slow = kind in {"Div", "Mod", "Pow"} and out.dtype not in dtypes.RANGES
    # Comparable numbers of two inputs; of one input they stay as they are.
    known = result if len(values) > 1 else like(result)
    return Effect([known], (TRANSCENDENTAL if slow else 1) * out.elements * max(1, len(values) - 1))


@rule(*_COMPARE.split())
def _compare(op: Op) -> Effect:
    out = spread(dtypes.BOOL, op.value(0), op.value(1))
    return Effect([intervals.pair(op.node.op_type, out, op.value(0), op.value(1))], out.elements)


@rule(*_PREDICATE.split())
def _predicate(op: Op) -> Effect:
    first = op.value(0)
    return Effect([like(first, dtypes.BOOL)], first.elements + 100 * first.text)


@rule("Where")
def _where(op: Op) -> Effect:
    condition, yes, no = op.value(0), op.value(1), op.value(2)
    out = spread(yes.dtype, condition, yes, no)
    out = Value(out.dtype, out.dims, out.elements, text=(yes.text + no.text) * max(1, out.elements if yes.text else 1))
    chosen = condition.exact()
    if chosen is not None and len(set(chosen)) == 1:
        one = yes if chosen[0] else no
        return Effect([intervals.pair("Add", out, one, _zeros(condition))], out.elements)
    low, high = intervals.pair("Min", out, yes, no), intervals.pair("Max", out, yes, no)
    if low.content is not None and high.content is not None:
        return Effect([with_content(out, Content(low.content.low, high.content.high))], out.elements)
    if low.span is not None and high.span is not None:
        return Effect([with_span(out, (low.span[0], high.span[1]))], out.elements)
    return Effect([out], out.elements)


def _zeros(value: Value) -> Value:
    """Return a value of the same shape that is 0 everywhere."""
    out = Value(dtypes.INT64, value.dims, value.elements)
    if value.content is None:
        return with_span(out, (0, 0))
    return with_content(out, Content(value.content.low * 0, value.content.low * 0))


@rule("Clip")
def _clip(op: Op) -> Effect:
    first, out = op.value(0), like(op.value(0))
    low, high = op.optional(1), op.optional(2)
    span = first.span or dtypes.RANGES.get(first.dtype)
    if low is not None and low.span is not None and span is not None:
        span = (max(span[0], low.span[0]), max(span[1], low.span[1]))
    if high is not None and high.span is not None and span is not None:
        span = (min(span[0], high.span[0]), min(span[1], high.span[1]))
    return Effect([with_span(out, span) if span else out], 2 * first.elements)


@rule("Cast", "CastLike", "BitCast")
def _cast(op: Op) -> Effect:
    first = op.value(0)
    dtype = op.value(1).dtype if op.node.op_type == "CastLike" else op.integer("to", first.dtype)
    text = 32 * first.elements if dtype == dtypes.STRING else 0
    if op.node.op_type == "BitCast":
        ratio = dtypes.BITS.get(first.dtype, 8) / dtypes.BITS.get(dtype, 8)
        return Effect([made(dtype, None, math.ceil(first.elements * max(1, ratio)))], first.elements)
    out = Value(dtype, first.dims, first.elements, text=max(text, first.text if dtype == dtypes.STRING else 0))
    if first.dtype in dtypes.RANGES and dtype in dtypes.RANGES and dtype != dtypes.BOOL:
        out = intervals.single("Identity", out, first)
    elif first.dtype in dtypes.RANGES and dtype in {dtypes.FLOAT, dtypes.DOUBLE}:
        out = _small(intervals.single("Identity", out, first))
    elif first.dtype in {dtypes.FLOAT, dtypes.DOUBLE} and dtype in dtypes.RANGES:
        out = _truncated(out, first)
    return Effect([out], first.elements * (TRANSCENDENTAL if text or first.text else 1))


def _small(value: Value) -> Value:
    """Keep numbers that a float holds exactly."""
    return value if value.span is None or max(map(abs, value.span)) < 1 << 24 else like(value)


def _truncated(out: Value, first: Value) -> Value:
    if first.span is None or not all(math.isfinite(end) for end in first.span):
        return out
    whole = with_span(out, (math.floor(first.span[0]), math.ceil(first.span[1])))
    exact = first.exact()
    if exact is None or first.content is None:
        return whole
    items = [(math.trunc(item), math.trunc(item)) for item in exact]
    return with_content(out, content_of(items, first.content.low.shape))


@rule("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear")
def _quantize(op: Op) -> Effect:
    first = op.value(0)
    if op.node.op_type == "DynamicQuantizeLinear":
        out = [like(first, dtypes.UINT8), made(dtypes.FLOAT, ()), made(dtypes.UINT8, ())]
        return Effect(out, 4 * first.elements)
    zero = op.optional(2)
    low = zero.dtype if zero is not None else op.integer("output_dtype", dtypes.UINT8)
    dtype = op.value(1).dtype if op.node.op_type == "DequantizeLinear" else low
    return Effect([like(first, dtype)], 4 * first.elements)


@rule("LayerNormalization", "RMSNormalization")
def _layer(op: Op) -> Effect:
    first = op.value(0)
    return Effect([like(first), like(first), like(first)], TRANSCENDENTAL * first.elements)


# ---------------------------------------------------------------------------------------------- reductions


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@rule(*(f"Reduce{name}" for name in _REDUCTIONS), "ArgMax", "ArgMin")
def _reduce(op: Op) -> Effect:
    first = op.value(0)
    kind = op.node.op_type
    dtype = dtypes.INT64 if kind.startswith("Arg") else first.dtype
    out = reduced(first, _axes(op), keep=op.integer("keepdims", 1) != 0, dtype=dtype)
    return Effect([_reduced_numbers(kind, out, first)], TRANSCENDENTAL * first.elements, first.bytes)


def _axes(op: Op) -> list[int] | None:
    """Return the axes of a reduction: [] for all of them, None where they are not known."""
    if op.node.op_type.startswith("Arg"):
        return [op.integer("axis", 0)]
    named = op.integers("axes")
    given = op.optional(1)
    if named is None and given is not None:
        named = given.whole()
        if named is None:
            return None
    if not named and op.integer("noop_with_empty_axes", 0):
        return None
    return named or []


def reduced(value: Value, axes: list[int] | None, *, keep: bool, dtype: int) -> Value:
    """Return a value of which some axes are reduced to one element."""
    if value.dims is None or axes is None:
        return made(dtype, value.dims if axes is None and keep else None, value.elements) if keep else Value(
            dtype, None, max(1, value.elements)
        )  # fmt: skip
    rank = len(value.dims)
    gone = {axis % rank for axis in axes if rank} if axes else set(range(rank))
    dims = [(1, 1) if at in gone else axis for at, axis in enumerate(value.dims) if keep or at not in gone]
    lost = all(value.dims[at][0] > 0 for at in gone)
    return made(dtype, tuple(dims), value.elements if lost else None)


def _reduced_numbers(kind: str, out: Value, first: Value) -> Value:
    """Follow the numbers of a shape's product or sum, and of greatest and least elements."""
    items = first.ints()
    if items and out.dims == fixed(*(1 for _ in out.dims or ())) and kind in {"ReduceProd", "ReduceSum"}:
        if kind == "ReduceProd" and all(low >= 0 for low, _ in items):
            return with_span(out, (math.prod(low for low, _ in items), math.prod(high for _, high in items)))
        if kind == "ReduceSum":
            return with_span(out, (sum(low for low, _ in items), sum(high for _, high in items)))
    if kind in {"ReduceMax", "ReduceMin"} and first.span is not None and first.dims is not None:
        return with_span(out, first.span) if all(low > 0 for low, _ in first.dims) else out
    if kind.startswith("Arg") and first.bounded:
        return with_span(out, (0, max((high for _, high in first.dims or ((0, first.elements),)), default=1)))
    return out
