"""Ranges and sets of values for a model manifest, learned from the owner's own sample data.

What is learned is a proposal: it is written into the manifest in plain words, for its owner to read and to sign.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.tensors import Axis, TensorField
from manifests.values import FLOATS, INTEGER_BITS, INTEGERS, MAX_FEATURES, MAX_VALUE, Feature

Array: TypeAlias = npt.NDArray[Any]

MIN_ROWS = 30
"""With fewer rows the extremes that were seen say little about those that will come."""
MAX_CATEGORIES = 16
"""Whole numbers of more kinds than this are taken for counts, and get a range."""
MIN_PER_CATEGORY = 5
"""A value that was seen less often suggests that there are others, which were not."""
DEFAULT_MARGIN = 0.1
"""Part of the range that was seen by which it is widened at each end."""


def learn_values(
    manifest: ModelManifest,
    samples: Mapping[str, Array],
    *,
    margin: float = DEFAULT_MARGIN,
) -> ModelManifest:
    """Return the manifest with the ranges, categories and text lengths that the samples show.

    samples: arrays by input, of the input's dtype, whose first axis are the rows.  Where an input's last axis is fixed
    and no longer than 4,096, each of its positions gets promises of its own.  What the owner has written is kept, and
    is never widened.

    Raises ManifestError `sample-invalid` for samples that do not fit the manifest, or that are too few.
    """
    unknown = samples.keys() - {tensor.name for tensor in manifest.inputs}
    if unknown:
        raise _unfit(f"the model has no input {min(unknown)!r}", ", ".join(tensor.name for tensor in manifest.inputs))
    learned = (
        _learn(tensor, samples[tensor.name], margin) if tensor.name in samples else tensor for tensor in manifest.inputs
    )
    return dataclasses.replace(manifest, inputs=tuple(learned))


def _learn(tensor: TensorField, sample: Array, margin: float) -> TensorField:
    _check(tensor, sample)
    if tensor.dtype == "string":
        return _learn_texts(tensor, sample)
    if tensor.dtype == "bool" or tensor.values:
        return tensor
    low, high = _extremes(sample)
    if low is None:
        return tensor
    least, greatest = _range(tensor, low, high, margin)
    changes: dict[str, Any] = {
        "minimum": least if tensor.minimum is None else tensor.minimum,
        "maximum": greatest if tensor.maximum is None else tensor.maximum,
    }
    whole = tensor.dtype in INTEGERS or tensor.whole or _is_whole(sample)
    if whole and tensor.dtype in FLOATS:
        changes["whole"] = True
    if _has_features(tensor):
        known = {feature.index for feature in tensor.features}
        columns = sample.reshape(-1, sample.shape[-1])
        seen = [_feature(tensor, at, columns[:, at], margin) for at in range(columns.shape[1]) if at not in known]
        more = [feature for feature in seen if feature is not None]
        changes["features"] = tuple(sorted((*tensor.features, *more), key=lambda feature: feature.index))
    return dataclasses.replace(tensor, **changes)


def _has_features(tensor: TensorField) -> bool:
    """Tell whether positions of the last axis mean something of their own: not where the first axis is all there is."""
    return len(tensor.shape) > 1 and isinstance(tensor.shape[-1], int) and 1 < tensor.shape[-1] <= MAX_FEATURES


def _feature(tensor: TensorField, index: int, column: Array, margin: float) -> Feature | None:
    """Return what one position showed, or None where it never changed: then the range of all positions counts."""
    low, high = _extremes(column)
    if low is None or low == high:
        return None
    finite = column[np.isfinite(column)] if tensor.dtype in FLOATS else column
    if _is_whole(finite):
        values, counts = np.unique(finite, return_counts=True)
        if len(values) <= MAX_CATEGORIES and counts.min() >= MIN_PER_CATEGORY:
            return Feature(index, values=tuple(_number(tensor, value.item()) for value in values))
    least, greatest = _range(tensor, low, high, margin)
    return Feature(index, minimum=least, maximum=greatest)


def _range(tensor: TensorField, low: float, high: float, margin: float) -> tuple[int | float, int | float]:
    """Return the range that was seen, with room at each end, and never less than was seen."""
    room = margin * (high - low)
    least, greatest = _number(tensor, _widened(low, -room)), _number(tensor, _widened(high, room))
    return min(least, low), max(greatest, high)


def _extremes(sample: Array) -> tuple[Any, Any]:
    """Return the least and greatest finite value as Python numbers, or nothing where there is none."""
    finite = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    return (finite.min().item(), finite.max().item()) if finite.size else (None, None)


def _is_whole(sample: Array) -> bool:
    finite = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    return bool((np.rint(finite) == finite).all())


def _widened(end: float, room: float) -> float:
    """Move an end outwards, but not across zero: what was never negative, such as a length, stays so."""
    moved = end + room
    return type(end)(0) if end >= 0 > moved or end <= 0 < moved else moved


def _number(tensor: TensorField, value: float) -> int | float:
    """Return a number that the tensor's type has; of a float, six significant digits, which its owner can read."""
    if tensor.dtype in INTEGERS:
        low, high = INTEGER_BITS[tensor.dtype]
        return min(max(round(value), low), high)
    return float(f"{value:.6g}")


def _learn_texts(tensor: TensorField, sample: Array) -> TensorField:
    """Bound the texts by twice the longest that was seen; few different ones make a set."""
    texts = sample.ravel().tolist()
    words = Counter(texts)
    if len(words) <= MAX_CATEGORIES and min(words.values()) >= MIN_PER_CATEGORY:
        fit = all(word.isprintable() and 0 < len(word) <= MAX_VALUE for word in words)
        return dataclasses.replace(tensor, values=tuple(sorted(words))) if fit and not tensor.values else tensor
    longest = max(len(text.encode("utf-8")) for text in texts)
    return dataclasses.replace(tensor, max_text=min(tensor.max_text or 1, max(1, 2 * longest)))


def _check(tensor: TensorField, sample: Array) -> None:
    kind = "string" if sample.dtype.kind in "UO" else sample.dtype.name
    if kind != tensor.dtype:
        raise _unfit(f"the samples of {tensor.name!r} have another dtype", tensor.dtype, kind)
    if len(sample.shape) != len(tensor.shape):
        raise _unfit(f"the samples of {tensor.name!r} have another rank", len(tensor.shape), len(sample.shape))
    for position, (length, axis) in enumerate(zip(sample.shape, tensor.shape, strict=True)):
        if not isinstance(axis, Axis) and position and length != axis:
            raise _unfit(f"axis {position} of the samples of {tensor.name!r} has another length", axis, length)
    if not len(sample.shape) or sample.shape[0] < MIN_ROWS:
        raise _unfit(
            f"there are too few samples of {tensor.name!r}",
            f"at least {MIN_ROWS} rows",
            sample.shape[0] if sample.shape else 0,
        )


def _unfit(message: str, expected: object, found: object = None) -> ManifestError:
    return ManifestError(ManifestCode.SAMPLE_INVALID, message, expected=expected, found=found)
