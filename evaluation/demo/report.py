"""What a run of the demonstration found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelResult:
    """How a model's answers from inside the enclave compare with plain onnxruntime on the same input.

    identical: every output has the same dtype, shape and bytes.  correct: cases answered rightly, None where the truth
    is not known.
    """

    name: str
    cases: int
    identical: bool
    correct: int | None


@dataclass(frozen=True)
class Cost:
    """Median milliseconds of a request with one case: through the host into the enclave, and plain onnxruntime."""

    name: str
    enclave_ms: float
    plain_ms: float


@dataclass(frozen=True)
class HostView:
    """What passed through the host: bytes each way, and how many of the looked-for pieces of plain text."""

    to_enclave: int
    to_client: int
    pieces_searched: int
    pieces_found: int


@dataclass(frozen=True)
class Refusal:
    """How one attack ended.

    by: who refused it, or was left holding it.  expected: codes that count as a refusal.  found: the code that came,
    or None if the attack went through.
    """

    attack: str
    by: str
    expected: tuple[str, ...]
    found: str | None

    @property
    def as_expected(self) -> bool:
        """Whether the attack was refused for the right reason."""
        return self.found in self.expected


@dataclass
class Report:
    """The result of a run."""

    handshake_ms: float = 0.0
    """Connecting, handshake, evidence with its quote, verification and appraisal."""
    seconds: float = 0.0
    models: list[ModelResult] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    host: HostView | None = None
    refusals: list[Refusal] = field(default_factory=list)
    receipt: str = ""
    """What refuses a receipt, which is accepted else, where another model is expected."""

    def failures(self, attacks: Sequence[str]) -> list[str]:
        """Return what is not as claimed, one sentence each; every attack of `attacks` must have been made."""
        found = [f"{model.name} differs from plain onnxruntime" for model in self.models if not model.identical]
        found += [f"{item.attack} by {item.by}: {item.found}" for item in self.refusals if not item.as_expected]
        made = {item.attack for item in self.refusals}
        found += [f"the attack {attack!r} was not made" for attack in attacks if attack not in made]
        if self.receipt != "receipt-model":
            found.append("a receipt does not show which model has answered")
        if not self.models:
            found.append("no model answered")
        if self.host is None or self.host.pieces_found or not self.host.pieces_searched:
            found.append("the host's view is missing, or holds plain text")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form."""
        refusals = [{**asdict(item), "as_expected": item.as_expected} for item in self.refusals]
        return {**asdict(self), "refusals": refusals}
