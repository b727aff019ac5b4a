"""Tensors that a model brings along: shape, length of the data, external data, sparse indices.

The data of a dense tensor are not looked at: only how long they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from manifests.onnx import bounds, dtypes, wire
from manifests.onnx.errors import OnnxCode, OnnxError
from manifests.onnx.findings import Findings
from manifests.onnx.messages import SparseTensor, Tensor

EXTERNAL = 1
"""TensorProto.DataLocation"""
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_MAX_DIGITS = 16
"""Of an offset or length in decimal: more than any file has bytes."""
MAX_SPARSE = 1 << 24
"""Non-zero elements of a sparse tensor whose indices are looked at one by one."""


@dataclass
class Places:
    """Which bytes of which part are external data, to find two tensors that share some."""

    sizes: Mapping[str, int]
    """Plaintext bytes of the sealed parts that may hold external data, by name."""
    taken: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def check_overlaps(self, findings: Findings) -> None:
        """Note parts of which two tensors share some bytes but not all: a shared weight is the same bytes."""
        for name, spans in self.taken.items():
            end = 0
            for start, stop in sorted(spans):
                if start < end:
                    findings.add(
                        OnnxCode.EXTERNAL_OVERLAP,
                        "two tensors share a part of their external data",
                        name,
                        f"nothing before byte {end}",
                        f"byte {start}",
                    )
                    break
                end = stop


def check_tensor(tensor: Tensor, place: str, findings: Findings, places: Places | None) -> int:
    """Note what is wrong with a tensor; return how many elements it has.  `places` is None within attributes."""
    if tensor.data_type not in dtypes.NAMES:
        findings.add(OnnxCode.TENSOR_TYPE, "the tensor has no known element type", place, found=tensor.data_type)
        return 0
    elements = elements_of(tensor.dims, place, findings)
    if elements is None:
        return 0
    if tensor.segment or tensor.data_location not in {0, EXTERNAL}:
        findings.add(OnnxCode.TENSOR_PLACE, "the tensor has its data in segments, or in an unknown place", place)
    elif tensor.data_location == EXTERNAL:
        _check_external(tensor, elements, place, findings, places)
    else:
        _check_data(tensor, elements, place, findings)
    return elements


def elements_of(dims: tuple[int, ...], place: str, findings: Findings) -> int | None:
    """Return the product of a tensor's axes, or None after noting why there is none."""
    if any(dim < 0 for dim in dims):
        findings.add(OnnxCode.TENSOR_NEGATIVE, "an axis has a negative length", place, "at least 0", min(dims))
        return None
    elements = math.prod(dim for dim in dims if dim)
    if len(dims) > bounds.MAX_RANK or elements > bounds.MAX_AXIS:
        findings.add(
            OnnxCode.TENSOR_OVERFLOW,
            "the tensor claims more elements or axes than can exist",
            place,
            f"at most {bounds.MAX_AXIS} elements and {bounds.MAX_RANK} axes",
            f"{len(dims)} axes" if len(dims) > bounds.MAX_RANK else f"about 2^{elements.bit_length()} elements",
        )
        return None
    return 0 if 0 in dims else elements


def _check_data(tensor: Tensor, elements: int, place: str, findings: Findings) -> None:
    used = [name for name in _FIELDS if getattr(tensor, name)]
    home = dtypes.FIELD_OF.get(tensor.data_type, "int32_data")
    if tensor.external_data or len(used) + (tensor.raw_data is not None) > 1:
        findings.add(OnnxCode.TENSOR_PLACE, "the tensor has its data in two places", place)
    elif used and used != [home]:
        findings.add(OnnxCode.TENSOR_PLACE, "the data do not fit the tensor's type", place, home, used[0])
    elif tensor.raw_data is not None and tensor.data_type == dtypes.STRING:
        findings.add(OnnxCode.TENSOR_PLACE, "strings have no raw form", place, home, "raw_data")
    else:
        _compare(tensor, elements, place, findings)


