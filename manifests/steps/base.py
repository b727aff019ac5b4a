"""What all steps share: the tensors that they are folded over, and how their fields are read and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from manifests import fields
from manifests.errors import ManifestCode, ManifestError
from manifests.tensors import MAX_TENSOR_NAME, TensorField

MAX_VECTOR = 65536
"""Elements of a mean or deviation: a per-feature vector, not a tensor."""
MAX_SELECTED = 256

Fields: TypeAlias = dict[str, TensorField]


def invalid(message: str) -> ManifestError:
    """Make the error for a manifest that contradicts itself."""
    return ManifestError(ManifestCode.MANIFEST_INVALID, message)


def take(tensors: Fields, name: str, dtypes: frozenset[str] | None = None) -> TensorField:
    """Return a tensor that is there at this point and has one of these dtypes; raises `manifest-invalid`."""
    if name not in tensors:
        there = list(tensors)
        raise ManifestError(
            ManifestCode.MANIFEST_INVALID,
            f"a step names {name!r}, but at that point there are only {', '.join(map(repr, there))}",
            expected=there,
            found=name,
        )
    if dtypes is not None and tensors[name].dtype not in dtypes:
        raise invalid(f"a step cannot work on {name!r}, which has dtype {tensors[name].dtype}")
    return tensors[name]


def add(tensors: Fields, tensor: TensorField) -> None:
    """Add a tensor that a step makes; raises `manifest-invalid` where its name is taken."""
    if tensor.name in tensors:
        raise invalid(f"a step would make a second tensor {tensor.name!r}")
    tensors[tensor.name] = tensor


def least(tensor: TensorField) -> int:
    """Return the smallest length of the last axis."""
    axis = tensor.shape[-1]
    return axis if isinstance(axis, int) else axis.minimum


def within(value: float, what: str, low: float, high: float) -> None:
    """Refuse a number outside its bounds; raises `manifest-invalid`."""
    if not low <= value <= high:
        raise invalid(f"{what} must be between {low} and {high}")


def one_of(value: str, what: str, words: tuple[str, ...]) -> None:
    """Refuse a word that is none of these; raises `manifest-invalid`."""
    if value not in words:
        raise invalid(f"{what} must be one of {', '.join(words)}")


def to_map(step: Any) -> dict[str, Any]:
    """Return a step as a map with its kind, without the fields that have their default."""
    items = ((item, getattr(step, item.name)) for item in dataclasses.fields(step))
    named = {item.name: value for item, value in items if item.default is dataclasses.MISSING or value != item.default}
    return {"kind": step.kind} | {name: list(v) if isinstance(v, tuple) else v for name, v in named.items()}


def read_step(value: object, kinds: Mapping[str, type[Any]]) -> Any:
    """Read a step of one of these kinds from a map; raises ManifestError `field-invalid`."""
    table = fields.of_type(value, "step", dict)
    kind = fields.text(table.get("kind"), "kind", 32)
    if kind not in kinds:
        raise ManifestError(
            ManifestCode.FIELD_INVALID, f"there is no step {kind!r} here", expected=", ".join(kinds), found=kind
        )
    items = {item.name: item for item in dataclasses.fields(kinds[kind])}
    required = [name for name, item in items.items() if item.default is dataclasses.MISSING]
    fields.closed_map(table, f"step {kind!r}", ("kind", *required), items)
    return kinds[kind](**{name: _READERS[str(items[name].type)](table[name], name) for name in items if name in table})


def _name(value: object, what: str) -> str:
    return fields.text(value, what, MAX_TENSOR_NAME)


def _names(value: object, what: str) -> tuple[str, ...]:
    return tuple(_name(item, what) for item in fields.list_of(value, what, MAX_SELECTED))


def _numbers(value: object, what: str) -> tuple[float, ...]:
    if type(value) in (int, float):
        value = [value]
    return tuple(_float(item, what) for item in fields.list_of(value, what, MAX_VECTOR))


def _float(value: object, what: str) -> float:
    if type(value) is int and abs(value) <= 1 << 53:
        return float(value)
    return fields.of_type(value, what, float)


def _integer(value: object, what: str) -> int:
    return fields.number(value, what, -64, fields.U63)


def _flag(value: object, what: str) -> bool:
    return fields.of_type(value, what, bool)


_READERS: dict[str, Callable[[object, str], Any]] = {
    "str": _name,
    "int": _integer,
    "float": _float,
    "bool": _flag,
    "tuple[str, ...]": _names,
    "tuple[float, ...]": _numbers,
}
"""How a field of a step is read, by its annotation."""
