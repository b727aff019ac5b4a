"""Pages of written digits, a model that finds the digits on a page, and one that reads a digit.

The digits are scikit-learn's, of 8 x 8 pixels in 16 shades.  A page is composed of them by Pillow, as a photograph
would have it: dark ink on paper that is lit from one side, with some noise.  Both models are trained here, in seconds.

    python -m evaluation.examples.pages FOLDER

writes both as ONNX files, and a page as JPEG, into a folder.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from evaluation.examples.corpus import one_thread

PAGE, DIGIT, VIEW = 512, 64, 128
"""Pixels of a side: of a page, of a digit on it, and of the picture that the finder gets of the page."""
SCALE = PAGE // VIEW
WINDOW = DIGIT // SCALE
"""Pixels of a side of a digit in the finder's picture: what it looks at to tell whether a digit is there."""
KNOWN = 1500
"""Digits that models are trained on; those behind them are for pages that they have never seen."""
MOST = 64
"""Digits that are read on one page."""
OPSET = 17

Pixels: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Page:
    """A photographed page: `places` are left and top of each digit, in pixels, and `digits` what is written there."""

    image: Image.Image = field(repr=False)
    places: tuple[tuple[int, int], ...]
    digits: tuple[int, ...]


@functools.cache
def _written() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    pixels, classes = load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8) / 16, classes


def compose(rng: np.random.Generator, count: int, *, unseen: bool = True) -> Page:
    """Compose a page of so many digits that do not touch each other; `unseen`: of those that nothing is trained on."""
    ink, classes = _written()
    chosen = rng.integers(*((KNOWN, len(classes)) if unseen else (0, KNOWN)), count)
    places: list[tuple[int, int]] = []
    while len(places) < count:
        left, top = (int(edge) for edge in rng.integers(0, PAGE - DIGIT, 2))
        if all(max(abs(left - x), abs(top - y)) > DIGIT + SCALE for x, y in places):
            places.append((left, top))
    dark = np.zeros((PAGE, PAGE))
    for number, (left, top) in zip(chosen, places, strict=True):
        shades = Image.fromarray(np.round(255 * ink[number]).astype(np.uint8)).resize(
            (DIGIT, DIGIT), Image.Resampling.BICUBIC
        )
        dark[top : top + DIGIT, left : left + DIGIT] = np.asarray(shades) / 255
    return Page(_photographed(rng, dark), tuple(places), tuple(int(classes[number]) for number in chosen))


def _photographed(rng: np.random.Generator, dark: npt.NDArray[Any]) -> Image.Image:
    """Light the page from one side, and add what a sensor adds."""
    slope = rng.uniform(-0.1, 0.1, 2)
    ramp = np.linspace(-1, 1, PAGE)
    light = 0.85 + slope[0] * ramp[np.newaxis] + slope[1] * ramp[:, np.newaxis]
    seen = light * (1 - 0.85 * dark) + 0.02 * rng.standard_normal(dark.shape, np.float32)
    gray = np.round(255 * np.clip(seen, 0, 1)).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")


def _fit(network: MLPClassifier, inputs: Sequence[Pixels], wanted: Sequence[int]) -> None:
    """Train for as many rounds as the network says, whether or not it would still gain by more."""
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(np.stack(inputs), wanted)


# --------------------------------------------------------------------------------------------------- the finder


def _view(image: Image.Image) -> Pixels:
    """Return the page as the finder's graph gets it."""
    small = image.convert("L").resize((VIEW, VIEW), Image.Resampling.BILINEAR)
    return np.asarray(small).astype(np.float32) / np.float32(255)


def _windows(rng: np.random.Generator, pages: int) -> Iterator[tuple[Pixels, bool]]:
    """Windows of pages, and whether a digit fills them; those with a digit that is a little off are left out."""
    for _ in range(pages):
        page = compose(rng, 16, unseen=False)
        view, places = _view(page.image), np.array(page.places) / SCALE
        near = (np.round(places)[:, np.newaxis] + rng.integers(-6, 7, (1, 10, 2))).reshape(-1, 2)
        anywhere = rng.integers(0, VIEW - WINDOW + 1, (120, 2))
        tried = np.concatenate([np.round(places), np.floor(places), near, anywhere]).astype(int)
        for left, top in np.clip(tried, 0, VIEW - WINDOW):
            off = np.abs(places - (left, top)).max(axis=1).min()
            if off <= 0.75 or off > 1.75:
                yield _halved(view[top : top + WINDOW, left : left + WINDOW]), bool(off <= 0.75)


