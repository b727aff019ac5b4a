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
from evaluation.demo.report import ModelResult

TIMED_CASES = 15
"""Enough for a median that does not jump."""

Arrays = Mapping[str, npt.NDArray[Any]]


def plain_answers(model: DemoModel) -> tuple[dict[str, npt.NDArray[Any]], Callable[[Arrays], object]]:
    """Return what plain onnxruntime answers, and a function that asks it again."""
    session = onnxruntime.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(names, model.inputs), strict=True))
    return answers, lambda inputs: session.run(names, dict(inputs))


def serve_cases(session: Session, model: DemoModel) -> tuple[ModelResult, Arrays]:
    """Ask the enclave about every case, and compare; returns the result and the enclave's answer."""
    answer = session.infer(model.name, model.inputs)
    plain, ask_plain = plain_answers(model)
    result = ModelResult(
        name=model.name,
        cases=len(model.cases),
        identical=identical(answer, plain),
        correct=_correct(model, answer),
        enclave_ms=_median_ms(lambda inputs: session.infer(model.name, inputs), model),
        plain_ms=_median_ms(ask_plain, model),
    )
    return result, answer


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
    for row in range(min(TIMED_CASES, len(model.cases))):
        one = {name: value[row : row + 1] for name, value in model.inputs.items()}
        begun = time.perf_counter()
        ask(one)
        times.append(time.perf_counter() - begun)
    return round(statistics.median(times) * 1000, 3)
