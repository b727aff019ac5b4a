"""Every single bit of real quotes of trust domains, versions 4 and 5, matters: flipped, the quote is refused.

Of the collateral, which is larger and slower to verify, bits are drawn by a fixed seed; `make fuzz` flips them all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from attestation import evidence
from attestation.errors import EvidenceError
from attestation.evidence import Roots, ValidatedCollateral
from attestation.intel.abi import strip_padding
from manifests.errors import ErrorCode
from tests import flips
from tests.attestation.test_bit_flips import collateral_case
from tests.flips import flip
from tests.tdx import kit
from tests.tdx.test_td_vectors import B0C06F, C90C06F, MARCH_2026

SLICES = 12
"""Parts of the work, so that processes can share it."""

UNSIGNED: tuple[int, ...] = ()
"""Bits of a quote that nothing covers: there are none."""

Captured = tuple[bytes, ValidatedCollateral, int]


@functools.lru_cache(maxsize=1)
def version_4() -> Captured:
    quote, padding = strip_padding(kit.real("tdx/v4-dcapqvl.quote.bin"))
    assert padding == 70
    return quote, evidence.prepare(kit.real_collateral(B0C06F), Roots.vendor(), kit.REAL_NOW), kit.REAL_NOW


@functools.lru_cache(maxsize=1)
def version_5() -> Captured:
    """With a TD report 1.5: the body's descriptor, TEE_TCB_SVN2 and MRSERVICETD."""
    quote, padding = strip_padding(kit.real("tdx/v5-gotdx.quote.bin"))
    assert padding == 0
    return quote, evidence.prepare(kit.real_collateral(C90C06F), Roots.vendor(), MARCH_2026), MARCH_2026


def refusal(data: bytes, collateral: ValidatedCollateral, now: int) -> ErrorCode | None:
    try:
        evidence.verify(evidence.parse(data), collateral, collateral.roots, now)
    except EvidenceError as error:
        return error.code
    return None


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("case", [version_4, version_5], ids=["v4", "v5"])
def test_every_flipped_bit_of_a_real_quote_is_refused(case: Callable[[], Captured], part: int) -> None:
    quote, collateral, now = case()
    assert refusal(quote, collateral, now) is None
    bits = range(part, 8 * len(quote), SLICES)
    unnoticed = [bit for bit in bits if refusal(flip(quote, bit), collateral, now) is None]
    assert unnoticed == [bit for bit in bits if bit in UNSIGNED]


def test_every_flipped_bit_of_what_only_a_simulated_version_5_has_is_refused() -> None:
    """The body's descriptor, and TEE_TCB_SVN2 and MRSERVICETD behind the fields of a report 1.0."""
    quote = kit.sim_quote(5)
    collateral = evidence.prepare(kit.platform().collateral(kit.NOW), kit.sim_roots(), kit.NOW)
    assert refusal(quote, collateral, kit.NOW) is None
    descriptor, behind = 48, 48 + 6 + 584
    bits = [*range(8 * descriptor, 8 * (descriptor + 6)), *range(8 * behind, 8 * (behind + 64))]
    assert [bit for bit in bits if refusal(flip(quote, bit), collateral, kit.NOW) is None] == []


def real_collateral() -> flips.Case:
    return collateral_case(kit.real_collateral(B0C06F), kit.REAL_NOW)


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_real_collateral_are_refused(share: int) -> None:
    assert flips.unnoticed_draws(real_collateral(), "tdx", share) == []
