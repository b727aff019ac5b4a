"""The table `[batching]`: requests of several sessions on one model may be run together, as rows of one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manifests import fields
from manifests.pairs import unfit
from manifests.tensors import Axis, TensorField

MAX_ROWS = 4096
MAX_WAIT_US = 100_000
"""A tenth of a second: whoever waits longer waits for nobody."""


@dataclass(frozen=True)
class Batching:
    """max_rows: of all requests that run together.  max_wait_us: how long the first of them waits for others."""

    max_rows: int
    max_wait_us: int

    @classmethod
    def from_map(cls, value: object) -> Batching:
        """Read the table; raises ManifestError `field-invalid`."""
        table = fields.closed_map(value, "batching", ("max_rows", "max_wait_us"))
        return cls(
            fields.number(table["max_rows"], "max_rows", 2, MAX_ROWS),
            fields.number(table["max_wait_us"], "max_wait_us", 1, MAX_WAIT_US),
        )

    def to_map(self) -> dict[str, int]:
        """Return the table."""
        return {"max_rows": self.max_rows, "max_wait_us": self.max_wait_us}

    def check(self, inputs: Mapping[str, TensorField], outputs: Mapping[str, TensorField]) -> None:
        """Refuse tensors without the rows that batching joins; raises ManifestError `manifest-invalid`."""
        leading = {tensor.shape[0] if tensor.shape else 0 for tensor in (*inputs.values(), *outputs.values())}
        axis = next(iter(leading))
        if len(leading) != 1 or not isinstance(axis, Axis):
            raise unfit("batching needs one dynamic axis that is the first of every input and every output")
        if axis.maximum < self.max_rows:
            raise unfit(f"batching joins more rows than axis {axis.name!r} admits", f"at most {axis.maximum}")
