"""Targets that read what enclave and broker say of clients' budgets."""

from __future__ import annotations

from typing import Final

from attestation.types import BudgetState, BudgetTerms
from attestation.types.budgets import ANONYMOUS, Ask, ModelSlices, Slice, decode_states
from manifests import canonical
from manifests.errors import ManifestError
from tests.fuzz.target import Target

_MAX: Final = 1 << 16
_STATES: Final = [BudgetState("a", 5, 2, (Ask(ANONYMOUS, 4, 1), Ask(bytes(32), 0, 0))), BudgetState("b", 0, 0, ())]
_TERMS: Final = (BudgetTerms(9, 8, 4, 100, 0, 60, 5), BudgetTerms(0, 0, 100, None, None, 1, 1))


def _states(data: bytes) -> tuple[BudgetState, ...]:
    return decode_states(canonical.decode(data, max_size=_MAX))


def _encoded(states: tuple[BudgetState, ...]) -> bytes:
    return canonical.encode([state.encode() for state in states])


def _slices(data: bytes) -> ModelSlices:
    return ModelSlices.decode(canonical.decode(data, max_size=_MAX))


def _terms(data: bytes) -> BudgetTerms:
    return BudgetTerms.from_map(canonical.decode(data, max_size=_MAX))


TARGETS: Final[tuple[Target, ...]] = (
    Target("budget-states", _states, lambda: [_encoded(tuple(_STATES))], (ManifestError,), remade=_encoded),
    Target("budget-slices", _slices,
           lambda: [canonical.encode(ModelSlices("m", 7, 8, (Slice(ANONYMOUS, 4, 1, last=True),)).encode())],
           (ManifestError,), remade=lambda value: canonical.encode(value.encode())),
    Target("budget-terms", _terms, lambda: [canonical.encode(terms.to_map()) for terms in _TERMS], (ManifestError,),
           remade=lambda value: canonical.encode(value.to_map())),
)  # fmt: skip


__all__ = ["TARGETS"]
