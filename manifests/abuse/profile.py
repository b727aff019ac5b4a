"""Detector profiles: what calibration learned, sealed beside the model as its part `profile`.

One canonical msgpack map, version 1.  Arrays are little-endian float32 in row order, and have exactly the sizes that
`features`, `view`, `classes` and the fixed numbers of this module imply; every number is finite.  The decoder is
total: a profile, or AbuseError `profile-invalid`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests import canonical, fields
from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.sketch import SCALES
from manifests.abuse.view import View
from manifests.errors import ManifestCode, ManifestError
from manifests.tensors import MAX_TENSOR_NAME

Floats = npt.NDArray[np.float32]

MAX_PROFILE = 32 << 20
"""65,536 features in a view of 64 dimensions are 17 MiB."""
MAX_FEATURES = 1 << 16
MAX_VIEW = 64
MAX_CLASSES = 1024
CELLS = 256
"""Cells of the reference data, by which coverage is counted."""
WAVES = 256
"""Random Fourier features of the slow drift detector."""
HIDDEN = 512
"""Hidden units of the discriminator."""
HEADS = ("noise", "mixture", "foreign")
"""What the discriminator tells from benign rows: perturbed ones, mixtures of several, and rows of another world."""
KNOTS = 64
"""Points of a tail function."""

SCORES = ("distance", "own", "margin", "squeeze", *HEADS)
"""Scores of one query, each greater the stranger it is; see `manifests.abuse.scores`."""
STREAMS = ("distance", "margin", "stateless", *HEADS)
"""Sequences of tails that a pair of CUSUMs sums up; `stateless` is the greatest of own, margin and squeeze."""
STATISTICS = (
    *(f"anchors-{scale}" for scale in range(SCALES)),
    *("straddle", "churn"),
    *(f"{stream}-fast" for stream in STREAMS),
    *(f"{stream}-slow" for stream in STREAMS),
    "drift",
)
"""What is held against limits, in this order."""


@dataclass(frozen=True)
class Squeeze:
    """The input with fewer levels: `low` and `span` [d] of the reference rows; `levels` steps between, 0 for none."""

    levels: int
    low: Floats
    span: Floats


@dataclass(frozen=True)
class Profile:
    """A checked profile.

    input, output: names of the client's input and of the graph's output.  labels_only: the output holds classes, not
    scores.  centers [classes, view + 1], cells [256, view + 1]: in the whitened view.  hidden [view + 1, 512], bias
    [512], heads [513, 3]: the discriminator.  tails: for each of SCORES [2, 64], ascending scores and -log10 of their
    conformal p-values.  drifts: for each of STREAMS what the fast and the slow CUSUM take off at each query.
    radius: see `Sketcher`; nearness: differing bits for each scale.  waves [view + 1, 256], phases, middle [256]: the
    drift detector.  limits: of STATISTICS.  rate: the false positive rate that was asked for.
    """

    input: str
    output: str
    labels_only: bool
    classes: int
    view: View
    centers: Floats
    cells: Floats
    hidden: Floats
    bias: Floats
    heads: Floats
    tails: Mapping[str, Floats]
    drifts: Floats
    radius: float
    nearness: tuple[int, ...]
    waves: Floats
    phases: Floats
    middle: Floats
    squeeze: Squeeze
    limits: tuple[float, ...]
    rate: float

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        view = self.view
        table: dict[str, Any] = {
            "version": fields.VERSION,
            "input": self.input,
            "output": self.output,
            "labels_only": self.labels_only,
            "classes": self.classes,
            "features": view.features,
            "view": view.width - 1,
            "core": view.core,
            "residual": list(view.residual),
            "radius": self.radius,
            "nearness": list(self.nearness),
            "limits": list(self.limits),
            "levels": self.squeeze.levels,
            "rate": self.rate,
        }
        table |= {name: _pack(getattr(view, name)) for name in ("mean", "scale", "basis", "whiten")}
        table |= {name: _pack(getattr(self.squeeze, name)) for name in ("low", "span")}
        table |= {name: _pack(getattr(self, name)) for name in _OWN}
        table["tails"] = {name: _pack(self.tails[name]) for name in SCORES}
        return canonical.encode(table)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Profile:
        """Read a profile; raises AbuseError `profile-invalid`, or ManifestError `version-unsupported`."""
        try:
            return _read(canonical.decode(data, max_size=MAX_PROFILE))
        except ManifestError as error:
            if error.code is ManifestCode.VERSION_UNSUPPORTED:
                raise
            raise _invalid(error.message) from None


def blank(features: int, classes: int) -> Profile:
    """Return a profile that knows nothing and never gives an alarm: to rehearse with, and to start from."""
    shapes = _shapes(features, features, classes)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    identity = np.eye(features, dtype=np.float32)
    ones = np.ones(features, np.float32)
    return Profile(
        input="x",
        output="y",
        labels_only=False,
        classes=classes,
        view=View(zeros["mean"], ones, identity, identity, features, (0.0, 0.0)),
        tails={name: np.zeros((2, KNOTS), np.float32) for name in SCORES},
        radius=1.0,
        nearness=(0,) * SCALES,
        squeeze=Squeeze(1, zeros["low"], ones),
        limits=(1e12,) * len(STATISTICS),
        rate=0.0,
        **{name: zeros[name] for name in _OWN},
    )


_OWN = ("centers", "cells", "hidden", "bias", "heads", "drifts", "waves", "phases", "middle")
_ARRAYS = ("mean", "scale", "basis", "whiten", "low", "span", *_OWN)
_FIELDS = (
    *(
        "input",
        "output",
        "labels_only",
        "classes",
        "features",
        "view",
        "core",
        "residual",
        "radius",
        "nearness",
        "limits",
    ),
    *("levels", "rate", "tails", *_ARRAYS),
)


def _shapes(features: int, view: int, classes: int) -> dict[str, tuple[int, ...]]:
    width = view + 1
    return {
        "mean": (features,),
        "scale": (features,),
        "basis": (features, view),
        "whiten": (view, view),
        "low": (features,),
        "span": (features,),
        "centers": (classes, width),
        "cells": (CELLS, width),
        "hidden": (width, HIDDEN),
        "bias": (HIDDEN,),
        "heads": (HIDDEN + 1, len(HEADS)),
        "drifts": (2, len(STREAMS)),
        "waves": (width, WAVES),
        "phases": (WAVES,),
        "middle": (WAVES,),
    }


def _read(value: object) -> Profile:
    table = fields.versioned_map(value, "detector profile", _FIELDS)
    features = fields.number(table["features"], "features", 1, MAX_FEATURES)
    view = fields.number(table["view"], "view", 1, min(MAX_VIEW, features))
    classes = fields.number(table["classes"], "classes", 2, MAX_CLASSES)
    shapes = _shapes(features, view, classes)
    arrays = {name: _unpack(table[name], name, shapes[name]) for name in _ARRAYS}
    core = fields.number(table["core"], "core", 1, view)
    residual = _numbers(table["residual"], "residual", 2, -1e6)
    nearness = [fields.number(item, "nearness", 0, 255) for item in _exactly(table["nearness"], "nearness", SCALES)]
    return Profile(
        input=fields.text(table["input"], "input", MAX_TENSOR_NAME),
        output=fields.text(table["output"], "output", MAX_TENSOR_NAME),
        labels_only=fields.of_type(table["labels_only"], "labels_only", bool),
        classes=classes,
        view=View(arrays["mean"], arrays["scale"], arrays["basis"], arrays["whiten"], core, (residual[0], residual[1])),
        tails=_tails(table["tails"]),
        radius=_numbers([table["radius"]], "radius", 1, 1e-6)[0],
        nearness=tuple(nearness),
        squeeze=Squeeze(fields.number(table["levels"], "levels", 0, 255), arrays["low"], arrays["span"]),
        limits=_numbers(table["limits"], "limits", len(STATISTICS), 0.0),
        rate=_numbers([table["rate"]], "rate", 1, 0.0)[0],
        **{name: arrays[name] for name in _OWN},
    )


def _tails(value: object) -> dict[str, Floats]:
    table = fields.closed_map(value, "tails", SCORES)
    tails = {name: _unpack(table[name], f"tails.{name}", (2, KNOTS)) for name in SCORES}
    if any((np.diff(tail, axis=1) < 0).any() for tail in tails.values()):
        raise _invalid("a tail function is not monotone")
    return tails


def _pack(array: Floats) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def _unpack(value: object, name: str, shape: tuple[int, ...]) -> Floats:
    data = fields.fixed_bytes(value, name, 4 * math.prod(shape))
    array = np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)
    if not (np.abs(array) <= np.float32(1e18)).all():
        raise _invalid(f"{name!r} holds numbers that are not finite, or too large to square")
    return array


def _numbers(value: object, name: str, count: int, least: float) -> tuple[float, ...]:
    items = _exactly(value, name, count)
    numbers = tuple(fields.of_type(item, name, float) for item in items)
    if not all(math.isfinite(number) and least <= number <= 1e12 for number in numbers):
        raise _invalid(f"{name!r} holds numbers out of range")
    return numbers


def _exactly(value: object, name: str, count: int) -> list[Any]:
    items = fields.list_of(value, name, count)
    if len(items) != count:
        raise _invalid(f"{name!r} has not {count} items")
    return items


def _invalid(message: str) -> AbuseError:
    return AbuseError(AbuseCode.PROFILE_INVALID, f"the detector profile is refused: {message}")
