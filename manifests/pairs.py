"""Tensors that a graph gives and takes again: pairs of an input and the output that feeds it at the next run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.tensors import MAX_TENSOR_NAME, NUMERIC, Axis, Dimension, TensorField

MAX_PAIRS = 256
"""As many as a model may have inputs: two for each layer of a transformer with 128."""


@dataclass(frozen=True)
class Pair:
    """`output` of one run is `input` of the next."""

    input: str
    output: str


def read_pairs(value: object, what: str) -> tuple[Pair, ...]:
    """Read a list of [input, output]; raises ManifestError `field-invalid`."""
    items = [fields.list_of(item, what, 2) for item in fields.list_of(value, what, MAX_PAIRS)]
    if not items or any(len(item) != 2 for item in items):
        raise unfit(f"{what} is not a list of pairs of an input and an output")
    pairs = tuple(Pair(*(fields.text(name, what, MAX_TENSOR_NAME) for name in item)) for item in items)
    if len({pair.input for pair in pairs}) != len(pairs) or len({pair.output for pair in pairs}) != len(pairs):
        raise unfit(f"{what} names a tensor twice")
    return pairs


def pairs_to_list(pairs: Iterable[Pair]) -> list[list[str]]:
    """Return the pairs as they are written."""
    return [[pair.input, pair.output] for pair in pairs]


def take(tensors: Mapping[str, TensorField], name: str, what: str, dtypes: frozenset[str] = NUMERIC) -> TensorField:
    """Return the tensor that a table names; raises ManifestError `manifest-invalid`."""
    if name not in tensors:
        raise unfit(f"{what} {name!r} is none of the manifest's tensors")
    if tensors[name].dtype not in dtypes:
        raise unfit(f"{what} {name!r} cannot have dtype {tensors[name].dtype}")
    return tensors[name]


def static_bytes(tensor: TensorField, longest: int = 1) -> int:
    """Return the bytes of a tensor of numbers, whose one dynamic axis is counted as `longest`."""
    lengths = (longest if isinstance(axis, Axis) else axis for axis in tensor.shape)
    return math.prod(lengths) * np.dtype(tensor.dtype).itemsize


def admits(axis: Dimension, length: int) -> bool:
    """Tell whether an axis may have this length."""
    return axis.minimum <= length <= axis.maximum if isinstance(axis, Axis) else axis == length


def unfit(message: str, expected: object = None) -> ManifestError:
    """Make the error for a table that does not fit the rest of its manifest."""
    return ManifestError(ManifestCode.MANIFEST_INVALID, message, expected=expected)
