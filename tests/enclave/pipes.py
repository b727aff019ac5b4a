"""Small pipelines: a finder whose picture says which boxes it finds, and readers that tell what they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from onnx.helper import make_node as node
from onnx.numpy_helper import from_array
from PIL import Image

from tests.enclave.rig import graph
from tests.testkit.files import saved

ROWS = 6
"""Boxes that a picture can name, one in each row of its cells: four edges, and a score."""
CELL = 20
"""Pixels of a side of a cell."""
WIDTH, HEIGHT = 5 * CELL, ROWS * CELL
SIDE = 4
"""Pixels of a side of what a reader gets."""
NAN = None
INSIDE = (0.25, 0.25, 0.75, 0.75)

Box = tuple[float | None, float | None, float | None, float | None]


def finder() -> bytes:
    """Boxes are the first four cells of each row whose fifth is not black: -0.5 to 1.5, and black is no number."""
    constants = {
        "shape": np.array([ROWS, 5]),
        "zero": np.array([0]),
        "four": np.array([4]),
        "five": np.array([5]),
        "axis": np.array([1]),
        "black": np.array(0, np.float32),
        "two": np.array(2, np.float32),
        "half": np.array(0.5, np.float32),
        "nan": np.array(np.nan, np.float32),
        "list": np.array([-1]),
    }
    nodes = [
        node("Reshape", ["x", "shape"], ["cells"]),
        node("Slice", ["cells", "zero", "four", "axis"], ["edges"]),
        node("Slice", ["cells", "four", "five", "axis"], ["fifth"]),
        node("Reshape", ["fifth", "list"], ["each"]),
        node("Greater", ["each", "black"], ["there"]),
        node("Mul", ["edges", "two"], ["doubled"]),
        node("Sub", ["doubled", "half"], ["placed"]),
        node("Equal", ["edges", "black"], ["none"]),
        node("Where", ["none", "nan", "placed"], ["all"]),
        node("Compress", ["all", "there"], ["boxes"], axis=0),
        node("Compress", ["each", "there"], ["scores"], axis=0),
    ]
    weights = [from_array(value, name) for name, value in constants.items()]
    outputs = [("boxes", TensorProto.FLOAT, ["n", 4]), ("scores", TensorProto.FLOAT, ["n"])]
    return graph(nodes, [("x", TensorProto.FLOAT, [1, 1, ROWS, 5])], outputs, weights)


def page(*boxes: Box, scores: tuple[float, ...] = ()) -> bytes:
    """Return the PNG file of a picture that names these boxes."""
    cells = np.zeros((ROWS, 5), np.uint8)
    for row, box in enumerate(boxes):
        cells[row, :4] = [0 if edge is None else max(1, round((edge + 0.5) * 255 / 2)) for edge in box]
        cells[row, 4] = round(255 * (scores[row] if scores else 1.0))
    return saved(Image.fromarray(np.kron(cells, np.ones((CELL, CELL), np.uint8))))


def edges(*box: float) -> np.ndarray:
    """Return the edges that a finder gives for these, which have 255 steps."""
    cells = np.array([max(1, round((edge + 0.5) * 255 / 2)) for edge in box])
    return np.float32(cells) / np.float32(255) * np.float32(2) - np.float32(0.5)


def stage(**changes: Any) -> dict[str, Any]:
    crop = {"width": SIDE, "height": SIDE, "mode": "gray", "layout": "flat"}
    made = {
        "model": "echo",
        "least_epoch": 1,
        "from": "boxes",
        "to": "X",
        "limit": 4,
        "crop": crop,
        "scores": "scores",
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def finder_table(*stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what a finder's manifest has besides name, version, epoch and owner."""
    image = {
        "kind": "image",
        "input": "photo",
        "output": "x",
        "width": 5,
        "height": ROWS,
        "mode": "gray",
        "filter": "nearest",
    }
    return {
        "axes": {"n": {"minimum": 0, "maximum": ROWS}, "bytes": {"minimum": 1, "maximum": 1 << 20}},
        "inputs": [{"name": "photo", "dtype": "uint8", "shape": ["bytes"]}],
        "outputs": [
            {"name": "boxes", "dtype": "float32", "shape": ["n", 4]},
            {"name": "scores", "dtype": "float32", "shape": ["n"]},
        ],
        "pre": [image],
        "stages": list(stages) or [stage()],
        **changes,
    }


def echo() -> bytes:
    """What comes in goes out, with the answer to whether it is light."""
    nodes = [
        node("Identity", ["X"], ["same"]),
        node("ReduceMean", ["X"], ["mean"], axes=[1], keepdims=0),
        node("Greater", ["mean", "half"], ["light"]),
        node("Cast", ["light"], ["shade"], to=TensorProto.INT64),
    ]
    outputs = [("same", TensorProto.FLOAT, ["n", SIDE * SIDE]), ("shade", TensorProto.INT64, ["n"])]
    half = [from_array(np.array(0.5, np.float32), "half")]
    return graph(nodes, [("X", TensorProto.FLOAT, ["n", SIDE * SIDE])], outputs, half)


def echo_table(**changes: Any) -> dict[str, Any]:
    return {
        "labels": ["dark", "light"],
        "axes": {"n": {"minimum": 1, "maximum": ROWS}},
        "inputs": [{"name": "X", "dtype": "float32", "shape": ["n", SIDE * SIDE], "minimum": 0.0, "maximum": 1.0}],
        "outputs": [
            {"name": "same", "dtype": "float32", "shape": ["n", SIDE * SIDE]},
            {"name": "shade", "dtype": "int64", "shape": ["n"]},
        ],
        "post": [{"kind": "label", "output": "shade"}],
        **changes,
    }
