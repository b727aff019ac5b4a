"""Requests through client, host and enclave, against plain onnxruntime on the same model and input."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from benchmarks.timing import repeat
from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.models import DemoModel, magika_model, tumour_model
from evaluation.demo.preparation import ModelToSeal


def measure() -> dict[str, object]:
    """Return, in microseconds, medians of one handshake and of one request to each model."""
    models = [tumour_model(), magika_model()]
    to_seal = [ModelToSeal(model.name, model.onnx) for model in models]
    release = {"release": {"lease": 10_000_000}}
    with temporary_home() as home, Deployment(home, to_seal, release=release) as deployment:
        handshake = repeat(lambda: deployment.session().close(), seconds=4)
        return {
            "handshake_us": handshake.median * 1e6,
            "handshake_p99_us": handshake.p99 * 1e6,
            **{model.name: _request(deployment, model) for model in models},
        }


def _request(deployment: Deployment, model: DemoModel) -> dict[str, float]:
    """Compare one row's time inside a session with plain onnxruntime, after comparing the answers bit for bit."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    plain = ort.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    row = {name: np.ascontiguousarray(rows[:1]) for name, rows in model.inputs.items()}
    names = [output.name for output in plain.get_outputs()]
    with deployment.session() as session:
        answer = session.infer(model.name, row)
        for name, expected in zip(names, plain.run(names, row), strict=True):
            assert np.array_equal(answer[name], expected), name
        served = repeat(lambda: session.infer(model.name, row), seconds=4, warm_up=20)
    alone = repeat(lambda: plain.run(names, row), seconds=2, warm_up=20)
    return {
        "served_us": served.median * 1e6,
        "served_p99_us": served.p99 * 1e6,
        "onnxruntime_us": alone.median * 1e6,
        "added_us": (served.median - alone.median) * 1e6,
        "ratio": served.median / alone.median,
    }
