"""A small world to watch: three kinds of objects with twelve features, a linear model, and a profile of it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from manifests.abuse.calibrate.behaviours import BEHAVIOURS, Pool, Rows
from manifests.abuse.calibrate.learn import Report, Settings, Subject, learn
from manifests.abuse.profile import Profile
from manifests.abuse.scores import Outputs
from manifests.abuse.state import Lens, Looks, Watch

FEATURES, CLASSES = 12, 3
KEY = b"a key"
_SETTINGS = Settings(sessions=12, width=12, rate=0.01)


@functools.cache
def world(count: int = 2400) -> Rows:
    """Objects as float64 [count, 12]: correlated features of different units."""
    random = np.random.default_rng(1)
    centers = random.normal(size=(CLASSES, 6)) * 3
    hidden = centers[random.integers(CLASSES, size=count)] + random.normal(size=(count, 6))
    rows = hidden @ random.normal(size=(6, FEATURES)) + 0.2 * random.normal(size=(count, FEATURES))
    return np.asarray(np.float32(rows * np.geomspace(0.01, 100, FEATURES)), np.float64)


@functools.cache
def weights() -> tuple[Rows, Rows]:
    """The linear model: least squares on the objects' nearest centers."""
    rows = world()
    scale = rows.std(axis=0)
    kinds = np.argmax(rows[:, :3] / scale[:3], axis=1)
    design = np.concatenate((rows / scale, np.ones((len(rows), 1))), axis=1)
    found = np.linalg.lstsq(design, np.eye(CLASSES)[kinds] * 8, rcond=None)[0]
    return found[:-1] / scale[:, None], found[-1]


def run(rows: npt.NDArray[Any]) -> Outputs:
    """The model in numpy: softmax(rows @ w + b)."""
    w, b = weights()
    logits = rows.astype(np.float64) @ w + b
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def onnx_bytes(*, labels: bool = False) -> bytes:
    """The same model as ONNX: scores, or labels alone."""
    w, b = (
        numpy_helper.from_array(array.astype(np.float32), name) for array, name in zip(weights(), "wb", strict=True)
    )
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
    if labels:
        nodes[1] = helper.make_node("ArgMax", ["z"], ["y"], axis=1, keepdims=0)
        output = helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])
    graph = helper.make_graph(nodes, "small", [x], [output], [w, b])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def subject(**changes: Any) -> Subject:
    table = {"input": "x", "output": "y", "labels_only": False, "classes": CLASSES, "dtype": "float32"}
    return Subject(**{**table, "shape": (FEATURES,), "run": run, **changes})


@functools.cache
def learned() -> tuple[Profile, Report]:
    rows = world()[:1200]
    return learn(rows, np.arange(len(rows)), subject(), _SETTINGS)


def profile() -> Profile:
    return learned()[0]


@functools.cache
def pool() -> Pool:
    """Objects that nothing was fitted to."""
    rows = world()[1200:]
    labels = np.asarray(run(rows).argmax(axis=1), np.int64)
    return Pool(rows, labels, rows.min(axis=0), rows.max(axis=0), 3 * rows.std(axis=0), (FEATURES,), False)


def benign(name: str, seed: int, length: int = 300) -> Rows:
    return np.float32(BEHAVIOURS[name](np.random.default_rng(seed), pool(), length))


def strange(seed: int, length: int = 300) -> Rows:
    """Uniform noise over the whole range, as who copies a model without data asks."""
    random = np.random.default_rng(seed)
    return np.float32(random.uniform(pool().low, pool().high, (length, FEATURES)))


def probing(seed: int, length: int = 300) -> Rows:
    """A walk around one object in small steps, as who looks for an adversarial example asks."""
    random = np.random.default_rng(seed)
    start = pool().rows[int(random.integers(len(pool().rows)))]
    return np.float32(start + 0.02 * random.normal(size=(length, FEATURES)) * pool().unit)


def padded(rows: Rows, times: int, seed: int) -> Rows:
    """Each row followed by `times` benign ones, none of which comes twice."""
    others = benign("iid", seed, len(rows) * times)
    out = np.empty((len(rows) * (times + 1), FEATURES), np.float32)
    out[:: times + 1] = rows
    out[np.arange(len(out)) % (times + 1) != 0] = others
    return out


def looks(rows: Rows, key: bytes = KEY) -> Looks:
    return Lens(profile(), key).look(rows, run(rows))


def watched(rows: Rows, watch: Watch | None = None) -> tuple[int | None, Watch]:
    """Show rows to a state; return the number of the query that raised the first alarm, and the state."""
    watch = Watch(profile()) if watch is None else watch
    first, seen = None, looks(rows)
    for row in range(len(rows)):
        watch.see(seen, row)
        if first is None and watch.alarms():
            first = row + 1
    return first, watch
