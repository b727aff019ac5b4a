"""A small decoder-only transformer in numpy, with its gradients written out, and Adam to train it.

    x = E[tokens] + P[positions]
    of each layer:   h = norm(x);  x += attention(h Wq, h Wk, h Wv) Wo;   h = norm(x);  x += relu(h W1) W2
    scores = norm(x) U                     norm(x) = x / sqrt(mean(x^2) + eps), over the last axis

Everything is float32.  [b, t] are tokens of b windows; attention looks back only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.examples.corpus import Tokens, one_thread, windows

Array = npt.NDArray[Any]
Weights = dict[str, Array]

EPSILON = np.float32(1e-5)
HIDDEN = np.float32(-1e9)
"""The score of what a position must not see."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.  width is a multiple of heads."""

    vocabulary: int = 256
    width: int = 64
    heads: int = 4
    layers: int = 1
    inner: int = 128
    context: int = 128

    @property
    def depth(self) -> int:
        """Width of one head."""
        return self.width // self.heads


def initial(shape: Shape, random: np.random.Generator) -> Weights:
    """Draw small weights."""

    def draw(*sizes: int) -> Array:
        return np.asarray(random.normal(size=sizes) / np.sqrt(sizes[0]), np.float32)

    weights = {
        "E": draw(shape.vocabulary, shape.width) * np.float32(shape.vocabulary**0.5 / 4),
        "P": draw(shape.context, shape.width) * np.float32(shape.context**0.5 / 4),
        "U": draw(shape.width, shape.vocabulary),
    }
    for layer in range(shape.layers):
        weights |= {f"{name}{layer}": draw(shape.width, shape.width) for name in ("Wq", "Wk", "Wv", "Wo")}
        weights |= {f"W1{layer}": draw(shape.width, shape.inner), f"W2{layer}": draw(shape.inner, shape.width)}
    return weights


def loss_and_gradients(weights: Weights, shape: Shape, tokens: Tokens, wanted: Tokens) -> tuple[float, Weights]:
    """Return the mean loss in nats a token, and its gradient for each weight."""
    scores, undo = _forward(weights, shape, tokens)
    chances = _softmax(scores)
    taken = np.take_along_axis(chances, wanted[..., np.newaxis], -1)
    slope = chances
    np.put_along_axis(slope, wanted[..., np.newaxis], taken - 1, -1)
    loss = float(-np.log(taken + np.float32(1e-30)).mean())
    return loss, _backward(weights, shape, tokens, undo, slope / np.float32(tokens.size))


def loss_of(weights: Weights, shape: Shape, tokens: Tokens, wanted: Tokens) -> float:
    """Return the mean loss in nats a token."""
    chances = _softmax(_forward(weights, shape, tokens)[0])
    return float(-np.log(np.take_along_axis(chances, wanted[..., np.newaxis], -1) + np.float32(1e-30)).mean())


def _forward(weights: Weights, shape: Shape, tokens: Tokens) -> tuple[Array, list[dict[str, Array]]]:
    x = weights["E"][tokens] + weights["P"][: tokens.shape[1]]
    undo = []
    for layer in range(shape.layers):
        kept: dict[str, Array] = {"x": x}
        h = kept["h"] = _norm(x)
        q, k, v = (_split(h @ weights[f"{name}{layer}"], shape) for name in ("Wq", "Wk", "Wv"))
        looks = _softmax(_masked(q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(shape.depth))))
        mixed = _join(looks @ v)
        x = kept["y"] = x + mixed @ weights[f"Wo{layer}"]
        g = _norm(x)
        inner = np.maximum(g @ weights[f"W1{layer}"], 0)
        x = x + inner @ weights[f"W2{layer}"]
        undo.append(kept | {"q": q, "k": k, "v": v, "looks": looks, "mixed": mixed, "g": g, "inner": inner})
    undo.append({"x": x})
    return _norm(x) @ weights["U"], undo


