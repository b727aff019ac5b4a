"""Every single bit of a real report and of a revocation list matters, and every drawn one of certificates."""

from __future__ import annotations

import dataclasses
import functools
import random

import pytest

from attestation.amd.abi import LAYOUTS, SIZE, parse_report
from attestation.amd.collateral import SnpCollateral
from attestation.amd.verify import ValidatedEndorsement, prepare, verify_report
from attestation.errors import EvidenceError
from attestation.roots import Roots
from tests import flips
from tests.amd import kit
from tests.amd.test_vectors import VALID, at
from tests.flips import flip

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
    unnoticed = [bit for bit in range(part, 8 * SIZE, SLICES) if passes(flip(data, bit), REAL)]
    assert flips.fields_at(LAYOUTS[5], unnoticed) == UNSIGNED


@pytest.mark.parametrize("name", sorted(set(VALID) - {REAL}))
def test_drawn_bits_of_the_other_real_reports_are_refused(name: str) -> None:
    data = VALID[name].data()
    drawn = random.Random(name).sample(range(8 * SIZE), 80)
    assert [bit for bit in drawn if passes(flip(data, bit), name)] == []


def collateral_case(held: SnpCollateral, roots: Roots, now: int, *fields: str) -> flips.Case:
    """Fields of collateral; what refuses one flipped is its preparation, before any report is looked at."""
    parts = {field: getattr(held, field) for field in fields}
    return flips.Case(parts, lambda field, data: prepare(dataclasses.replace(held, **{field: data}), roots, now))


def real_collateral(name: str = REAL) -> flips.Case:
    """The certificates of a captured report; no revocation list was captured."""
    vector = VALID[name]
    return collateral_case(vector.collateral(), Roots.vendor(), at(vector), "vek", "chain")


@pytest.mark.parametrize("share", range(flips.SHARES))
def test_drawn_bits_of_real_collateral_are_refused(share: int) -> None:
    assert flips.unnoticed_draws(real_collateral(), "snp", share) == []


DRAWN = 400
"""Bits of each part of the collateral of the products that are not flipped through."""


@pytest.mark.parametrize("field", ["vek", "chain"])
@pytest.mark.parametrize("name", ["SNP-1", "SNP-9"])
def test_drawn_bits_of_other_real_collateral_are_refused(name: str, field: str) -> None:
    case = real_collateral(name)
    drawn = random.Random(name + field).sample(range(8 * len(case.parts[field])), DRAWN)
    assert case.unnoticed((field, bit) for bit in drawn) == []


def test_every_flipped_bit_of_a_revocation_list_is_refused() -> None:
    """A simulated one, since none was captured."""
    simulated = kit.snp(revoked=())
    case = collateral_case(kit.collateral(simulated), kit.roots(simulated), kit.NOW, "crl")
    assert case.accepts("crl", case.parts["crl"])
    assert case.unnoticed(case.everywhere()) == []


def test_a_flip_that_does_not_matter_would_be_found() -> None:
    """Collateral without a list is collateral with one more way to be: only the policy tells."""
    held = kit.collateral(kit.snp())
    assert prepare(dataclasses.replace(held, crl=b""), kit.roots(kit.snp()), kit.NOW).crl is None
    assert passes(VALID[REAL].data(), REAL)
