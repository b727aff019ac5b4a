"""Every single bit of a real and of a simulated quote matters: flipped, the quote is refused.

Of the collateral, which is larger and slower to verify, bits are drawn by a fixed seed; `make fuzz` flips them all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest

from attestation import evidence
from attestation.errors import EvidenceError
from attestation.evidence import Roots, ValidatedCollateral
from attestation.intel.collateral import IntelCollateral
from manifests.errors import ErrorCode
from tests import flips
from tests.attestation import kit
from tests.flips import flip

SLICES = 12
"""Parts of the work, so that processes can share it."""


@functools.lru_cache(maxsize=1)
def real() -> tuple[bytes, ValidatedCollateral, int]:
    return kit.real_quote(), evidence.prepare(kit.real_collateral(), Roots.vendor(), kit.REAL_NOW), kit.REAL_NOW


@functools.lru_cache(maxsize=1)
def simulated() -> tuple[bytes, ValidatedCollateral, int]:
    collateral = kit.platform().collateral(kit.NOW)
    return kit.sim_quote(), evidence.prepare(collateral, kit.sim_roots(), kit.NOW), kit.NOW


def refusal(data: bytes, collateral: ValidatedCollateral, now: int) -> ErrorCode | None:
    try:
        evidence.verify(evidence.parse(data), collateral, collateral.roots, now)
    except EvidenceError as error:
        return error.code
    return None


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("case", [real, simulated], ids=["real", "simulated"])
def test_every_flipped_bit_is_refused(case: Callable[[], tuple[bytes, ValidatedCollateral, int]], part: int) -> None:
    quote, collateral, now = case()
    assert refusal(quote, collateral, now) is None
    bits = range(part, 8 * len(quote), SLICES)
    assert [bit for bit in bits if refusal(flip(quote, bit), collateral, now) is None] == []


def collateral_case(held: IntelCollateral, now: int) -> flips.Case:
    """All parts of Intel's collateral; what refuses one flipped is its preparation, before any quote is looked at.

    Line feeds and NUL at the end of a chain are the only bytes of collateral that nothing covers, and no flip makes one
    of what a captured chain has.
    """
    parts = {item.name: getattr(held, item.name) for item in dataclasses.fields(held)}
    roots = Roots.vendor()
    return flips.Case(parts, lambda name, data: evidence.prepare(dataclasses.replace(held, **{name: data}), roots, now))


def real_collateral() -> flips.Case:
    return collateral_case(kit.real_collateral(), kit.REAL_NOW)


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_real_collateral_are_refused(share: int) -> None:
    assert flips.unnoticed_draws(real_collateral(), "sgx", share) == []
