"""Every single bit of a real and of a simulated quote matters: flipped, the quote is refused.

Of the collateral, which is larger and slower to verify, bits are drawn by a fixed seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable

import pytest

from attestation import evidence
from attestation.errors import EvidenceError
from attestation.evidence import Roots, ValidatedCollateral
from attestation.intel.collateral import IntelCollateral
from manifests.errors import ErrorCode
from tests.attestation import kit

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
    accepted = []
    for bit in range(part, 8 * len(quote), SLICES):
        flipped = bytearray(quote)
        flipped[bit // 8] ^= 1 << bit % 8
        if refusal(bytes(flipped), collateral, now) is None:
            accepted.append(bit)
    assert accepted == []


DRAWN = 40
"""Bits of each part of the collateral."""


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(IntelCollateral)])
def test_flipped_bits_of_collateral_are_refused(name: str) -> None:
    """Line feeds and NUL at the end of a chain are the only bytes of collateral that nothing covers."""
    collateral = kit.real_collateral()
    part = getattr(collateral, name)
    drawn = random.Random(name).sample(range(8 * len(part)), DRAWN)
    accepted = []
    for bit in drawn:
        flipped = bytearray(part)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = dataclasses.replace(collateral, **{name: bytes(flipped)})
        with contextlib.suppress(EvidenceError):
            kit.verify_real(kit.real_quote(), collateral=changed)
            accepted.append(bit)
    assert accepted == []
