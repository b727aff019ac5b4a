"""Contents of session messages: a small canonical header, then raw tensor buffers.

    content = u32 header length || canonical msgpack header || buffers

Requests and responses carry a map as header.  Its field `tensors`, where present, is a list of
[name, dtype, shape, size in bytes]; the buffers follow in the same order without gaps, C-contiguous and
little-endian, so that a receiver can use them without a copy.  Tensors of text travel as the canonical msgpack
array of their strings.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from attestation.errors import WireCode, WireError
from manifests import canonical, fields
from manifests.errors import ManifestError

MAX_HEADER = 256 * 1024
"""Room for 1,000 tensors with long names; a thousandth of what a message may hold."""
MAX_TENSORS = 1024
MAX_RANK = 16
MAX_TENSOR_NAME = 256
MAX_TEXT = 1 << 20
"""Bytes of one element of a text tensor, as a model manifest bounds it too."""
MAX_EXTENT = 1 << 40
"""Elements of a shape whose empty axes count as 1: no message holds as many, and no array library is overrun."""

_TEXT_HEADER = 5
"""Bytes that the header of an array or a string takes at most."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "bool": "?",
        "int8": "i1",
        "int16": "<i2",
        "int32": "<i4",
        "int64": "<i8",
        "uint8": "u1",
        "uint16": "<u2",
        "uint32": "<u4",
        "uint64": "<u8",
        "float16": "<f2",
        "float32": "<f4",
        "float64": "<f8",
    }.items()
}
"""Element types by their wire name; "string" travels besides them."""


class MessageType(IntEnum):
    """The type byte of a record."""

    EVIDENCE = 1
    AUTHENTICATE = 2
    REQUEST = 3
    RESPONSE = 4
    ERROR = 5
    CLOSE = 6


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as a message announces it, before anything is allocated for it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    def announced(self) -> list[Any]:
        """Return the four items that stand in a header."""
        return [self.name, self.dtype, list(self.shape), self.size]