def _backward(weights: Weights, shape: Shape, tokens: Tokens, undo: list[dict[str, Array]], slope: Array) -> Weights:
    last = undo[-1]["x"]
    found: Weights = {"U": _outer(_norm(last), slope)}
    dx = _unnorm(last, slope @ weights["U"].T)
    for layer in reversed(range(shape.layers)):
        kept = undo[layer]
        dx, gradients = _layer_backward({n: weights[f"{n}{layer}"] for n in _LAYER}, shape, kept, dx)
        found |= {f"{name}{layer}": gradient for name, gradient in gradients.items()}
    found["E"] = np.zeros_like(weights["E"])
    np.add.at(found["E"], tokens, dx)
    found["P"] = np.zeros_like(weights["P"])
    found["P"][: tokens.shape[1]] = dx.sum(0)
    return found


_LAYER = ("Wq", "Wk", "Wv", "Wo", "W1", "W2")


def _layer_backward(w: Weights, shape: Shape, kept: dict[str, Array], dx: Array) -> tuple[Array, Weights]:
    d_inner = (dx @ w["W2"].T) * (kept["inner"] > 0)
    found = {"W2": _outer(kept["inner"], dx), "W1": _outer(kept["g"], d_inner)}
    dy = dx + _unnorm(kept["y"], d_inner @ w["W1"].T)
    found["Wo"] = _outer(kept["mixed"], dy)
    d_mixed = _split(dy @ w["Wo"].T, shape)
    looks = kept["looks"]
    d_looks = d_mixed @ kept["v"].swapaxes(-1, -2)
    d_scores = looks * (d_looks - (d_looks * looks).sum(-1, keepdims=True)) / np.float32(np.sqrt(shape.depth))
    slopes = {
        "Wq": _join(d_scores @ kept["k"]),
        "Wk": _join(d_scores.swapaxes(-1, -2) @ kept["q"]),
        "Wv": _join(looks.swapaxes(-1, -2) @ d_mixed),
    }
    found |= {name: _outer(kept["h"], slope) for name, slope in slopes.items()}
    dh = sum(slope @ w[name].T for name, slope in slopes.items())
    return dy + _unnorm(kept["x"], np.asarray(dh)), found


def _norm(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON))


def _unnorm(x: Array, slope: Array) -> Array:
    """Return the gradient before `_norm`, from the one behind it."""
    size = np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
    return np.asarray((slope - x * (slope * x).mean(-1, keepdims=True) / (size * size)) / size)


def _softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _masked(scores: Array) -> Array:
    length = scores.shape[-1]
    return np.where(np.tri(length, dtype=bool), scores, HIDDEN)


def _split(x: Array, shape: Shape) -> Array:
    return x.reshape(*x.shape[:2], shape.heads, shape.depth).swapaxes(1, 2)


def _join(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(x.shape[0], x.shape[2], -1)


def _outer(left: Array, right: Array) -> Array:
    return np.asarray(left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1]))


@dataclass
class Adam:
    """The optimiser (Kingma and Ba, 2015), with its usual constants."""

    rate: float
    _means: Weights = field(default_factory=dict)
    _squares: Weights = field(default_factory=dict)
    _step: int = 0

    def update(self, weights: Weights, gradients: Weights, share: float = 1.0) -> None:
        """Move the weights against their gradients, at a share of the rate."""
        self._step += 1
        for name, slope in gradients.items():
            mean = self._means[name] = np.float32(0.9) * self._means.get(name, np.float32(0)) + np.float32(0.1) * slope
            square = self._squares.get(name, np.float32(0)) * np.float32(0.99) + np.float32(0.01) * slope * slope
            self._squares[name] = square
            scale = np.sqrt(square / np.float32(1 - 0.99**self._step)) + np.float32(1e-8)
            weights[name] -= np.float32(self.rate * share / (1 - 0.9**self._step)) * mean / scale


def train(shape: Shape, tokens: Tokens, *, steps: int, seed: int = 7, rate: float = 3e-3, rows: int = 16) -> Weights:
    """Train on random windows of the context's length; the same seed gives the same weights on the same machine."""
    random = np.random.default_rng(seed)
    weights, adam = initial(shape, random), Adam(rate)
    with one_thread():
        for step in range(steps):
            _, gradients = loss_and_gradients(weights, shape, *windows(tokens, rows, shape.context, random))
            adam.update(weights, gradients, min(1.0, (step + 1) / 20) * (1 - step / steps))
    return weights