def _compare(tensor: Tensor, elements: int, place: str, findings: Findings) -> None:
    try:
        found, expected = _lengths(tensor, elements)
    except OnnxError as error:
        findings.add(OnnxCode.TENSOR_LENGTH, error.message, place)
        return
    if found != expected:
        findings.add(OnnxCode.TENSOR_LENGTH, "the data have another length than shape and type say", place,
                     expected, found)  # fmt: skip


def _lengths(tensor: Tensor, elements: int) -> tuple[int, int]:
    """Return the length of the data that are there and that should be: bytes of raw ones, else numbers."""
    if tensor.raw_data is not None:
        return len(tensor.raw_data), dtypes.packed_bytes(tensor.data_type, elements)
    home = dtypes.FIELD_OF.get(tensor.data_type, "int32_data")
    views = getattr(tensor, home)
    if home == "string_data":
        return len(views), elements
    if home in {"float_data", "double_data"}:
        pairs = 2 if tensor.data_type in {dtypes.COMPLEX64, dtypes.COMPLEX128} else 1
        return sum(map(len, views)) // (4 if home == "float_data" else 8), elements * pairs
    small = 8 // dtypes.BITS[tensor.data_type] if dtypes.BITS[tensor.data_type] < 8 else 1
    return sum(map(wire.count_packed, views)), -(-elements // small)


# ------------------------------------------------------------------------------------------- external data


def _check_external(tensor: Tensor, elements: int, place: str, findings: Findings, places: Places | None) -> None:
    if places is None:
        findings.add(OnnxCode.EXTERNAL_ATTRIBUTE, "an attribute's tensor has external data", place)
        return
    if tensor.raw_data is not None or any(getattr(tensor, name) for name in _FIELDS):
        findings.add(OnnxCode.TENSOR_PLACE, "the tensor has its data in two places", place)
        return
    if tensor.data_type == dtypes.STRING:
        findings.add(OnnxCode.TENSOR_PLACE, "strings cannot be external", place)
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [_number(entries.get(key, "0")) for key in ("offset", "length")]
    odd = sorted(entries.keys() - _KEYS)
    if len(entries) != len(tensor.external_data) or odd or "location" not in entries or None in numbers:
        findings.add(
            OnnxCode.EXTERNAL_ENTRY,
            "external data needs a location, and an offset and a length in decimal, each once",
            place,
            found=odd or sorted(entries),
        )
        return
    if not confined(entries["location"]) or entries.get("basepath"):
        findings.add(OnnxCode.EXTERNAL_PATH, "external data is named by a path that could lead elsewhere", place,
                     "a relative path without '..'", entries["location"])  # fmt: skip
        return
    size = dtypes.packed_bytes(tensor.data_type, elements)
    _check_place(entries, size, place, findings, places)


def _check_place(entries: dict[str, str], size: int, place: str, findings: Findings, places: Places) -> None:
    location, offset = entries["location"], int(entries.get("offset", "0"))
    whole = places.sizes.get(location)
    if whole is None:
        findings.add(OnnxCode.EXTERNAL_PART, "external data lies in no part of the sealed model", place,
                     sorted(places.sizes)[:8], location)  # fmt: skip
        return
    length = int(entries["length"]) if "length" in entries else whole - offset
    if offset + length > whole or length < 0:
        findings.add(OnnxCode.EXTERNAL_RANGE, "external data begins or ends outside its file", place,
                     f"within {whole} bytes", f"{offset} to {offset + length}")  # fmt: skip
    elif length != size:
        findings.add(OnnxCode.TENSOR_LENGTH, "the data have another length than shape and type say", place,
                     size, length)  # fmt: skip
    elif size:
        places.taken.setdefault(location, set()).add((offset, offset + length))


def _number(text: str) -> int | None:
    """Return a decimal number as ONNX writes it, or None for anything else that `int` would read."""
    return int(text) if 0 < len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit() else None


def confined(location: str) -> bool:
    """Tell whether a path stays below the folder that it is relative to, on any system and however it is joined."""
    if not location or not location.isprintable() or "\\" in location or ":" in location.split("/", maxsplit=1)[0]:
        return False
    path = PurePosixPath(location)
    return not path.is_absolute() and all(part not in {"", ".", ".."} for part in location.split("/"))


# --------------------------------------------------------------------------------------------------- sparse


def check_sparse(sparse: SparseTensor, place: str, findings: Findings) -> int:
    """Note what is wrong with a sparse tensor; return how many elements it has once it is dense."""
    stored = check_tensor(sparse.values, place, findings, None)
    check_tensor(sparse.indices, place, findings, None)
    dense = elements_of(sparse.dims, place, findings)
    if dense is None:
        return 0
    if not sparse.dims or len(sparse.values.dims) != 1 or sparse.indices.data_type != dtypes.INT64:
        findings.add(OnnxCode.SPARSE, "a sparse tensor needs a row of values, indices of int64, and a shape", place)
    elif sparse.indices.dims not in {(stored,), (stored, len(sparse.dims))}:
        findings.add(OnnxCode.SPARSE, "there are not as many indices as values", place, stored, sparse.indices.dims)
    elif stored > MAX_SPARSE:
        findings.add(OnnxCode.SPARSE, "there are more indices than are looked at", place, MAX_SPARSE, stored)
    elif not findings.count:
        _check_indices(sparse, dense, place, findings)
    return dense


def _check_indices(sparse: SparseTensor, dense: int, place: str, findings: Findings) -> None:
    """Check indices as onnx.checker does: within the shape, ascending, none twice."""
    indices = numbers(sparse.indices)
    if indices is None:
        findings.add(OnnxCode.SPARSE, "the indices cannot be read", place)
        return
    inside = (indices >= 0).all()
    if len(sparse.indices.dims) == 2:
        rows = indices.reshape(sparse.indices.dims)
        inside = inside and (rows < np.array(sparse.dims, np.int64)).all()
        indices = rows @ _strides(sparse.dims) if inside else indices
    if not inside or (indices >= dense).any():
        findings.add(OnnxCode.SPARSE, "an index lies outside the shape", place, f"0 to {dense - 1}")
    elif (np.diff(indices) <= 0).any():
        findings.add(OnnxCode.SPARSE, "the indices are not in strictly ascending order", place)


def _strides(dims: tuple[int, ...]) -> np.ndarray:
    return np.array([math.prod(dims[at + 1 :]) for at in range(len(dims))], np.int64)


_RAW = {
    dtypes.FLOAT: "<f4", dtypes.DOUBLE: "<f8", dtypes.FLOAT16: "<f2", dtypes.INT8: "i1", dtypes.UINT8: "u1",
    dtypes.INT16: "<i2", dtypes.UINT16: "<u2", dtypes.INT32: "<i4", dtypes.INT64: "<i8", dtypes.UINT32: "<u4",
    dtypes.UINT64: "<u8", dtypes.BOOL: "u1",
}  # fmt: skip
_TYPED = {"float_data": "<f4", "double_data": "<f8"}


def numbers(tensor: Tensor) -> np.ndarray | None:
    """Return a tensor's numbers in one row, or None where they are not in the model or of a type that has none."""
    kind = _RAW.get(tensor.data_type)
    if kind is None or tensor.data_location == EXTERNAL:
        return None
    if tensor.raw_data is not None:
        return np.frombuffer(tensor.raw_data, kind)
    home = dtypes.FIELD_OF.get(tensor.data_type, "int32_data")
    views = getattr(tensor, home)
    if home in _TYPED:
        parts = [np.frombuffer(view, _TYPED[home]) for view in views]
    else:
        parts = [wire.unpack(view, 0, len(view)) for view in views]
    row = np.concatenate(parts) if parts else np.empty(0, kind)
    return row.astype(np.uint16).view(np.float16) if tensor.data_type == dtypes.FLOAT16 else row.astype(kind)
