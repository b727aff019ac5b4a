"""What joining requests brings: one graph under two manifests, asked by many sessions at once, in one run."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal

WIDTH = 1024
LAYERS = 8
"""32 MiB of weights: a row alone reads them all for one product each, which is where joined rows gain."""
SESSIONS = 16
ROUNDS = 4
"""The two models take turns, so that whatever else the machine does concerns both."""
REQUESTS = 20
"""Of each session in each round."""
BATCHING = {"max_rows": SESSIONS, "max_wait_us": 2_000}


def wide() -> bytes:
    """Return the ONNX bytes of a stack of layers x = relu(x W)."""
    random = np.random.default_rng(1)
    nodes, weights, x = [], [], "x"
    for layer in range(LAYERS):
        weights.append(numpy_helper.from_array(random.normal(0, 0.04, (WIDTH, WIDTH)).astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [x, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"x{layer}"]))
        x = f"x{layer}"
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "wide", tensors[:1], tensors[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def measure() -> dict[str, Any]:
    """Return requests a second with and without joining, and their ratio."""
    data = wide()
    models = [ModelToSeal("alone", data), ModelToSeal("joined", data, review={"batching": BATCHING})]
    release = {"release": {"lease": 10_000_000}}
    seconds = {"alone": 0.0, "joined": 0.0}
    with temporary_home() as home, Deployment(home, models, release=release) as deployment:
        for name in [*seconds] * ROUNDS:
            seconds[name] += _round(deployment, name)
    rates = {name: ROUNDS * SESSIONS * REQUESTS / spent for name, spent in seconds.items()}
    return {
        "sessions": SESSIONS,
        "alone_per_second": rates["alone"],
        "joined_per_second": rates["joined"],
        "ratio": rates["joined"] / rates["alone"],
    }


def _round(deployment: Deployment, model: str) -> float:
    """Return how long all sessions together take for their requests of one row each."""
    ready = threading.Barrier(SESSIONS + 1)

    def ask(seed: int) -> None:
        row = {"x": np.random.default_rng(seed).normal(size=(1, WIDTH)).astype(np.float32)}
        with deployment.session() as session:
            session.infer(model, row)
            ready.wait()
            for _ in range(REQUESTS):
                session.infer(model, row)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(SESSIONS)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(measure())
