"""Tensors in files: `.npy` and JSON in, `.npz` out."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attestation.client.errors import ClientCode, ClientError
from attestation.client.models import ModelInfo, TensorInfo
from manifests.files import read_bounded, write_atomically

MAX_INPUT = 1 << 30
"""A message is smaller; larger files are a mistake that is better caught before they are read."""


def read_inputs(files: Mapping[str, Path], model: ModelInfo | None) -> dict[str, npt.NDArray[Any]]:
    """Read one tensor from each file.

    A `.npy` file says its dtype; for JSON the model's declared dtype is taken, where the model is known.  Raises
    ClientError `tensor-invalid`, or ManifestError `file-unavailable`.
    """
    declared = {tensor.name: tensor for tensor in model.inputs} if model else {}
    return {name: read_tensor(name, path, declared.get(name)) for name, path in files.items()}


def needs_model(files: Mapping[str, Path]) -> bool:
    """Tell whether dtypes have to be looked up to read these files."""
    return any(path.suffix != ".npy" for path in files.values())


def write_outputs(path: Path, tensors: Mapping[str, npt.NDArray[Any]], *, overwrite: bool = False) -> None:
    """Write tensors as a numpy archive, whole or not at all; raises ManifestError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # as numpy.savez does, which cannot take every name
        for name, value in tensors.items():
            # A variable-length text array would be pickled; numpy's fixed-length one is not.
            plain = value.astype(str) if value.dtype.kind == "O" else value
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(plain), allow_pickle=False)
    write_atomically(path, buffer.getvalue(), replace=overwrite)


def read_outputs(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what `write_outputs` wrote; raises ClientError `tensor-invalid`, or ManifestError."""
    data = read_bounded(path, MAX_INPUT)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception:  # noqa: BLE001 - numpy's reader raises many kinds, and advises to unpickle what is no array
        raise ClientError(
            ClientCode.TENSOR_INVALID,
            f"{path} is not a .npz file of numbers or text",
            remedy="give the file that `strongroom infer --output` wrote",
        ) from None


def read_tensor(name: str, path: Path, declared: TensorInfo | None) -> npt.NDArray[Any]:
    """Read one tensor, as `read_inputs` does."""
    data = read_bounded(path, MAX_INPUT)
    if path.suffix != ".npy":
        return _from_json(name, data, declared)
    try:
        array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception:  # noqa: BLE001 - numpy's reader raises many kinds, and advises to unpickle what is no array
        raise _invalid(name, f"{path} is not a .npy file of numbers or text; numpy.save writes one") from None
    return array


def _from_json(name: str, data: bytes, declared: TensorInfo | None) -> npt.NDArray[Any]:
    try:
        value = json.loads(data, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise _invalid(name, f"the file is not JSON: {str(error)[:200]}") from None
    try:
        array = np.asarray(value)
    except ValueError:
        raise _invalid(name, "the file holds no JSON array of one shape") from None
    if declared is None or declared.dtype in {"string", array.dtype.name}:
        return array
    wanted = np.dtype(declared.dtype)
    try:
        with np.errstate(over="raise", invalid="raise"):
            converted = array.astype(wanted)
    except FloatingPointError:
        raise _invalid(name, f"a number is outside the range of dtype {declared.dtype}") from None
    except (ValueError, TypeError, OverflowError):
        raise _invalid(name, f"its values are not of dtype {declared.dtype}") from None
    if wanted.kind in "iub" and not np.array_equal(converted, array):
        raise _invalid(name, f"its values do not fit dtype {declared.dtype}")
    return converted


def _finite(text: str) -> float:
    """Read a JSON number; Python makes an infinity of one that no float64 holds."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is outside the range of float64")
    return number


def _invalid(name: str, message: str) -> ClientError:
    return ClientError(ClientCode.TENSOR_INVALID, f"input {name!r}: {message}")