@dataclass(frozen=True)
class Body:
    """A decoded message: its header without `tensors`, the announcements, and the buffer of each."""

    header: dict[str, Any]
    specs: tuple[TensorSpec, ...] = ()
    buffers: tuple[memoryview, ...] = field(default=(), repr=False)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the tensors by name as read-only arrays over the received buffers."""
        return {spec.name: _array(spec, buffer) for spec, buffer in zip(self.specs, self.buffers, strict=True)}


def encode_body(header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None = None) -> bytes:
    """Encode a message; raises WireError `message-malformed` for a dtype or a value that cannot travel."""
    try:
        return _encode_body(header, tensors)
    except ManifestError as error:
        raise WireError(WireCode.MESSAGE_MALFORMED, error.message, expected=error.expected) from None


def _encode_body(header: Mapping[str, canonical.Value], tensors: Mapping[str, npt.NDArray[Any]] | None) -> bytes:
    specs: list[list[Any]] = []
    buffers: list[bytes] = []
    for name, array in (tensors or {}).items():
        spec, data = flatten(name, array)
        specs.append(spec.announced())
        buffers.append(data)
    content = dict(header)
    if tensors is not None:
        content["tensors"] = specs
    head = canonical.encode(content)
    return b"".join([struct.pack(">I", len(head)), head, *buffers])


def decode_body(content: bytes | bytearray | memoryview, *, max_containers: int = canonical.MAX_CONTAINERS) -> Body:
    """Decode a message whose header has at most `max_containers` maps and lists; raises WireError `message-malformed`.

    Checks that every announced size follows from dtype and shape and that the buffers fill the content exactly.
    """
    try:
        return _decode_body(memoryview(content), max_containers)
    except ManifestError as error:
        raise WireError(WireCode.MESSAGE_MALFORMED, error.message, expected=error.expected) from None


def _decode_body(content: memoryview, max_containers: int) -> Body:
    if len(content) < 4:
        raise WireError(WireCode.MESSAGE_MALFORMED, "the message has no header")
    end = 4 + int(struct.unpack_from(">I", content)[0])
    if end > len(content) or end > 4 + MAX_HEADER:
        raise WireError(WireCode.MESSAGE_MALFORMED, "the header is longer than the message or its bound")
    value = canonical.decode(content[4:end], max_size=MAX_HEADER, max_containers=max_containers)
    header = fields.of_type(value, "header", dict)
    specs = tuple(read_spec(item) for item in fields.list_of(header.pop("tensors", []), "tensors", MAX_TENSORS))
    if len({spec.name for spec in specs}) != len(specs):
        raise WireError(WireCode.MESSAGE_MALFORMED, "two tensors share a name")
    buffers = []
    for spec in specs:
        if spec.size > len(content) - end:
            raise WireError(WireCode.MESSAGE_MALFORMED, "the message is shorter than its tensors")
        buffers.append(content[end : end + spec.size].toreadonly())
        end += spec.size
    if end != len(content):
        raise WireError(WireCode.MESSAGE_MALFORMED, "bytes follow the last tensor")
    return Body(header, specs, tuple(buffers))


def read_spec(item: object) -> TensorSpec:
    """Read how a message announces a tensor; raises WireError `message-malformed` or ManifestError `field-invalid`."""
    parts = fields.list_of(item, "tensor", 4)
    if len(parts) != 4:
        raise WireError(WireCode.MESSAGE_MALFORMED, "a tensor is announced by four items")
    dtype = fields.text(parts[1], "dtype", 16)
    if dtype != "string" and dtype not in DTYPES:
        raise WireError(WireCode.MESSAGE_MALFORMED, "the dtype is unknown", expected=["string", *DTYPES])
    shape = tuple(fields.number(axis, "shape", 0) for axis in fields.list_of(parts[2], "shape", MAX_RANK))
    size = fields.number(parts[3], "size", 0)
    count = math.prod(shape)
    if math.prod(max(axis, 1) for axis in shape) > MAX_EXTENT:
        raise WireError(WireCode.MESSAGE_MALFORMED, "a tensor's shape is too large")
    if dtype == "string":
        if not count < size <= _TEXT_HEADER + count * (_TEXT_HEADER + MAX_TEXT):  # a string takes a byte at least
            raise WireError(WireCode.MESSAGE_MALFORMED, "a text tensor's size does not fit its shape")
    elif count * DTYPES[dtype].itemsize != size:
        raise WireError(WireCode.MESSAGE_MALFORMED, "a tensor's size does not follow from its dtype and shape")
    return TensorSpec(fields.text(parts[0], "name", MAX_TENSOR_NAME), dtype, shape, size)


def _array(spec: TensorSpec, buffer: memoryview) -> npt.NDArray[Any]:
    if spec.dtype == "bool" and np.frombuffer(buffer, np.uint8).max(initial=0) > 1:
        raise WireError(WireCode.MESSAGE_MALFORMED, "a truth value is neither 0 nor 1")
    if spec.dtype != "string":
        return np.frombuffer(buffer, dtype=DTYPES[spec.dtype]).reshape(spec.shape)
    return np.array(_texts(buffer, math.prod(spec.shape)), dtype=object).reshape(spec.shape)


def _texts(buffer: memoryview, count: int) -> list[str]:
    """Read the canonical array of exactly `count` strings, and no more of anything, whatever the bytes say."""
    header = _array_header(count)
    if buffer[: len(header)] != header:
        raise WireError(WireCode.MESSAGE_MALFORMED, "a text tensor has another number of elements than its shape")
    try:
        strings = list(itertools.islice(_unpacker(buffer[len(header) :]), count))
        if all(type(item) is str for item in strings) and msgpack.packb(strings) == buffer:
            return strings
    except (ValueError, msgpack.UnpackException):
        pass
    raise WireError(WireCode.MESSAGE_MALFORMED, "a text tensor is malformed")


def _array_header(count: int) -> bytes:
    if count < 1 << 4:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return struct.pack(">BH", 0xDC, count)
    return struct.pack(">BI", 0xDD, min(count, (1 << 32) - 1))


def _unpacker(data: memoryview) -> msgpack.Unpacker:
    """Return an iterator over scalars: nothing that it gives is larger than its own bytes and an object's head."""
    unpacker = msgpack.Unpacker(
        raw=False,
        max_buffer_size=max(len(data), 1),
        max_str_len=MAX_TEXT,
        max_bin_len=0,
        max_ext_len=0,
        max_array_len=0,
        max_map_len=0,
    )
    unpacker.feed(data)
    return unpacker


def flatten(name: str, array: npt.NDArray[Any]) -> tuple[TensorSpec, bytes]:
    """Return how a message announces a tensor, and the bytes that travel; raises WireError `message-malformed`."""
    dtype, data = _flatten(name, array)
    return TensorSpec(name, dtype, tuple(array.shape), len(data)), data


def _flatten(name: str, array: npt.NDArray[Any]) -> tuple[str, bytes]:
    if array.dtype.kind in {"U", "O"}:
        strings = array.ravel().tolist()
        if not all(isinstance(item, str) for item in strings):
            raise WireError(WireCode.MESSAGE_MALFORMED, f"tensor {name!r} holds objects that are no text")
        return "string", canonical.encode(strings)
    dtype = array.dtype.name
    if dtype not in DTYPES:
        raise WireError(WireCode.MESSAGE_MALFORMED, f"tensor {name!r} has a dtype that cannot travel", found=dtype)
    return dtype, np.ascontiguousarray(array, dtype=DTYPES[dtype]).tobytes()