def _halved(window: Pixels) -> Pixels:
    """Return a window with the means of 2 x 2 pixels, as the graph has them at each place."""
    means: Pixels = window.reshape(WINDOW // 2, 2, WINDOW // 2, 2).mean(axis=(1, 3)).ravel()
    return means


@functools.cache
def finder() -> bytes:
    """Train the finder: a network over each window of a page, and of what overlaps the best alone.  Returns ONNX."""
    windows, there = zip(*_windows(np.random.default_rng(1), 60), strict=True)
    trained = MLPClassifier((32,), alpha=1e-3, max_iter=25, learning_rate_init=0.003, random_state=1)
    _fit(trained, windows, there)
    (first, second), (bias, last) = trained.coefs_, trained.intercepts_
    edges = np.arange(VIEW - WINDOW + 1)
    lefts, tops = np.meshgrid(edges, edges)
    corners = np.stack([lefts, tops, lefts + WINDOW, tops + WINDOW], axis=-1).reshape(1, -1, 4)
    constants = {
        "w1": first.T.reshape(-1, 1, WINDOW // 2, WINDOW // 2).astype(np.float32),
        "b1": bias.astype(np.float32),
        "w2": second.T.reshape(1, -1, 1, 1).astype(np.float32),
        "b2": last.astype(np.float32),
        "corners": corners.astype(np.float32),
        "flat": np.array([1, 1, -1]),
        "most": np.array([MOST]),
        "overlap": np.array([0.2], np.float32),
        "least": np.array([0.5], np.float32),
        "place": np.array([2]),
        "one": np.array([0]),
        "list": np.array([-1]),
    }
    return _graph(_finder_nodes(), constants)


def _finder_nodes() -> list[Any]:
    node = helper.make_node
    return [
        node("AveragePool", ["x"], ["means"], kernel_shape=[2, 2]),
        node("Conv", ["means", "w1", "b1"], ["h"], dilations=[2, 2]),
        node("Relu", ["h"], ["r"]),
        node("Conv", ["r", "w2", "b2"], ["z"]),
        node("Sigmoid", ["z"], ["s"]),
        node("Reshape", ["s", "flat"], ["each"]),
        node("NonMaxSuppression", ["corners", "each", "most", "overlap", "least"], ["kept"]),
        node("Gather", ["kept", "place"], ["column"], axis=1),
        node("Reshape", ["column", "list"], ["at"]),
        node("Squeeze", ["corners", "one"], ["all"]),
        node("Gather", ["all", "at"], ["boxes"]),
        node("Reshape", ["each", "list"], ["every"]),
        node("Gather", ["every", "at"], ["scores"]),
    ]


def _graph(nodes: Sequence[Any], constants: dict[str, npt.NDArray[Any]]) -> bytes:
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "finder",
        [info("x", TensorProto.FLOAT, [1, 1, VIEW, VIEW])],
        [info("boxes", TensorProto.FLOAT, ["n", 4]), info("scores", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return bytes(model.SerializeToString())


# --------------------------------------------------------------------------------------------------- the reader


def _pieces(rng: np.random.Generator, pages: int) -> Iterator[tuple[Pixels, int]]:
    """Digits cut out of pages, as far off as a finder may be."""
    for _ in range(pages):
        page = compose(rng, 16, unseen=False)
        gray = page.image.convert("L")
        for (left, top), digit in zip(page.places, page.digits, strict=True):
            x, y = np.clip(np.array([left, top]) + rng.integers(-SCALE, SCALE + 1, 2), 0, PAGE - DIGIT)
            piece = gray.resize((8, 8), Image.Resampling.BILINEAR, (x, y, x + DIGIT, y + DIGIT))
            yield np.asarray(piece).astype(np.float32).ravel() / np.float32(255), digit


@functools.cache
def reader() -> bytes:
    """Train the reader: from 64 shades, 0 for black to 1 for white, to the digit.  Returns ONNX."""
    pieces, digits = zip(*_pieces(np.random.default_rng(2), 120), strict=True)
    trained = MLPClassifier((64,), alpha=1e-3, max_iter=60, learning_rate_init=0.005, random_state=1)
    _fit(trained, pieces, digits)
    made = to_onnx(trained, np.zeros((1, 64), np.float32), options={"zipmap": False}, target_opset=OPSET)
    assert isinstance(made, ModelProto)  # noqa: S101 - what skl2onnx makes of an estimator
    return bytes(made.SerializeToString())


# ------------------------------------------------------------------------------------------------ what owners declare

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def finder_review(**changes: Any) -> dict[str, Any]:
    """Return what the owner sets in the finder's drafted manifest: a photograph in, and who reads what is found."""
    stage = {
        "model": "digits",
        "least_epoch": 1,
        "from": "boxes",
        "to": "X",
        "units": "pixels",
        "scores": "scores",
        "limit": MOST,
        "crop": {"width": 8, "height": 8, "mode": "gray", "layout": "flat"},
    }
    return {
        "axes": {"n": {"minimum": 0, "maximum": MOST}, "bytes": {"minimum": 1, "maximum": 1 << 20}},
        "inputs": [{"name": "photo", "dtype": "uint8", "shape": ["bytes"]}],
        "pre": [
            {"kind": "image", "input": "photo", "output": "x", "width": VIEW, "height": VIEW, "mode": "gray"},
        ],
        "stages": [stage | changes],
    }


def reader_review() -> dict[str, Any]:
    """Return what the owner sets in the reader's: labels and their scores, of shades from 0 to 1."""
    return {
        "labels": list(LABELS),
        "axes": {"n": {"minimum": 1, "maximum": MOST}},
        "inputs": [{"name": "X", "dtype": "float32", "shape": ["n", 64], "minimum": 0.0, "maximum": 1.0}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["n", 10]}],
        "post": [
            {"kind": "round", "output": "probabilities", "decimals": 3},
            {"kind": "top_k", "output": "probabilities", "k": 1},
            {"kind": "label", "output": "probabilities_indices"},
        ],
    }


def write(folder: Path, count: int = 12) -> Page:
    """Write `pages.onnx`, `digits.onnx` and `page.jpg` into a folder; return the page."""
    page = compose(np.random.default_rng(7), count)
    (folder / "pages.onnx").write_bytes(finder())
    (folder / "digits.onnx").write_bytes(reader())
    page.image.save(folder / "page.jpg", quality=90)
    return page


if __name__ == "__main__":
    written = write(Path(sys.argv[1]))
    print("on the page:", *(LABELS[digit] for digit in written.digits))
