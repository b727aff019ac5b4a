"""Messages by a schema: one loop that reads any of them, within one budget for the whole model.

A schema maps field numbers to what stands there.  Total: every input gives a message or OnnxError.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Any

import numpy as np

from manifests.onnx import bounds, wire
from manifests.onnx.errors import OnnxCode, OnnxError


class Kind(IntEnum):
    """What a field holds."""

    INT64 = auto()
    INT32 = auto()
    """int32 and enumerations."""
    FLOAT = auto()
    NAME = auto()
    """Text of at most `bounds.MAX_NAME` bytes."""
    NOTE = auto()
    """Documentation: counted, and not read."""
    BYTES = auto()
    """A view that counts as text."""
    DATA = auto()
    """A view of any length."""
    MESSAGE = auto()
    NOTES = auto()
    """A message of documentation: its bytes are counted, and not read."""
    FLAG = auto()
    """A message of which only counts that it is there."""
    FLOATS = auto()
    INTS = auto()
    """Repeated numbers, packed or not, as an array."""
    DIMS = auto()
    """Repeated int64 as a tuple."""
    PACKED_VARINTS = auto()
    PACKED_4 = auto()
    PACKED_8 = auto()
    """Repeated numbers of a tensor, packed or not, as views that nobody has read."""


_WIRES = {
    Kind.INT64: wire.VARINT,
    Kind.INT32: wire.VARINT,
    Kind.FLOAT: wire.FIXED32,
    Kind.FLOATS: wire.FIXED32,
    Kind.INTS: wire.VARINT,
    Kind.DIMS: wire.VARINT,
    Kind.PACKED_VARINTS: wire.VARINT,
    Kind.PACKED_4: wire.FIXED32,
    Kind.PACKED_8: wire.FIXED64,
}
"""The wire type of a single value; every other kind is a length and bytes."""
_ARRAYS = {Kind.FLOATS: "f", Kind.INTS: "q", Kind.DIMS: "q"}
_VIEWS = frozenset({Kind.PACKED_VARINTS, Kind.PACKED_4, Kind.PACKED_8})
_SIZES = {wire.FIXED32: 4, wire.FIXED64: 8}
_FLOAT = struct.Struct("<f")


@dataclass(frozen=True)
class Field:
    """One field of a schema.  `schema` is called for a message's own schema, since they hold each other."""

    name: str
    kind: Kind
    repeated: bool = False
    schema: Callable[[], Schema] | None = None


@dataclass(frozen=True)
class Schema:
    """A message: its class, its fields by number, and how many of it the whole model may have."""

    make: Callable[[], Any]
    fields: Mapping[int, Field]
    most: int = bounds.MAX_FIELDS
    what: str = "messages"


@dataclass
class Budget:
    """What is left for the rest of the model."""

    fields: int = bounds.MAX_FIELDS
    numbers: int = bounds.MAX_NUMBERS
    strings: int = bounds.MAX_STRINGS
    text: int = bounds.MAX_TEXT
    notes: int = bounds.MAX_NOTES
    entries: int = bounds.MAX_ENTRIES
    made: dict[str, int] = field(default_factory=dict)

    def spend(self, name: str, amount: int, code: OnnxCode, what: str) -> None:
        """Take from one of the bounds; raises OnnxError with the code where it is used up."""
        left = getattr(self, name) - amount
        setattr(self, name, left)
        if left < 0:
            raise OnnxError(code, f"the model has more {what} than are read", expected=f"at most {_BOUNDS[name]}")

    def make(self, schema: Schema) -> Any:
        """Count and make a message; raises OnnxError `onnx-count`."""
        made = self.made[schema.what] = self.made.get(schema.what, 0) + 1
        if made > schema.most:
            raise OnnxError(
                OnnxCode.COUNT,
                f"the model has more {schema.what} than are read",
                expected=f"at most {schema.most}",
                found=f"more than {schema.most}",
            )
        return schema.make()


_BOUNDS = {name: getattr(Budget(), name) for name in ("fields", "numbers", "strings", "text", "notes", "entries")}


@dataclass(frozen=True, slots=True)
class Place:
    """The message that is being read: where it ends, how deep it lies, and what was read of it."""

    end: int
    depth: int
    values: dict[str, Any]


