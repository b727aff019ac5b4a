"""Every single bit of a real report matters, and every drawn one of its certificates and of a revocation list."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterable

import pytest

from attestation.amd.abi import SIZE, parse_report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.verify import ValidatedEndorsement, prepare, verify_report
from attestation.errors import EvidenceError
from attestation.roots import Roots
from tests.amd import kit
from tests.amd.test_vectors import VALID, at

SLICES = 12
"""Parts of the work, so that processes can share it."""
REAL = "SNP-6"
"""Version 5 of Turin: the format with the most fields."""

UNSIGNED: frozenset[str] = frozenset()
"""Fields of a report that nothing covers: there are none, because reserved bytes must be zero."""


@functools.lru_cache(maxsize=2)
def endorsement(name: str) -> ValidatedEndorsement:
    vector = VALID[name]
    return prepare(vector.collateral(), Roots.vendor(), at(vector))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def passes(data: bytes, name: str) -> bool:
    try:
        verify_report(parse_report(data), endorsement(name), Roots.vendor(), at(VALID[name]))
    except EvidenceError:
        return False
    return True


@pytest.mark.parametrize("part", range(SLICES))
def test_every_flipped_bit_of_a_real_report_is_refused(part: int) -> None:
    data = VALID[REAL].data()
    assert passes(data, REAL)
    assert [bit for bit in range(part, 8 * SIZE, SLICES) if passes(flipped(data, bit), REAL)] == []
    assert not UNSIGNED


@pytest.mark.parametrize("name", sorted(set(VALID) - {REAL}))
def test_drawn_bits_of_the_other_real_reports_are_refused(name: str) -> None:
    data = VALID[name].data()
    drawn = random.Random(name).sample(range(8 * SIZE), 80)
    assert [bit for bit in drawn if passes(flipped(data, bit), name)] == []


def accepted_flips(held: SnpCollateral, field: str, bits: Iterable[int], roots: Roots, now: int) -> list[int]:
    """The bits of one part of collateral that can be flipped unnoticed; with all of them, the exhaustive variant."""
    found = []
    for bit in bits:
        changed = dataclasses.replace(held, **{field: flipped(getattr(held, field), bit)})
        try:
            prepare(changed, roots, now)
        except EvidenceError:
            continue
        found.append(bit)
    return found


DRAWN = 400
"""Bits of each part of the collateral."""


@pytest.mark.parametrize("field", ["vek", "chain"])
@pytest.mark.parametrize("name", ["SNP-1", REAL, "SNP-9"])
def test_drawn_bits_of_real_collateral_are_refused(name: str, field: str) -> None:
    vector = VALID[name]
    held = vector.collateral()
    drawn = random.Random(name + field).sample(range(8 * len(getattr(held, field))), DRAWN)
    assert accepted_flips(held, field, drawn, Roots.vendor(), at(vector)) == []


def test_drawn_bits_of_a_revocation_list_are_refused() -> None:
    simulated = kit.snp(revoked=())
    held = kit.collateral(simulated)
    drawn = random.Random("crl").sample(range(8 * len(held.crl)), DRAWN)
    assert accepted_flips(held, "crl", drawn, kit.roots(simulated), kit.NOW) == []


def test_a_flip_that_does_not_matter_would_be_found() -> None:
    """Collateral without a list is collateral with one more way to be: only the policy tells."""
    held = kit.collateral(kit.snp())
    assert prepare(dataclasses.replace(held, crl=b""), kit.roots(kit.snp()), kit.NOW).crl is None
    assert passes(VALID[REAL].data(), REAL)
