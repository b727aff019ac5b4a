"""The measurement of the detectors: who answers an attack, what a table says, and that a page is made of counts."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.detectors.answering import Answer, BlockedError, Governed, Unwatched, Watched
from evaluation.detectors.campaign import Campaign, Tally
from evaluation.detectors.evasions import attack_target
from evaluation.detectors.results import page
from evaluation.detectors.thefts import natural
from evaluation.detectors.victims import Victim, digits
from manifests.abuse.policy import AbusePolicy, Action, Rung
from tests.abuse import kit

POOL = kit.pool()
VICTIM = Victim("small", kit.subject(), kit.world()[:1200], POOL, POOL, 1.0)
STRICT = AbusePolicy(ladder=(Rung(Action.LABEL_ONLY), Rung(Action.REFUSE, after=1)))


def asked(answer: Answer, rows: np.ndarray) -> list[np.ndarray]:
    """Ask until blocked."""
    found: list[np.ndarray] = []
    try:
        for row in rows:
            found.append(answer(row))
    except BlockedError:
        return found
    return found


def test_nobody_who_watches_answers_all() -> None:
    rows = kit.strange(1, 50)
    assert np.allclose(asked(Unwatched(VICTIM), rows), kit.run(rows), atol=1e-6)
    assert {float(one.sum()) for one in asked(Unwatched(VICTIM, labels=True), rows)} == {1.0}


def test_the_detectors_alone_block_at_the_first_alarm() -> None:
    watched = Watched(VICTIM, kit.profile(), kit.KEY)
    answers = asked(watched, kit.strange(1, 50))
    assert watched.first == watched.total == len(answers) + 1 == kit.watched(kit.strange(1, 50))[0]


def test_the_guard_blocks_on_its_schedule_and_gives_labels_before() -> None:
    governed = Governed(VICTIM, kit.profile(), kit.KEY, STRICT)
    answers = asked(governed, kit.strange(1, 100))
    assert (governed.coarser, governed.refused) == (32, 64)
    assert len(answers) == 63
    assert {float(one.max()) for one in answers[31:]} == {1.0}


def test_who_is_slowed_waits_and_is_answered() -> None:
    policy = AbusePolicy(ladder=(Rung(Action.SLOW),), pause_ms=500)
    governed = Governed(VICTIM, kit.profile(), kit.KEY, policy)
    assert len(asked(governed, kit.strange(1, 60))) == 60
    assert governed.waited >= 5


def test_honest_clients_are_answered_in_full() -> None:
    governed = Governed(VICTIM, kit.profile(), kit.KEY, STRICT)
    rows = kit.benign("mixed", 1, 200)
    assert np.allclose(asked(governed, rows), kit.run(rows), atol=1e-6)
    assert (governed.coarser, governed.refused) == (None, None)


def test_an_attack_ends_with_its_budget_and_says_how_near_it_came() -> None:
    oracle = attack_target("HopSkipJump", VICTIM, Unwatched(VICTIM), POOL.rows[0], budget=120, seed=1)
    assert oracle.queries == 120
    assert 0 < oracle.best["Linf"] <= oracle.best["L2"] < np.inf


def test_natural_rows_beyond_the_pool_are_no_exact_repetitions() -> None:
    rows = natural(np.random.default_rng(1), VICTIM, len(POOL.rows) + 200)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_quick_network_is_scikit_learns() -> None:
    victim = digits(100)
    flat = victim.test.rows
    labels = victim.labels(flat)
    assert 0.9 < victim.accuracy <= 1
    assert np.allclose(victim.scores(flat).sum(axis=1), 1, atol=1e-5)
    assert len(victim.layers) == 4
    assert (labels == victim.test.labels).all()


@pytest.mark.parametrize("length", [300, 1500])
def test_a_tally_counts_sessions(length: int) -> None:
    tally = Tally(length=length)
    tally.add(4, None, 0b10000)
    tally.add(None, None, 0)
    assert (tally.detected, tally.detectors["shape"], tally.first) == (1, 1, [4, None])


def test_a_page_says_which_seeds_were_tuned_on_and_gives_counts_with_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = Campaign.__new__(Campaign)
    campaign.victim, campaign.profile = VICTIM, kit.profile()
    campaign._random = np.random.default_rng(1)
    monkeypatch.setattr("evaluation.detectors.campaign.LENGTH", 60)
    run = {
        "victim": "small",
        "seed": 5,
        "accuracy": 1.0,
        "calibration": 12,
        "benign": {"iid": vars(campaign.only("iid", 2))},
        "thefts": {name: vars(tally) for name, tally in campaign.thefts(2, ["uniform noise"]).items()},
        "long": {
            part: {name: vars(tally) for name, tally in found.items()} for part, found in campaign.long(1, 90).items()
        },
    }
    left = {"victim": "small", "seed": 5, "left_out": {"iid": vars(campaign.only("iid", 2))}}
    session = {"total": 96, "coarser": 32, "refused": 96, "succeeded": True}
    service = {"benign": {"honest": []}, "thefts": {"uniform noise": [session]}, "evasions": {"HopSkipJump": [session]}}
    peer = {"HopSkipJump": {"own": {"open": 2, "guarded": 0, "first": [16, 17]}}}
    text = page(
        [run, left, {"victim": "small", "seed": 5, "peer": peer}, {"victim": "small", "seed": 5, "service": service}]
    )
    assert "tuned on seeds 100 to 110" in text
    assert "| uniform noise | 2/2 | 15.81 to 100.00 % |" in text
    assert "| iid | 0/2 | 0.00 to 84.19 % | 0/2 |" in text
    assert "| HopSkipJump | 1/1 | 2.50 to 100.00 % | 32 | 1/1 | 96 | 1/1 |" in text
    assert "| HopSkipJump | own | 2/2 | 0/2 | 2/2 | 17 |" in text
