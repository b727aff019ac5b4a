"""How much memory a request may take by its shapes: the static bound of cost.py, looked up and not computed.

When a model is loaded, the graph is followed once for each point of a grid of its axes' lengths.  A request has the
bound of the next point that is nowhere below it: each point's bound is for all axes up to its lengths, so it is an
upper bound for the request, too high by what the grid's step makes.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from manifests.model import ModelManifest
from manifests.onnx.bounds import MAX_FOLLOWED
from manifests.onnx.budget import Budget
from manifests.onnx.cost import Evaluator
from manifests.onnx.errors import OnnxError
from manifests.onnx.findings import Findings
from manifests.onnx.inputs import described
from manifests.onnx.memory import MOST_PAIRS, MOST_STEPS
from manifests.onnx.operators import plain_domain
from manifests.onnx.permits import GraphPermits
from manifests.onnx.reader import read_model
from manifests.onnx.structure import Structure
from manifests.onnx.tensors import Places
from manifests.onnx.values import Value
from manifests.tensors import Axis

MAX_POINTS = 64
"""Points of the grid: sixty-four lengths of one axis, eight of each of two."""
MAX_NODES = 1 << 18
"""Nodes that are followed in all, some seconds of it; a grid over a larger graph has fewer points, one at least.

So it is with values and numbers: all points together have `bounds.MAX_FOLLOWED` of them."""


@dataclass(frozen=True)
class RequestBounds:
    """The bounds of one model.

    limit: bytes that a request may take.  axes: for each of the graph's dynamic axes, the tensors and places where it
    stands.  lengths: ascending, for each axis, the last being its maximum.  memory: bytes by point of the grid.
    """

    limit: int
    axes: Mapping[str, tuple[tuple[str, int], ...]]
    lengths: Mapping[str, tuple[int, ...]] = field(repr=False)
    memory: Mapping[tuple[int, ...], int] = field(repr=False)

    @property
    def least(self) -> int:
        """Bytes of the smallest request."""
        return min(self.memory.values())

    def of(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Return an upper bound in bytes for a request whose graph inputs have these shapes."""
        point = []
        for name, places in self.axes.items():
            length = max(shapes[tensor][at] for tensor, at in places)
            lengths = self.lengths[name]
            point.append(lengths[min(bisect_left(lengths, length), len(lengths) - 1)])
        return self.memory[tuple(point)]


def bound_requests(
    data: bytes | bytearray | memoryview, manifest: ModelManifest, parts: Mapping[str, int]
) -> RequestBounds | None:
    """Return the bounds of a model that has passed its check, or None where its manifest states no limit.

    data, parts: as `check_model` takes them.  Raises OnnxError `onnx-expansion` and `onnx-followed`, where not even
    the greatest request can be followed.
    """
    limit = manifest.limits.max_request_memory
    model = read_model(data) if limit is not None else None
    if limit is None or model is None or model.graph is None:
        return None
    permits = manifest.graph or GraphPermits()
    structure = Structure(model, frozenset(permits.operators), Findings(), Places(parts))
    structure.check()
    opsets = {plain_domain(item.domain): item.version for item in model.opset_import}
    axes, spans = _axes(manifest)
    graph, most, budget = model.graph, described(manifest), Budget(MAX_NODES)

    def memory_of(lengths: Mapping[str, int]) -> int:
        findings = Findings()
        evaluator = Evaluator(structure.functions, permits, findings, budget)
        cost = evaluator.model(graph, _narrowed(most, axes, lengths), opsets)
        if findings.count:  # what has no bound counts as nothing: a scarce budget forgets constants
            raise OnnxError(findings.listed[0].code, "a request cannot be bounded")
        return cost.memory

    top = {name: axis.maximum for name, axis in spans.items()}
    last = {tuple(top.values()): memory_of(top)}
    lengths = _grid(spans, _points(budget))
    try:
        points = itertools.product(*lengths.values())
        memory = {point: memory_of(dict(zip(lengths, point, strict=True))) for point in points if point not in last}
    except OnnxError:  # smaller requests can cost more to follow: then all have the bound of the greatest
        return RequestBounds(limit, axes, {name: (length,) for name, length in top.items()}, last)
    return RequestBounds(limit, axes, lengths, memory | last)


def _points(budget: Budget) -> int:
    """Return how many points can be followed, from what the first of them took."""
    nodes, units = max(1, MAX_NODES - budget.nodes), max(1, MAX_FOLLOWED - budget.units)
    enough = MAX_FOLLOWED // 2  # beyond it the budget is scarce, and constants that bound a request would be forgotten
    pairs = min(nodes, MOST_STEPS) ** 2  # that memory.py compares
    return max(1, min(MAX_POINTS, MAX_NODES // nodes, enough // units, MOST_PAIRS // pairs))


def _axes(manifest: ModelManifest) -> tuple[dict[str, tuple[tuple[str, int], ...]], dict[str, Axis]]:
    """Return where each dynamic axis of the graph's inputs stands, and the axes themselves."""
    places: dict[str, tuple[tuple[str, int], ...]] = {}
    axes: dict[str, Axis] = {}
    for tensor in manifest.graph_inputs():
        for at, axis in enumerate(tensor.shape):
            if isinstance(axis, Axis):
                places[axis.name] = (*places.get(axis.name, ()), (tensor.name, at))
                axes[axis.name] = axis
    return places, axes


def _grid(axes: Mapping[str, Axis], points: int) -> dict[str, tuple[int, ...]]:
    """Return ascending lengths for each axis, all together at most so many points; each ends with its maximum."""
    each = int(points ** (1 / len(axes)) + 1e-9) if axes else 1
    return {name: _lengths(axis.minimum, axis.maximum, each) for name, axis in axes.items()}


def _lengths(low: int, high: int, count: int) -> tuple[int, ...]:
    """Return at most `count` lengths, evenly where they are few and by equal factors where they are many."""
    if count < 2 or low == high:
        return (high,)
    if high - low < count:
        return tuple(range(low, high + 1))
    factor = (high / max(low, 1)) ** (1 / (count - 1))
    return tuple(sorted({low, high, *(min(high, round(max(low, 1) * factor**step)) for step in range(1, count - 1))}))


def _narrowed(
    most: Mapping[str, Value], axes: Mapping[str, tuple[tuple[str, int], ...]], lengths: Mapping[str, int]
) -> dict[str, Value]:
    """Return the inputs with axes of at most these lengths."""
    tops = {place: lengths[name] for name, places in axes.items() for place in places}
    return {name: _cut(name, value, tops) for name, value in most.items()}


def _cut(name: str, value: Value, tops: Mapping[tuple[str, int], int]) -> Value:
    if value.dims is None:
        return value
    dims = []
    for at, (low, high) in enumerate(value.dims):
        top = min(high, tops.get((name, at), high))
        dims.append((min(low, top), top))
    elements = math.prod(top for _, top in dims)
    return replace(value, dims=tuple(dims), elements=min(value.elements, elements))
