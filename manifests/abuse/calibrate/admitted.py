"""A sample against its manifest: profile and ranges are learned from rows that the enclave would take, no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.model import ModelManifest
from manifests.tensors import TensorField
from manifests.values import FLOATS

Array = npt.NDArray[Any]


def check_arrays(manifest: ModelManifest, arrays: Mapping[str, Array]) -> None:
    """Refuse arrays by other names, of other dtypes, or with values that the manifest does not admit.

    arrays: by the name of the input, of rows.  Raises AbuseError `calibration-sample-invalid`.
    """
    inputs = {tensor.name: tensor for tensor in manifest.client_inputs()}
    unknown = sorted(arrays.keys() - inputs.keys())
    if unknown or not arrays:
        raise _invalid("the sample's arrays are not named as the model's inputs", list(inputs), list(arrays))
    for name, array in arrays.items():
        kind = "string" if array.dtype.kind in "UO" else array.dtype.name
        if kind != inputs[name].dtype:
            raise _invalid(f"the array {name!r} has another dtype than the input", inputs[name].dtype, kind)
        if kind != "string":
            _check_numbers(inputs[name], array)


def _check_numbers(tensor: TensorField, array: Array) -> None:
    if tensor.dtype in FLOATS:
        refused = np.isnan(array) & (not tensor.allow_nan) | np.isinf(array) & (not tensor.allow_infinity)
        if refused.any():
            raise _invalid(f"the array {tensor.name!r} holds NaN or infinities", "finite numbers")
    outside = _outside(array, tensor.minimum, tensor.maximum, tensor.values)
    if array.ndim > 1:
        for feature in (item for item in tensor.features if item.index < array.shape[-1]):
            outside[..., feature.index] |= _outside(
                array[..., feature.index], feature.minimum, feature.maximum, feature.values
            )
    count = int(outside.reshape(len(array), -1).any(axis=1).sum()) if array.size else 0
    if count:
        raise _invalid(
            f"rows of {tensor.name!r} lie outside what the manifest admits, and the enclave would refuse them",
            "rows within the manifest's own ranges and sets",
            f"{count} of {len(array)} rows outside",
            "leave the rows out, or correct minimum, maximum, values and features in the manifest",
        )


def _outside(array: Array, low: Any, high: Any, values: tuple[Any, ...]) -> Array:
    """Tell of each element whether it is out of bounds; what is no number was looked at before."""
    found = np.zeros(array.shape, np.bool_)
    if low is not None:
        found |= array < low
    if high is not None:
        found |= array > high
    return found | ~np.isin(array, np.array(values, array.dtype)) if values else found


def _invalid(message: str, expected: object, found: object = None, remedy: str | None = None) -> AbuseError:
    return AbuseError(AbuseCode.SAMPLE_INVALID, message, expected=expected, found=found, remedy=remedy)
