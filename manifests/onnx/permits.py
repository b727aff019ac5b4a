"""The table [graph] of a model manifest: what its owner allows the graph beyond what every model may do.

[graph]
operators = ["com.microsoft:Gelu"]   # operators beyond the standard domains, by name
max_memory = 1073741824              # bytes that one request may take, and that the loaded model may take
max_work = 100000000000              # arithmetic operations of one request
max_iterations = 1000                # of each loop whose trip count the graph leaves open
[graph.bounds]                       # most elements of values whose size the graph leaves open
boxes = 10000
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests import fields
from manifests.errors import ManifestCode, ManifestError

DEFAULT_MEMORY = 8 << 30
"""Twice what an enclave holds of models by default; a request that may take more has bounds that nobody reviewed."""
DEFAULT_WORK = 10**14
"""Some minutes of one core; the time limit of a request ends it earlier."""
MAX_OPERATORS = 256
MAX_BOUNDS = 1024
MAX_VALUE_NAME = 512
_OPERATOR = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,127}:[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_NUMBERS = {"max_memory": 1 << 44, "max_work": fields.U63, "max_iterations": 1 << 31}


@dataclass(frozen=True)
class GraphPermits:
    """What the owner allows, and how much one request may cost."""

    operators: tuple[str, ...] = ()
    """Each as "domain:Operator", with the domain "ai.onnx" for ONNX's own."""
    max_memory: int | None = None
    max_work: int | None = None
    max_iterations: int | None = None
    """The owner's word: nothing in the enclave counts iterations."""
    bounds: Mapping[str, int] = field(default_factory=dict)
    """The owner's word, too: most elements of values of the graph, by name."""

    @property
    def memory(self) -> int:
        """Bytes of one request."""
        return DEFAULT_MEMORY if self.max_memory is None else self.max_memory

    @property
    def work(self) -> int:
        """Operations of one request."""
        return DEFAULT_WORK if self.max_work is None else self.max_work

    def to_map(self) -> dict[str, Any]:
        """Return the entries that are set."""
        table: dict[str, Any] = {"operators": list(self.operators), "bounds": dict(self.bounds)}
        table |= {name: getattr(self, name) for name in _NUMBERS}
        return {name: value for name, value in table.items() if value not in (None, [], {})}

    @classmethod
    def from_map(cls, value: object) -> GraphPermits:
        """Read the table; raises ManifestError `field-invalid`."""
        table = fields.closed_map(value, "graph", (), ("operators", "bounds", *_NUMBERS))
        operators = [_operator(item) for item in fields.list_of(table.get("operators", []), "operators", MAX_OPERATORS)]
        fields.ascending(operators, "operators")
        limits = {name: fields.number(table[name], name, 1, most) for name, most in _NUMBERS.items() if name in table}
        return cls(tuple(operators), **limits, bounds=_bounds(table.get("bounds", {})))


def read_permits(value: object) -> GraphPermits | None:
    """Read the optional table of a manifest: None where it is absent; raises ManifestError `field-invalid`."""
    if value is None:
        return None
    permits = GraphPermits.from_map(value)
    if not permits.to_map():
        raise _invalid("the table [graph] says nothing", "an entry, or no table", "an empty table")
    return permits


def _operator(item: object) -> str:
    name = fields.text(item, "operators", 256)
    if not _OPERATOR.fullmatch(name):
        raise _invalid("an operator is not named as domain:Operator", "such as com.microsoft:Gelu", name)
    return name


def _bounds(value: object) -> dict[str, int]:
    table = fields.of_type(value, "bounds", dict)
    if len(table) > MAX_BOUNDS:
        raise _invalid("there are too many bounds", f"at most {MAX_BOUNDS}", len(table))
    return {
        fields.text(name, "bounds", MAX_VALUE_NAME): fields.number(most, "bounds", 0, 1 << 40)
        for name, most in table.items()
    }


def _invalid(message: str, expected: object, found: object) -> ManifestError:
    return ManifestError(ManifestCode.FIELD_INVALID, message, expected=expected, found=found)
