"""Element types of ONNX: TensorProto.DataType, with names, sizes and ranges."""

from __future__ import annotations

from typing import Final

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL = range(1, 10)
FLOAT16, DOUBLE, UINT32, UINT64, COMPLEX64, COMPLEX128, BFLOAT16 = range(10, 17)

NAMES: Final = {
    FLOAT: "float32", UINT8: "uint8", INT8: "int8", UINT16: "uint16", INT16: "int16", INT32: "int32",
    INT64: "int64", STRING: "string", BOOL: "bool", FLOAT16: "float16", DOUBLE: "float64", UINT32: "uint32",
    UINT64: "uint64", COMPLEX64: "complex64", COMPLEX128: "complex128", BFLOAT16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz",
    21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""Names as a manifest has them, where it has them."""
BY_NAME: Final = {name: number for number, name in NAMES.items()}

BITS: Final = {
    FLOAT: 32, UINT8: 8, INT8: 8, UINT16: 16, INT16: 16, INT32: 32, INT64: 64, BOOL: 8, FLOAT16: 16, DOUBLE: 64,
    UINT32: 32, UINT64: 64, COMPLEX64: 64, COMPLEX128: 128, BFLOAT16: 16, 17: 8, 18: 8, 19: 8, 20: 8,
    21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
"""Bits of one element; elements of less than a byte lie together.  A string has no size of its own."""

RANGES: Final = {
    INT8: (-(1 << 7), (1 << 7) - 1),
    INT16: (-(1 << 15), (1 << 15) - 1),
    INT32: (-(1 << 31), (1 << 31) - 1),
    INT64: (-(1 << 63), (1 << 63) - 1),
    UINT8: (0, (1 << 8) - 1),
    UINT16: (0, (1 << 16) - 1),
    UINT32: (0, (1 << 32) - 1),
    UINT64: (0, (1 << 64) - 1),
    BOOL: (0, 1),
}
"""Least and greatest value of each integer type."""

FIELD_OF: Final = {
    FLOAT: "float_data", COMPLEX64: "float_data", DOUBLE: "double_data", COMPLEX128: "double_data",
    INT64: "int64_data", UINT32: "uint64_data", UINT64: "uint64_data", STRING: "string_data",
}  # fmt: skip
"""Where a tensor's numbers stand that are not raw; those of every other type stand in int32_data."""

WIDEST = 128
"""Bits that are counted for an element whose type is not known."""
STRING_HEAD = 32
"""Bytes of an element of a string tensor in memory, besides a text that is longer than 15 bytes (std::string)."""


def packed_bytes(dtype: int, elements: int) -> int:
    """Return the bytes of a tensor in memory, without the texts of strings."""
    return elements * STRING_HEAD if dtype == STRING else (elements * BITS.get(dtype, WIDEST) + 7) // 8
