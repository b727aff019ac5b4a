"""The examples' networks: their gradients are right, and their graphs compute what they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from evaluation.examples import recurrent, transformer
from evaluation.examples.corpus import library_text, unigram_loss
from evaluation.examples.export import export
from evaluation.examples.transformer import Shape, Weights

SMALL = Shape(vocabulary=11, width=8, heads=2, layers=2, inner=12, context=6)
TOKENS, WANTED = np.random.default_rng(0).integers(0, 11, (2, 2, 6))
SERIES = recurrent.sensor_series(3, 9, seed=1).astype(np.float64)

Loss = Callable[[Weights], tuple[float, Weights]]


def in_doubles(weights: Weights) -> Weights:
    return {name: value.astype(np.float64) for name, value in weights.items()}


CASES: dict[str, tuple[Weights, Loss]] = {
    "transformer": (
        in_doubles(transformer.initial(SMALL, np.random.default_rng(1))),
        lambda weights: transformer.loss_and_gradients(weights, SMALL, TOKENS, WANTED),
    ),
    "recurrent": (
        in_doubles(recurrent.initial(2)),
        lambda weights: recurrent.loss_and_gradients(weights, SERIES),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_gradient_is_the_slope_of_the_loss(case: str) -> None:
    weights, loss = CASES[case]
    _, gradients = loss(weights)
    assert gradients.keys() == weights.keys()
    for name, gradient in gradients.items():
        at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        step, slopes = 1e-5, []
        for sign in (1, -1):
            moved = weights[name].copy()
            moved[at] += sign * step
            slopes.append(loss({**weights, name: moved})[0])
        np.testing.assert_allclose((slopes[0] - slopes[1]) / (2 * step), gradient[at], rtol=1e-4)


def test_the_exported_transformer_gives_the_scores_of_the_trained_one() -> None:
    weights = transformer.initial(SMALL, np.random.default_rng(1))
    session = ort.InferenceSession(export(weights, SMALL), providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {"tokens": TOKENS[:1], "positions": np.arange(6)[np.newaxis]}
    feeds |= {
        f"past_{name}{layer}": np.zeros((1, 2, 0, 4), np.float32) for name in ("key", "value") for layer in (0, 1)
    }
    scores = session.run(["logits"], feeds)[0].astype(np.float64)
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    told = -np.log(np.take_along_axis(chances, WANTED[:1, :, np.newaxis], -1)).mean()
    assert told == pytest.approx(transformer.loss_of(weights, SMALL, TOKENS[:1], WANTED[:1]), rel=1e-4)


def test_the_exported_recurrent_network_gives_the_values_of_the_trained_one() -> None:
    weights = recurrent.initial(2)
    session = ort.InferenceSession(recurrent.export(weights).onnx, providers=["CPUExecutionProvider"])
    series, state, told = recurrent.sensor_series(1, 9, seed=1), np.zeros((1, recurrent.WIDTH), np.float32), []
    for value in series[0, :-1]:
        y, state = session.run(["y", "h_next"], {"x": np.array([[value]]), "h": state})
        told.append(y[0, 0])
    np.testing.assert_allclose(told, recurrent.predictions(weights, series)[0][0], rtol=1e-4, atol=1e-5)


def test_the_text_is_the_same_each_time_and_worth_learning() -> None:
    text = library_text(20_000)
    assert text == library_text(20_000)
    assert len(text) == 20_000
    tokens = np.frombuffer(text, np.uint8).astype(np.int64)
    assert 2.5 < unigram_loss(tokens, tokens, 256) < 4.0


def test_the_recurrent_example_tells_what_it_learned(capsys: pytest.CaptureFixture[str]) -> None:
    recurrent.main()
    text = capsys.readouterr().out
    error, naive = map(float, re.findall(r"\d\.\d{3}", text))
    assert error < naive
    assert "bytes of ONNX" in text
