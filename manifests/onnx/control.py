"""Operators with subgraphs: If, Loop and Scan.

A loop's state is followed from one iteration to the next until it settles: what is known of it no longer changes.
Numbers in it, such as a counter, are given up first.  Where it does not settle the loop is followed to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from manifests.onnx import dtypes
from manifests.onnx.errors import OnnxCode
from manifests.onnx.messages import Graph
from manifests.onnx.rules import Effect, Op
from manifests.onnx.values import UNBOUNDED, Value, covers, fixed, joined, made, shapeless, unknown, with_span

MOST_ROUNDS = 256
"""Iterations that are followed one by one: of loops whose state grows."""
KEPT_NUMBERS = 2
"""Iterations after which numbers in a loop's state are given up, unless they stay the same."""


@dataclass(frozen=True)
class Ran:
    """What a subgraph gives: its outputs, its work, the most memory that it needs at once."""

    outputs: list[Value]
    work: int
    memory: int


_ENDLESS = 1 << 62
"""A trip count that only says "until the condition ends it": PyTorch writes the greatest int64."""

Run = Callable[[Graph, list[Value]], Ran]
Refuse = Callable[[OnnxCode, str], None]


def branch(op: Op, run: Run) -> Effect:
    """Bound an If by both of its branches."""
    ran = [run(graph, []) for name in ("then_branch", "else_branch") if (graph := op.graph(name)) is not None]
    if not ran:
        return Effect([unknown(dtypes.FLOAT)] * len(op.node.output))
    outputs = [joined(a, b) for a, b in zip(ran[0].outputs, ran[-1].outputs, strict=False)]
    return Effect(outputs, max(item.work for item in ran), max(item.memory for item in ran))


def loop(op: Op, run: Run, refuse: Refuse, most: int | None) -> Effect:
    """Bound a Loop by its trip count, or by the manifest's `max_iterations` where the graph leaves that open."""
    body, trips = op.graph("body"), _trips(op, most)
    if body is None:
        return Effect([unknown(dtypes.FLOAT)] * len(op.node.output))
    if trips is None:
        refuse(OnnxCode.LOOP, "the number of iterations cannot be bounded")
        trips = 1
    state = [replace(value, constant=False) for value in op.inputs[2:] if value is not None]
    count = with_span(made(dtypes.INT64, fixed()), (0, max(0, trips - 1)))
    going = with_span(made(dtypes.BOOL, fixed()), (0, 1))
    ran, state = _settle(lambda now: run(body, [count, going, *now]), state, 1, trips, refuse)
    extra = [_stacked(value, trips) for value in ran.outputs[1 + len(state) :]]
    return _sum(state, extra, ran, trips)


def _trips(op: Op, most: int | None) -> int | None:
    count, condition = op.optional(0), op.optional(1)
    found = None if count is None or count.reach is None else max(0, int(count.reach[1]))
    if condition is not None and condition.span == (0, 0):
        return 0
    if found is not None and found < _ENDLESS:
        return found if most is None else min(found, max(most, 0))
    return most


def scan(op: Op, run: Run, refuse: Refuse) -> Effect:
    """Bound a Scan by the axis that it goes along."""
    body = op.graph("body")
    first = 1 if op.version < 9 else 0
    count = min(op.integer("num_scan_inputs", 1), len(op.inputs) + 1)
    values = [value for value in op.inputs[first:] if value is not None]
    state, rows = [replace(value, constant=False) for value in values[: len(values) - count]], values[-count:]
    axes = op.integers("scan_input_axes") or [0] * count
    if body is None or count < 1 or len(rows) != count or len(axes) != count or op.version < 9:
        return Effect([unknown(dtypes.FLOAT)] * len(op.node.output))
    trips = min(value.axis(axis) for value, axis in zip(rows, axes, strict=True))
    slices = [_slice(value, axis) for value, axis in zip(rows, axes, strict=True)]
    ran, state = _settle(lambda now: run(body, [*now, *slices]), state, 0, trips, refuse)
    outputs = op.integers("scan_output_axes")
    extra = [_stacked(value, trips, outputs[at] if outputs and at < len(outputs) else 0)
             for at, value in enumerate(ran.outputs[len(state) :])]  # fmt: skip
    return _sum(state, extra, ran, trips)


def _sum(state: list[Value], extra: list[Value], ran: Ran, trips: int) -> Effect:
    """Add up: what is collected over the iterations lies there in pieces, and once more when it is put together."""
    held = sum(value.bytes for value in state) + sum(value.bytes for value in extra)
    return Effect([*state, *extra], ran.work * trips, ran.memory + 2 * held)


def _slice(value: Value, axis: int) -> Value:
    if value.dims is None or not -len(value.dims) <= axis < len(value.dims):
        return shapeless(value)
    at = axis % len(value.dims)
    least = max(1, value.dims[at][0])
    return made(value.dtype, value.dims[:at] + value.dims[at + 1 :], value.elements // least, text=value.text)


def _stacked(value: Value, trips: int, axis: int = 0) -> Value:
    """Return all that an output of a body is over the iterations, as one tensor."""
    if value.dims is None:
        return Value(value.dtype, None, value.elements * trips, text=value.text * trips)
    at = axis % (len(value.dims) + 1)
    dims = (*value.dims[:at], (0, trips), *value.dims[at:])
    return with_span(made(value.dtype, dims, value.elements * trips, text=value.text * trips), value.span)


def _settle(
    once: Callable[[list[Value]], Ran], state: list[Value], skip: int, trips: int, refuse: Refuse
) -> tuple[Ran, list[Value]]:
    """Follow a state until it settles or the iterations are over; return the dearest iteration and the last state."""
    work = memory = 0
    for round_ in range(MOST_ROUNDS):
        ran = once(state)
        work, memory = max(work, ran.work), max(memory, ran.memory)
        made_now = ran.outputs[skip : skip + len(state)]
        if len(made_now) < len(state):
            made_now += [Value(item.dtype, None, UNBOUNDED) for item in state[len(made_now) :]]
        if all(map(covers, state, made_now)) or round_ + 1 >= trips:
            last = [joined(a, b) for a, b in zip(state, made_now, strict=True)]
            return Ran(ran.outputs, work, memory), last
        state = [_next(a, b, round_) for a, b in zip(state, made_now, strict=True)]
    refuse(OnnxCode.UNBOUNDED, "the state of a loop grows for as long as it runs")
    return Ran(ran.outputs, work, memory), state


def _next(before: Value, now: Value, round_: int) -> Value:
    """Return what a state is known to be after one more iteration."""
    both = joined(before, now)
    if round_ >= KEPT_NUMBERS and (both.content is None or both != before):
        return replace(both, content=None, span=None)
    return both
