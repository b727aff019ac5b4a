"""One identity's state under benign traffic, theft, probing, padding, repetition and nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.abuse.policy import AbusePolicy
from manifests.abuse.profile import STATISTICS
from manifests.abuse.state import BUDGET, DETECTORS, Lens, Watch
from tests.abuse import kit


def bit(detector: str) -> int:
    return 1 << DETECTORS.index(detector)


@pytest.mark.parametrize("name", ["iid", "retries", "noise", "bursts", "mixed"])
def test_benign_behaviour_raises_no_alarm(name: str) -> None:
    assert [kit.watched(kit.benign(name, seed))[0] for seed in range(3)] == [None] * 3


def test_noise_is_noticed_within_a_dozen_queries_by_two_detectors() -> None:
    first, watch = kit.watched(kit.strange(1, 60))
    assert first is not None
    assert first <= 12
    assert watch.alarms() & bit("distance")
    assert watch.alarms() & bit("shape")


def test_probing_one_point_is_noticed_by_the_anchors() -> None:
    first, watch = kit.watched(kit.probing(1, 60))
    assert first is not None
    assert first <= 30
    assert watch.alarms() & bit("anchors")


@pytest.mark.parametrize("times", [19, 49])
def test_padding_only_costs_the_attacker(times: int) -> None:
    first, watch = kit.watched(kit.padded(kit.probing(2, 60), times, 3))
    assert first is not None
    assert watch.alarms() & bit("anchors")


def test_exact_repetitions_change_nothing() -> None:
    watch = Watch(kit.profile())
    rows = np.repeat(kit.strange(1, 1), 500, axis=0)
    first, watch = kit.watched(rows, watch)
    assert first is None
    assert watch.unique == 1


def test_the_same_key_and_queries_give_the_same_state_and_another_key_another() -> None:
    rows = np.concatenate((kit.benign("bursts", 1, 200), kit.probing(3, 40)))
    states = []
    for key in (b"one", b"one", b"two"):
        watch, looks = Watch(kit.profile()), kit.looks(rows, key)
        for row in range(len(rows)):
            watch.see(looks, row)
        states.append(watch.values.tobytes() + looks.codes.tobytes())
    assert states[0] == states[1] != states[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, np.finfo(np.float32).tiny])
def test_no_value_makes_a_state_that_is_no_number(value: float) -> None:
    rows = np.full((40, kit.FEATURES), value, np.float32)
    rows[::2] = kit.benign("iid", 1, 20)
    rows[1::4, ::3] = 0
    outputs = np.full((40, kit.CLASSES), value, np.float32)
    looks = Lens(kit.profile(), kit.KEY).look(rows, outputs, outputs)
    watch = Watch(kit.profile())
    for row in range(40):
        watch.see(looks, row)
    assert np.isfinite(watch.values).all()
    assert np.isfinite(looks.steps).all()
    assert np.isfinite(looks.waves).all()


def test_memory_per_identity_is_constant_and_below_forty_kibibytes() -> None:
    watch = Watch(kit.profile())
    before = watch.nbytes
    kit.watched(kit.benign("mixed", 1, 1200), watch)
    assert watch.nbytes == before <= 40 * 1024


def test_coverage_and_unique_queries_are_counted() -> None:
    _, watch = kit.watched(kit.benign("retries", 1, 300))
    assert 150 <= watch.unique < 300
    assert 0.1 < watch.coverage <= 1
    assert max(1 << at for at in range(len(DETECTORS))) < BUDGET


def test_who_is_absorbed_leaves_its_suspicions() -> None:
    _, first = kit.watched(kit.strange(1, 20))
    rest = Watch(kit.profile())
    rest.absorb(first)
    assert rest.alarms() & bit("distance")
    assert rest.unique == 20
    assert rest.coverage == first.coverage


def test_calm_forgets_sums_and_halves_counts() -> None:
    _, watch = kit.watched(np.concatenate((kit.strange(1, 30), kit.probing(1, 41))))
    counts = watch.values[:3].copy()
    watch.calm()
    assert (watch.values[:3] == counts // 2).all()
    assert not watch.values[5:].any()


def test_every_statistic_belongs_to_a_detector() -> None:
    watch = Watch(kit.profile())
    seen = 0
    for at in range(len(STATISTICS)):
        watch.values[:] = 0
        watch.values[at] = 1e12
        assert watch.alarms().bit_count() == 1, STATISTICS[at]
        seen |= watch.alarms()
    assert seen == (1 << len(DETECTORS)) - 1
    assert AbusePolicy().ladder
