"""A small recurrent network in numpy (Elman, 1990) that tells the next value of a series, and its ONNX graph.

h = tanh(x Wx + h Wh + b);  y = h Wy + c           one step of a series at a time; h stays from step to step
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evaluation.examples.corpus import one_thread
from evaluation.examples.transformer import Adam, Array, Weights

WIDTH = 24
SENSOR_PERIODS = (7.0, 19.0)
"""Samples of the two oscillations that a sensor's series is made of."""


def sensor_series(rows: int, length: int, seed: int) -> Array:
    """Return series [rows, length] of two oscillations with random phases, and a little noise."""
    random = np.random.default_rng(seed)
    times = np.arange(length)
    phases = random.uniform(0, 2 * np.pi, (2, rows, 1))
    waves = [np.sin(2 * np.pi * times / period + phase) for period, phase in zip(SENSOR_PERIODS, phases, strict=True)]
    return np.asarray(waves[0] + 0.5 * waves[1] + random.normal(0, 0.02, (rows, length)), np.float32)


def initial(seed: int) -> Weights:
    """Draw small weights."""
    random = np.random.default_rng(seed)
    sizes = {"Wx": (1, WIDTH), "Wh": (WIDTH, WIDTH), "Wy": (WIDTH, 1)}
    weights = {name: (random.normal(size=s) / np.sqrt(max(s))).astype(np.float32) for name, s in sizes.items()}
    return weights | {"b": np.zeros(WIDTH, np.float32), "c": np.zeros(1, np.float32)}


def predictions(weights: Weights, series: Array) -> tuple[Array, list[Array]]:
    """Return the next value that is told behind each but the last, [rows, length - 1], and the states."""
    states = [np.zeros((len(series), WIDTH), np.float32)]
    told = []
    for step in range(series.shape[1] - 1):
        now = series[:, step : step + 1] @ weights["Wx"] + states[-1] @ weights["Wh"] + weights["b"]
        states.append(np.tanh(now))
        told.append(states[-1] @ weights["Wy"] + weights["c"])
    return np.concatenate(told, axis=1), states


def loss_and_gradients(weights: Weights, series: Array) -> tuple[float, Weights]:
    """Return the mean squared error, and its gradient through all steps."""
    told, states = predictions(weights, series)
    slope = (told - series[:, 1:]) * np.float32(2 / told.size)
    found = {name: np.zeros_like(value) for name, value in weights.items()}
    later = np.zeros_like(states[0])
    for step in reversed(range(told.shape[1])):
        dy, state = slope[:, step : step + 1], states[step + 1]
        found["Wy"] += state.T @ dy
        found["c"] += dy.sum(0)
        now = (dy @ weights["Wy"].T + later) * (1 - state * state)
        found["Wx"] += series[:, step : step + 1].T @ now
        found["Wh"] += states[step].T @ now
        found["b"] += now.sum(0)
        later = now @ weights["Wh"].T
    return float(((told - series[:, 1:]) ** 2).mean()), found


def train(steps: int = 200, seed: int = 3) -> Weights:
    """Train on fresh series at each step."""
    weights, adam = initial(seed), Adam(1e-2)
    with one_thread():
        for step in range(steps):
            _, gradients = loss_and_gradients(weights, sensor_series(32, 40, seed * 100_000 + step))
            adam.update(weights, gradients, 1 - step / steps)
    return weights


@dataclass(frozen=True)
class Recurrent:
    """The graph, and what its owner sets in the drafted manifest."""

    onnx: bytes
    review: dict[str, Any]


def export(weights: Weights, **state: Any) -> Recurrent:
    """Return the graph of one step: x [1, 1] and h in, y [1, 1] and h_next out; `state` adds to that table."""
    nodes = [
        helper.make_node("MatMul", ["x", "Wx"], ["from_x"]),
        helper.make_node("MatMul", ["h", "Wh"], ["from_h"]),
        helper.make_node("Sum", ["from_x", "from_h", "b"], ["now"]),
        helper.make_node("Tanh", ["now"], ["h_next"]),
        helper.make_node("MatMul", ["h_next", "Wy"], ["read"]),
        helper.make_node("Add", ["read", "c"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [info("x", TensorProto.FLOAT, [1, 1]), info("h", TensorProto.FLOAT, [1, WIDTH])],
        [info("y", TensorProto.FLOAT, [1, 1]), info("h_next", TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return Recurrent(bytes(model.SerializeToString()), {"state": {"pairs": [["h", "h_next"]], **state}})


def main(steps: int = 200) -> None:
    """Train, export, and tell how well the next value is told, beside saying the last one again."""
    weights = train(steps)
    unseen = sensor_series(64, 60, 1)
    told, _ = predictions(weights, unseen)
    error, naive = (float(np.sqrt(np.mean((guess - unseen[:, 1:]) ** 2))) for guess in (told, unseen[:, :-1]))
    made = export(weights)
    print(f"{len(made.onnx):,} bytes of ONNX, with a state of {WIDTH} numbers; the manifest needs {made.review}")
    print(f"root mean square error {error:.3f} on series not seen; the last value again: {naive:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
