"""One pass over a request finds what the scores' definitions say, for rows that are usual and for rows that are not."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.abuse.profile import CELLS, KNOTS, SCORES
from manifests.abuse.scores import Scorer, answers, hidden_units
from manifests.abuse.view import squares
from tests.abuse import kit

PROFILE = kit.profile()
ROWS = {"usual": kit.benign("iid", 1, 200), "strange": kit.strange(1, 200), "far": 1e4 * kit.strange(2, 200)}


@pytest.mark.parametrize("kind", ROWS)
def test_one_pass_finds_what_the_definitions_say(kind: str) -> None:
    rows, profile = ROWS[kind], PROFILE
    outputs = kit.run(rows)
    view = profile.view.whitened(profile.view.standardise(rows))
    core = profile.view.core + 1
    distances = squares(view[:, :core], profile.centers[:, :core])
    labels = answers(profile, outputs)
    two = np.sort(outputs.astype(np.float64), axis=1)[:, -2:]
    strange = hidden_units(profile.hidden, profile.bias, view) @ profile.heads[:-1] + profile.heads[-1]
    found = Scorer(profile).raw(rows, outputs)
    assert np.allclose(found[:, 0], distances.min(axis=1), rtol=1e-3, atol=1e-3)
    assert np.allclose(found[:, 1], distances[np.arange(len(rows)), labels], rtol=1e-3, atol=1e-3)
    assert np.allclose(found[:, 2], -np.log(np.maximum(two[:, 1] - two[:, 0], 1e-7)), rtol=1e-4, atol=1e-5)
    assert not found[:, 3].any()
    assert np.allclose(found[:, 4:], strange, rtol=1e-3, atol=2e-3)


def test_cells_and_waves_of_usual_rows_are_those_of_the_view() -> None:
    rows, profile = ROWS["usual"], PROFILE
    view = profile.view.whitened(profile.view.standardise(rows))
    seen = Scorer(profile).look(rows, kit.run(rows))
    assert seen.places.shape == (len(rows), CELLS)
    assert (seen.places.argmax(axis=1) == squares(view, profile.cells).argmin(axis=1)).mean() > 0.99
    assert np.allclose(np.cos(seen.angles), np.cos(view @ profile.waves + profile.phases), atol=1e-3)


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_is_scored_alone_as_in_a_batch(kind: str) -> None:
    rows = ROWS[kind]
    outputs, scorer = kit.run(rows), Scorer(PROFILE)
    alone = np.concatenate([scorer.raw(rows[at : at + 1], outputs[at : at + 1]) for at in range(50)])
    assert np.allclose(alone, scorer.raw(rows, outputs)[:50], rtol=1e-3, atol=1e-3)


def test_tails_are_those_of_the_last_knot_that_is_not_above_the_score() -> None:
    scorer = Scorer(PROFILE)
    knots = np.stack([PROFILE.tails[name][0] for name in SCORES], axis=1)
    heights = np.stack([PROFILE.tails[name][1] for name in SCORES], axis=1)
    found = scorer.streams(knots.tolist())
    last = np.array([np.searchsorted(knots[:, 0], knot, side="right") - 1 for knot in knots[:, 0]])
    assert found.shape == (KNOTS, 6)
    assert np.allclose(found[:, 0], heights[last, 0])
    below = scorer.streams([(knots.min() - 1,) * len(SCORES)])
    assert np.allclose(below[0, [0, 1, 3, 4, 5]], heights[0, [0, 2, 4, 5, 6]])
