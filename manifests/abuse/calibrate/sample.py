"""The owner's benign data: an .npz file with the model's input as an array of rows, and what is known of the rows."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate.behaviours import Rows
from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.fitting import row_size
from manifests.files import exists, naming
from manifests.tensors import TensorField

GROUPS = ("objects", "sessions")
"""Names of arrays that say which rows belong together: of one source object, or of one recorded session."""
MAX_SAMPLE = 1 << 31
"""Bytes of the arrays together, unpacked."""


@dataclass(frozen=True)
class Sample:
    """Rows [n, d] as float64, and the source object of each: rows of one object stay in one split."""

    rows: Rows
    groups: npt.NDArray[np.int64]
    objects: int
    """How many there are that differ: copies of a row, and rows of one object, count once."""


def read_sample(path: Path, tensor: TensorField) -> Sample:
    """Read a sample; raises AbuseError `calibration-sample-invalid`, or ManifestError `file-unavailable`."""
    arrays = read_arrays(path)
    if tensor.name not in arrays:
        raise _invalid(f"{path} has no array {tensor.name!r}, which is the model's input", tensor.name, list(arrays))
    rows = _rows(arrays[tensor.name], tensor)
    groups, different = _groups(arrays, rows), len(np.unique(_twins(rows)))
    is_named = GROUPS[0] in arrays
    return Sample(rows, groups, min(different, len(np.unique(groups))) if is_named else different)


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read the arrays of a sample by name; raises as `read_sample`.

    Nothing in the file is executed: pickled objects are refused.
    """
    with naming(path):
        if not exists(path):
            raise FileNotFoundError(2, "No such file or directory")
        try:
            return _read(path)
        except (ValueError, zipfile.BadZipFile, EOFError, KeyError, NotImplementedError):
            raise _invalid(f"{path} is not an .npz file of plain arrays") from None


def _read(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    with zipfile.ZipFile(path) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > MAX_SAMPLE:
        raise _invalid(f"{path} unpacks to {size} bytes", f"at most {MAX_SAMPLE}")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _rows(array: npt.NDArray[np.generic], tensor: TensorField) -> Rows:
    size = row_size(tensor.shape)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or not len(array) or array.size != len(array) * (size or 0):
        raise _invalid(f"the array {tensor.name!r} has not rows of {size} numbers", f"[rows, ...], {size} numbers each")
    rows = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise _invalid(f"the array {tensor.name!r} holds NaN or infinities", "finite numbers")
    return rows


def _groups(arrays: dict[str, npt.NDArray[np.generic]], rows: Rows) -> npt.NDArray[np.int64]:
    """Return a number for each source object; rows that are equal are one object."""
    for name in GROUPS:
        if name in arrays:
            if arrays[name].shape != (len(rows),):
                raise _invalid(f"the array {name!r} has not one entry for each row", f"{len(rows)} entries")
            return np.asarray(np.unique(arrays[name], return_inverse=True)[1], np.int64)
    return _twins(rows)


def _twins(rows: Rows) -> npt.NDArray[np.int64]:
    """Return a number for each row, the same for rows that are equal."""
    twins: dict[bytes, int] = {}
    return np.array([twins.setdefault(hashlib.sha256(row.tobytes()).digest(), len(twins)) for row in rows], np.int64)


def _invalid(message: str, expected: str | None = None, found: object = None) -> AbuseError:
    return AbuseError(AbuseCode.SAMPLE_INVALID, message, expected=expected, found=found)
