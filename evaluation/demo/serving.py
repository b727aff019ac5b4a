"""The good case: real inputs answered by sealed models, held against plain onnxruntime bit for bit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from attestation.client import Session
from evaluation.demo.models import DemoModel
from evaluation.demo.report import Cost, ModelResult

TIMED_CASES = 15
"""Enough for a median that does not jump."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Plain:
    """Plain onnxruntime, as anyone would run the model without protection."""

    def __init__(self, model: DemoModel) -> None:
        """Load the model."""
        self._session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def infer(self, inputs: Arrays) -> Arrays:
        """Return the outputs by name."""
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


def serve_cases(session: Session, model: DemoModel) -> tuple[ModelResult, Arrays]:
    """Ask the enclave about every case and compare; returns the result and the enclave's answer."""
    answer = session.infer(model.name, model.inputs)
    same = identical(answer, Plain(model).infer(model.inputs))
    return ModelResult(model.name, len(model.cases), same, _correct(model, answer)), answer


def measure_cost(session: Session, model: DemoModel) -> Cost:
    """Time requests of one case each."""
    in_enclave = _median_ms(lambda inputs: session.infer(model.name, inputs), model)
    return Cost(model.name, in_enclave, _median_ms(Plain(model).infer, model))


def identical(first: Arrays, second: Arrays) -> bool:
    """Tell whether two sets of tensors have the same names, dtypes, shapes and bytes."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def verdicts(model: DemoModel, answer: Arrays) -> list[tuple[str, str, float]]:
    """Return (case, class, score) of each row."""
    scores = answer[model.scores]
    best = scores.argmax(axis=1)
    rows = zip(model.cases, best, scores, strict=True)
    return [(case, model.classes[index], float(row[index])) for case, index, row in rows]


def _correct(model: DemoModel, answer: Arrays) -> int | None:
    if model.truth is None:
        return None
    return int(np.sum(answer[model.scores].argmax(axis=1) == np.array(model.truth)))


def _median_ms(ask: Callable[[Arrays], object], model: DemoModel) -> float:
    times = []
    for row in range(-1, min(TIMED_CASES, len(model.cases))):  # the first one warms up
        one = {name: value[max(row, 0) :][:1] for name, value in model.inputs.items()}
        begun = time.perf_counter()
        ask(one)
        times.append(time.perf_counter() - begun)
    return round(statistics.median(times[1:]) * 1000, 3)
