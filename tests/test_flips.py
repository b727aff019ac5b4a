"""What draws bits finds a flip that goes unnoticed, and draws enough however little time there is."""

from __future__ import annotations

import pytest

from attestation.errors import EvidenceCode, EvidenceError
from tests import flips

SIGNED, FREE = b"signed" * 20, b"free" * 20


def case(checked: set[str]) -> flips.Case:
    """Two parts, of which those named are compared with what they should be."""
    parts = {"signed": SIGNED, "free": FREE}

    def verify(name: str, data: bytes) -> None:
        if name in checked and data != parts[name]:
            raise EvidenceError(EvidenceCode.QUOTE_SIGNATURE, "other bytes")

    return flips.Case(parts, verify)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_part_that_nothing_covers_is_found(seconds: float) -> None:
    assert flips.unnoticed_draws(case({"signed", "free"}), "seed", 0, seconds) == []
    found = [flips.unnoticed_draws(case({"signed"}), "seed", share, seconds) for share in range(flips.SHARES)]
    assert {name for share in found for name, _ in share} == {"free"}
    assert len(set(found[0] + found[1])) == len(found[0]) + len(found[1]) >= 2 * flips.FLOOR // 4


def test_without_a_limit_of_time_every_bit_is_drawn_once() -> None:
    everything = case(set())
    found = [flips.unnoticed_draws(everything, "seed", share, 60.0) for share in range(flips.SHARES)]
    assert sorted(found[0] + found[1]) == sorted(everything.everywhere())
    assert everything.size == 8 * (len(SIGNED) + len(FREE))


def test_draws_follow_the_seed() -> None:
    first, again, other = (flips.unnoticed_draws(case(set()), seed, 0, 0.0) for seed in ("one", "one", "two"))
    assert len(first) == flips.FLOOR
    assert first == again != other


def test_too_little_to_draw_from_is_no_draw() -> None:
    with pytest.raises(AssertionError, match="too little"):
        flips.unnoticed_draws(flips.Case({"byte": b"x"}, lambda _name, _data: None), "seed", 0)


def test_evidence_that_does_not_verify_is_no_ground_to_flip_on() -> None:
    def refuse(_name: str, _data: bytes) -> None:
        raise EvidenceError(EvidenceCode.QUOTE_SIGNATURE, "refused anyway")

    with pytest.raises(AssertionError):
        flips.unnoticed_draws(flips.Case({"part": SIGNED}, refuse), "seed", 0)
