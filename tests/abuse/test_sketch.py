"""D1: codes that tell distance, and a counter that padding does not flush and repetition does not feed."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.abuse.sketch import ANCHORS, BITS, HALVING, RING, AnchorCounter, Sketcher, differing, signs

RANDOM = np.random.default_rng(5)
NEAR, FAR = 20, 128


def code(bits: int = 0, seed: int = 0) -> np.ndarray:
    """A code that differs from that of the same seed with 0 bits in `bits` places."""
    plain = np.random.default_rng(seed).integers(0, 2, BITS).astype(np.uint8)
    plain[:bits] ^= 1
    return np.packbits(plain).view(np.uint64)


def feed(counter: AnchorCounter, codes: list[np.ndarray], labels: list[int] | None = None, start: int = 0) -> None:
    for at, one in enumerate(codes):
        counter.see(one, 2 * (start + at) + 1, labels[at] if labels else 0)


def counter() -> AnchorCounter:
    return AnchorCounter((NEAR // 2, NEAR, 2 * NEAR))


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0, 4.0, 8.0])
def test_bits_differ_as_often_as_the_distance_says(distance: float) -> None:
    rows = RANDOM.normal(size=(2000, 64)).astype(np.float32)
    step = RANDOM.normal(size=rows.shape)
    step *= distance / np.linalg.norm(step, axis=1, keepdims=True)
    sketcher = Sketcher(b"key", 64, 4.0)
    apart = np.bitwise_count(sketcher.codes(rows) ^ sketcher.codes((rows + step).astype(np.float32))).sum(axis=1)
    assert apart.mean() == pytest.approx(differing(distance, 4.0), rel=0.03)


def test_codes_follow_from_the_key_and_from_nothing_else() -> None:
    rows = RANDOM.normal(size=(20, 7)).astype(np.float32)
    first, again, other = (Sketcher(key, 7, 2.0) for key in (b"a", b"a", b"b"))
    assert (first.codes(rows) == again.codes(rows)).all()
    assert (first.codes(rows) != other.codes(rows)).any(axis=1).all()
    assert first.fingerprint(b"row") == again.fingerprint(b"row") != other.fingerprint(b"row")
    assert set(np.unique(signs(b"k", b"l", 9, 5))) == {-1.0, 1.0}


def test_codes_do_not_depend_on_the_batch_that_a_row_comes_in() -> None:
    rows = RANDOM.normal(size=(50, 64)).astype(np.float32)
    sketcher = Sketcher(b"key", 64, 4.0)
    alone = np.concatenate([sketcher.codes(row[None]) for row in rows])
    assert np.bitwise_count(alone ^ sketcher.codes(rows)).sum() <= 1  # a last bit of a sum may fall on a border


def test_probing_around_a_point_counts_at_every_scale() -> None:
    mine = counter()
    feed(mine, [code(at % 3) for at in range(30)])
    assert mine.tops[:3].tolist() == [29, 29, 29]


def test_a_scale_counts_only_what_is_near_enough() -> None:
    mine = counter()
    feed(mine, [code(0), code(15), code(0), code(15)])
    assert mine.tops[:3].tolist() == [1, 3, 3]


def test_strangers_count_for_nothing() -> None:
    mine = counter()
    feed(mine, [code(seed=seed) for seed in range(1000)])
    assert mine.tops.tolist() == [0, 0, 0, 0, 0]


def test_answers_that_differ_around_an_anchor_are_straddles() -> None:
    mine = counter()
    feed(mine, [code(at % 2) for at in range(21)], [at % 2 for at in range(21)])
    assert mine.tops[3] == 10


def test_exact_repetitions_are_known_and_not_counted() -> None:
    mine = counter()
    assert mine.see(code(), 7, 0)
    assert not any(mine.see(code(), 7, 0) for _ in range(1000))
    assert mine.tops.tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("times", [19, 49])
def test_padding_does_not_flush_an_anchor(times: int) -> None:
    mine = counter()
    for attack in range(12):
        feed(mine, [code(attack % 3)], start=10_000 * attack)
        feed(mine, [code(seed=1 + attack * times + at) for at in range(times)], start=10_000 * attack + 1)
    assert mine.tops[1] == (11 if 12 * (times + 1) < HALVING else 5)


def test_beyond_the_ring_two_queries_do_not_meet() -> None:
    mine = counter()
    feed(mine, [code()])
    feed(mine, [code(seed=seed) for seed in range(1, RING + 1)], start=10)
    feed(mine, [code(1)], start=10_000)
    assert mine.tops[1] == 0


def test_flooding_the_anchors_shows_as_churn() -> None:
    """Cheap pairs push out the attacker's own anchors that count little: each that goes is counted."""
    mine = counter()
    for pair in range(ANCHORS + 40):
        feed(mine, [code(0, seed=pair), code(1, seed=pair)], start=10 * pair)
    assert mine.tops[4] == 40
    assert mine.tops[1] == 1


def test_flooding_does_not_push_out_the_anchor_that_counts_most() -> None:
    mine = counter()
    feed(mine, [code(at % 3, seed=9999) for at in range(9)], start=1 << 20)
    for pair in range(2 * ANCHORS):
        feed(mine, [code(0, seed=pair), code(1, seed=pair)], start=10 * pair)
    feed(mine, [code(3, seed=9999)], start=1 << 21)
    assert mine.tops[1] == 9


def test_counts_are_halved_in_time() -> None:
    mine = counter()
    feed(mine, [code(at % 3) for at in range(101)])
    assert mine.tops[1] == 100
    feed(mine, [code(seed=seed) for seed in range(1, HALVING)], start=1000)
    assert mine.tops[1] == 50


def test_the_state_never_grows() -> None:
    mine = counter()
    before = mine.nbytes
    feed(mine, [code(at % 3, seed=at // 4) for at in range(2000)])
    assert mine.nbytes == before <= 32 * 1024
