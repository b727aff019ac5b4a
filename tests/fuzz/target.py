"""What a fuzz target is, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attestation.errors import EvidenceError
from manifests.errors import StrongroomError


@dataclass(frozen=True)
class Target:
    """A parser.  errors: what it may raise.  remade: from its value to the bytes that were parsed; None: no inverse."""

    name: str
    parse: Callable[[bytes], Any]
    seeds: Callable[[], list[bytes]]
    errors: tuple[type[StrongroomError], ...] = (EvidenceError,)
    remade: Callable[[Any], bytes] | None = None


class BrokenContractError(AssertionError):
    """A parser gave a value that does not serialise to its input."""


def check(target: Target, data: bytes) -> str:
    """Run a target on an input; returns the code of the refusal, or "" for a value.  Anything raised is a defect."""
    try:
        value = target.parse(data)
    except target.errors as error:
        return str(error.code)
    if target.remade is not None and target.remade(value) != data:
        raise BrokenContractError(f"{target.name}: the value is not that of its bytes")
    return ""