class Decoder:
    """Reads one model."""

    def __init__(self, data: memoryview) -> None:
        """Read from these bytes."""
        self._data = data
        self._budget = Budget()

    def message(self, schema: Schema, start: int, end: int, depth: int = 0) -> Any:
        """Return the message in start..end; raises OnnxError."""
        if depth > bounds.MAX_MESSAGES:
            raise OnnxError(
                OnnxCode.DEPTH,
                "messages are nested too deep",
                expected=f"at most {bounds.MAX_MESSAGES} within each other",
                found="more",
            )
        found = self._budget.make(schema)
        values: dict[str, Any] = {}
        place = Place(end, depth, values)
        at, last, same = start, 0, 0
        while at < end:
            number, kind, at = wire.tag(self._data, at, end)
            item = schema.fields.get(number)
            if item is None:
                raise _unknown(schema, number)
            self._budget.spend("fields", 1, OnnxCode.SIZE, "fields")
            at = self._field(item, kind, at, place)
            last, same = (number, same + 1) if number == last else (number, 1)
            if same % wire.RUN == 0 and number < 16:
                at = self._run(item, number << 3 | kind, at, place)
        for name, value in values.items():
            if value is not None:
                setattr(found, name, tuple(value) if name == "dims" else _finished(value))
        return found

    def _field(self, item: Field, kind: int, at: int, place: Place) -> int:
        """Read one value into the message; return where the next field begins."""
        values, end = place.values, place.end
        expected = _WIRES.get(item.kind, wire.BYTES)
        if item.kind in _ARRAYS or item.kind in _VIEWS:
            return self._number(item, kind, at, end, values)
        if kind != expected:
            raise _wrong(item)
        if not item.repeated and item.name in values and item.kind not in {Kind.NOTES, Kind.FLAG}:
            raise OnnxError(OnnxCode.DUPLICATE_FIELD, f"the field {item.name!r} has two values")
        value, at = self._value(item, at, end, place.depth)
        if item.repeated:
            values.setdefault(item.name, []).append(value)
        elif item.kind is not Kind.NOTES:
            values[item.name] = value
        return at

    def _value(self, item: Field, at: int, end: int, depth: int) -> tuple[Any, int]:
        if item.kind in {Kind.INT64, Kind.INT32}:
            value, at = wire.varint(self._data, at, end)
            return _integer(item, value), at
        if item.kind is Kind.FLOAT:
            return _FLOAT.unpack(self._fixed(at, end, 4))[0], at + 4
        start, at = wire.span(self._data, at, end)
        if item.kind is Kind.MESSAGE:
            assert item.schema is not None  # noqa: S101 - every message of the tables below has one
            return self.message(item.schema(), start, at, depth + 1), at
        return self._bytes(item, start, at), at

    def _bytes(self, item: Field, start: int, end: int) -> Any:
        size = end - start
        if item.kind is Kind.DATA:
            return self._data[start:end]
        if item.kind in {Kind.NOTE, Kind.NOTES}:
            self._budget.spend("notes", size, OnnxCode.METADATA, "bytes of documentation and metadata")
            self._budget.spend("entries", 1, OnnxCode.METADATA, "entries of documentation and metadata")
            return None
        if item.kind is Kind.FLAG:
            return True
        self._budget.spend("strings", 1, OnnxCode.COUNT, "names and texts")
        self._budget.spend("text", size, OnnxCode.SIZE, "bytes of names and texts")
        return self._data[start:end] if item.kind is Kind.BYTES else self._name(start, end)

    def _name(self, start: int, end: int) -> str:
        if end - start > bounds.MAX_NAME:
            raise OnnxError(
                OnnxCode.NAME,
                "a name is too long",
                expected=f"at most {bounds.MAX_NAME} bytes",
                found=f"{end - start} bytes",
            )
        try:
            return str(self._data[start:end], "utf-8")
        except UnicodeDecodeError:
            raise OnnxError(OnnxCode.TEXT, "a name is not UTF-8 text") from None

    def _fixed(self, at: int, end: int, size: int) -> memoryview:
        if end - at < size:
            raise wire.malformed("a number does not end")
        return self._data[at : at + size]

    # ------------------------------------------------------------------------------ repeated numbers

    def _number(self, item: Field, kind: int, at: int, end: int, values: dict[str, Any]) -> int:
        """Read one number, or a packed field, of repeated numbers."""
        single = _WIRES[item.kind]
        store = values.setdefault(item.name, [] if item.kind in _VIEWS else array(_ARRAYS[item.kind]))
        if kind == wire.BYTES:
            start, at = wire.span(self._data, at, end)
            self._packed(item, store, start, at)
            return at
        if kind != single:
            raise _wrong(item)
        size = _SIZES.get(kind, 0)
        begin = at
        value, at = (0, at + size) if size else wire.varint(self._data, at, end)
        view = self._fixed(begin, end, size) if size else self._data[begin:at]
        if item.kind in _VIEWS:
            store.append(view)
        else:
            store.append(_FLOAT.unpack(view)[0] if size else wire.signed(value))
        return at

    def _packed(self, item: Field, store: Any, start: int, end: int) -> None:
        size = _SIZES.get(_WIRES[item.kind], 0)
        if size and (end - start) % size:
            raise wire.malformed("a packed field ends within a number")
        if item.kind in _VIEWS:
            store.append(self._data[start:end])
            return
        self._budget.spend("numbers", (end - start) // (size or 1), OnnxCode.SIZE, "numbers")
        store.frombytes(self._data[start:end] if size else wire.unpack(self._data, start, end).tobytes())

    def _run(self, item: Field, key: int, at: int, place: Place) -> int:
        """Read the numbers that follow with the same tag, many at once; return where they end."""
        kind, values, end = key & 7, place.values, place.end
        if item.kind is Kind.BYTES and item.repeated:
            return self._run_strings(values[item.name], key, at, end)
        if kind == wire.BYTES or item.kind not in _ARRAYS:
            return at
        read = self._run_varints if kind == wire.VARINT else self._run_floats
        while (after := read(values[item.name], key, at, end)) > at:
            at = after
        return at

    def _run_strings(self, store: list[memoryview], key: int, at: int, end: int) -> int:
        """Read texts of less than 128 bytes, such as the words of a vocabulary or the kinds of a tree's nodes."""
        data, begin, before = self._data, at, len(store)
        while at + 1 < end and data[at] == key and (size := data[at + 1]) < 0x80 and at + 2 + size <= end:
            store.append(data[at + 2 : at + 2 + size])
            at += 2 + size
            if len(store) - before > self._budget.strings:
                break
        self._budget.spend("strings", len(store) - before, OnnxCode.COUNT, "names and texts")
        self._budget.spend("text", at - begin, OnnxCode.SIZE, "bytes of names and texts")
        return at

    def _run_varints(self, store: array[int], key: int, at: int, end: int) -> int:
        run = wire.run_varints(self._data, at, end, key)
        self._budget.spend("numbers", run.values.size, OnnxCode.SIZE, "numbers")
        store.frombytes(run.values.tobytes())
        return run.end

    def _run_floats(self, store: array[float], key: int, at: int, end: int) -> int:
        count = wire.run_fixed(self._data, at, end, key, 4)
        self._budget.spend("numbers", count, OnnxCode.SIZE, "numbers")
        rows = np.frombuffer(self._data[at : at + 5 * count], np.uint8).reshape(count, 5)
        store.frombytes(rows[:, 1:].tobytes())
        return at + 5 * count


def _integer(item: Field, value: int) -> int:
    number = wire.signed(value)
    if item.kind is Kind.INT32 and not -(1 << 31) <= number < 1 << 31:
        raise OnnxError(OnnxCode.VARINT, f"the number in {item.name!r} lies beyond 32 bits")
    return number


def _finished(value: Any) -> Any:
    """Return an array of numbers as NumPy's; everything else as it is."""
    if isinstance(value, array):
        return np.frombuffer(value, np.float32 if value.typecode == "f" else np.int64)
    return value


def _unknown(schema: Schema, number: int) -> OnnxError:
    return OnnxError(
        OnnxCode.UNKNOWN_FIELD, f"a message among the {schema.what} has a field that ONNX does not have", found=number
    )


def _wrong(item: Field) -> OnnxError:
    return OnnxError(OnnxCode.UNKNOWN_FIELD, f"the field {item.name!r} has another wire type than ONNX gives it")
