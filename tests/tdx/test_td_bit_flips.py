"""Every single bit of a real quote of a trust domain matters: flipped, the quote is refused.

Of the collateral, which is larger and slower to verify, bits are drawn by a fixed seed; `flips_of_collateral` takes
any bits, for a run over all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterable

import pytest

from attestation import evidence
from attestation.errors import EvidenceError
from attestation.evidence import Roots, ValidatedCollateral
from attestation.intel.abi import strip_padding
from attestation.intel.collateral import IntelCollateral
from manifests.errors import ErrorCode
from tests.tdx import kit

SLICES = 12
"""Parts of the work, so that processes can share it."""

UNSIGNED: tuple[str, ...] = ()
"""Fields of a quote that nothing covers: there are none."""


@functools.lru_cache(maxsize=1)
def captured() -> tuple[bytes, ValidatedCollateral]:
    quote, padding = strip_padding(kit.real("tdx/v4-dcapqvl.quote.bin"))
    assert padding == 70
    collateral = kit.real_collateral("tdx/collateral/dcapqvl-b0c06f.json")
    return quote, evidence.prepare(collateral, Roots.vendor(), kit.REAL_NOW)


@functools.lru_cache(maxsize=1)
def newest() -> tuple[bytes, ValidatedCollateral]:
    """A simulated quote of version 5: the report's second half and the body's descriptor."""
    return kit.sim_quote(5), evidence.prepare(kit.platform().collateral(kit.NOW), kit.sim_roots(), kit.NOW)


def refusal(data: bytes, collateral: ValidatedCollateral, now: int) -> ErrorCode | None:
    try:
        evidence.verify(evidence.parse(data), collateral, collateral.roots, now)
    except EvidenceError as error:
        return error.code
    return None


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("part", range(SLICES))
def test_every_flipped_bit_of_a_real_quote_is_refused(part: int) -> None:
    quote, collateral = captured()
    assert refusal(quote, collateral, kit.REAL_NOW) is None
    bits = range(part, 8 * len(quote), SLICES)
    assert [bit for bit in bits if refusal(flipped(quote, bit), collateral, kit.REAL_NOW) is None] == list(UNSIGNED)


def test_every_flipped_bit_of_what_only_version_5_has_is_refused() -> None:
    """The body's descriptor, and TEE_TCB_SVN2 and MRSERVICETD behind the fields of a report 1.0."""
    quote, collateral = newest()
    assert refusal(quote, collateral, kit.NOW) is None
    descriptor, behind = 48, 48 + 6 + 584
    bits = [*range(8 * descriptor, 8 * (descriptor + 6)), *range(8 * behind, 8 * (behind + 64))]
    assert [bit for bit in bits if refusal(flipped(quote, bit), collateral, kit.NOW) is None] == []


DRAWN = 40
"""Bits of each part of the collateral."""


def flips_of_collateral(name: str, bits: Iterable[int]) -> list[int]:
    """The bits of one part of the collateral that can be flipped without a refusal."""
    quote, _ = captured()
    collateral = kit.real_collateral("tdx/collateral/dcapqvl-b0c06f.json")
    accepted = []
    for bit in bits:
        changed = dataclasses.replace(collateral, **{name: flipped(getattr(collateral, name), bit)})
        try:
            evidence.verify(evidence.parse(quote), changed, Roots.vendor(), kit.REAL_NOW)
        except EvidenceError:
            continue
        accepted.append(bit)
    return accepted


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(IntelCollateral)])
def test_flipped_bits_of_collateral_are_refused(name: str) -> None:
    """Line feeds and NUL at the end of a chain are the only bytes of collateral that nothing covers."""
    size = len(getattr(kit.real_collateral("tdx/collateral/dcapqvl-b0c06f.json"), name))
    assert flips_of_collateral(name, random.Random(name).sample(range(8 * size), DRAWN)) == []
