"""The guard of a loaded model: ladder, schedule, identities, pool, and what it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from enclave.abuse import Guard
from enclave.coarsening import Coarsening, rounded_outputs
from enclave.errors import EnclaveCode, EnclaveError
from enclave.identities import MAX_LOOKED_AT
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.abuse.profile import Squeeze
from manifests.abuse.served import Served
from manifests.abuse.state import CADENCE, Lens
from manifests.model import ModelManifest
from manifests.steps import Round, Softmax, TopK
from manifests.tensors import Axis, TensorField
from tests.abuse import kit

MALLORY, ALICE = b"m" * 32, b"a" * 32
ALL = tuple(Rung(action, detectors=1, after=at - 1) for at, action in enumerate(Action) if at)
"""One rung after the other, a schedule's period each, on the word of a single detector."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asker:
    """Asks a guard as the enclave does, and remembers what came of it."""

    def __init__(self, labels: tuple[str, ...] = (), **policy: Any) -> None:
        self.clock = Clock()
        self.guard = Guard(AbusePolicy(**policy), Lens(kit.profile(), kit.KEY), labels, self.clock)

    def ask(self, principal: bytes, rows: np.ndarray) -> str:
        """One request; what was given: "serve", "fewer_digits", "label_only", or the refusal's code."""
        outputs = {"y": kit.run(rows)}
        try:
            seen = self.guard.observe(principal, {"x": rows})
            given = self.guard.settle(seen, outputs, dict(outputs)).outputs
        except EnclaveError as error:
            return str(error.code)
        if "label" in given:
            assert (given["label"] == outputs["y"].argmax(axis=1)).all()
            return "label_only"
        if (given["y"] == outputs["y"]).all():
            return "serve"
        assert np.abs(given["y"] - outputs["y"]).max() <= 0.005 + 1e-6
        return "fewer_digits"

    def each(self, principal: bytes, rows: np.ndarray) -> list[str]:
        return [self.ask(principal, row[None]) for row in rows]


def turns(answers: list[str]) -> list[tuple[int, str]]:
    """Where the answers change, and to what."""
    return [(at, now) for at, now in enumerate(answers) if at == 0 or answers[at - 1] != now]


def test_every_rung_is_climbed_and_only_on_the_schedule() -> None:
    asker = Asker(ladder=ALL)
    answers = asker.each(MALLORY, kit.strange(1, 300))
    changes = turns(answers)
    assert [word for _, word in changes] == [
        "serve",
        "fewer_digits",
        "label_only",
        "abuse-slowed",
        "abuse-refused",
        "abuse-revoked",
    ]
    assert all(at % CADENCE in {0, CADENCE - 1, 1} for at, _ in changes)


def test_benign_clients_are_served_whatever_another_one_does() -> None:
    asker = Asker(ladder=ALL, pool=Action.REFUSE)
    assert asker.each(MALLORY, kit.strange(1, 300))[-1] == "abuse-revoked"
    for seed, principal in enumerate((ALICE, b"b" * 32, b"")):
        assert set(asker.each(principal, kit.benign("iid", seed, 150))) == {"serve"}


def test_one_detector_alone_refuses_nothing_by_default() -> None:
    asker = Asker()
    answers = asker.each(MALLORY, kit.probing(4, 120))
    assert "label_only" in answers
    assert not [word for word in answers if word.startswith("abuse")]
    assert asker.guard.counts()["abuse_refuse"] == 0


def test_a_large_batch_does_not_outrun_the_ladder() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),))
    assert asker.ask(MALLORY, kit.strange(1, 256)) == "abuse-refused"


def test_slowing_down_refuses_with_the_time_to_wait_and_answers_after_it() -> None:
    asker = Asker(ladder=(Rung(Action.SLOW),), pause_ms=5000)
    asker.each(MALLORY, kit.strange(1, CADENCE))
    assert asker.ask(MALLORY, kit.strange(2, 1)) == "label_only"
    with pytest.raises(EnclaveError) as error:
        asker.guard.observe(MALLORY, {"x": kit.strange(3, 1)})
    assert error.value.code is EnclaveCode.ABUSE_SLOWED
    assert error.value.retry_after == 5.0
    asker.clock.now += 5.1
    assert asker.ask(MALLORY, kit.strange(2, 1)) == "label_only"


def test_who_is_quiet_for_long_enough_is_served_again_and_who_is_revoked_never() -> None:
    for last, word in ((Action.REFUSE, "serve"), (Action.REVOKE, "abuse-revoked")):
        asker = Asker(ladder=(Rung(last),), hold=3)
        asker.each(MALLORY, kit.strange(1, CADENCE))
        answers = asker.each(MALLORY, kit.benign("iid", 1, 5 * CADENCE))
        assert answers[0].startswith("abuse")
        assert answers[-1] == word


def test_without_a_hold_nobody_is_served_again() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),), hold=0)
    asker.each(MALLORY, kit.strange(1, CADENCE))
    assert set(asker.each(MALLORY, kit.benign("iid", 1, 40 * CADENCE))) == {"abuse-refused"}


def test_refused_queries_are_not_looked_at() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),))
    asker.each(MALLORY, kit.strange(1, CADENCE))
    before = asker.guard._known[MALLORY].watch.unique
    asker.each(MALLORY, kit.strange(2, 50))
    assert asker.guard._known[MALLORY].watch.unique == before


def test_many_identities_share_a_fate() -> None:
    """Each of forty keys asks three strange queries, too few for an alarm of its own."""
    asker = Asker(ladder=ALL, pool=Action.LABEL_ONLY)
    for number in range(60):
        asker.each(number.to_bytes(32, "big"), kit.strange(number, 3))
    assert asker.ask(b"z" * 32, kit.benign("iid", 1, 1)) in {"fewer_digits", "label_only"}


def test_the_pool_goes_no_further_than_the_policy_says() -> None:
    asker = Asker(ladder=ALL, pool=Action.FEWER_DIGITS)
    for number in range(400):
        asker.each(number.to_bytes(32, "big"), kit.strange(number, 2))
    assert asker.ask(b"z" * 32, kit.benign("iid", 1, 1)) == "fewer_digits"


def test_nobody_gets_rid_of_a_state_by_having_it_pushed_out() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),), identities=4)
    asker.each(MALLORY, kit.strange(1, 2))
    assert not asker.guard._known[MALLORY].latched
    suspicion = asker.guard._known[MALLORY].watch.values.max()
    for number in range(8):
        asker.each(number.to_bytes(32, "big"), kit.benign("iid", number, 2))
    assert MALLORY not in asker.guard._known
    assert asker.guard._rest.watch.values.max() >= 0.8 * suspicion
    asker.each(MALLORY, kit.strange(2, CADENCE))
    assert MALLORY not in asker.guard._known
    assert asker.ask(MALLORY, kit.strange(3, 1)) == "abuse-refused"


def test_an_identity_under_suspicion_and_the_anonymous_one_are_never_pushed_out() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),), identities=3)
    asker.each(MALLORY, kit.strange(1, CADENCE))
    asker.ask(b"", kit.benign("iid", 1, 1))
    for number in range(20):
        asker.ask(number.to_bytes(32, "big"), kit.benign("iid", number, 1))
    assert {MALLORY, b""} <= set(asker.guard._known)
    assert len(asker.guard._known) == 3
    assert asker.ask(MALLORY, kit.strange(3, 1)) == "abuse-refused"


def test_making_room_looks_at_a_bounded_number_of_identities_and_comes_to_all_of_them() -> None:
    asker = Asker(ladder=(Rung(Action.REFUSE),), identities=MAX_LOOKED_AT + 2)
    alarmed = [number.to_bytes(32, "big") for number in range(MAX_LOOKED_AT + 1)]
    for principal in alarmed:
        asker.ask(principal, kit.strange(1, CADENCE))
        assert asker.guard._known[principal].latched
    asker.ask(ALICE, kit.benign("iid", 1, 1))
    asker.ask(b"first" * 6 + b"##", kit.benign("iid", 2, 1))
    assert ALICE in asker.guard._known  # the quietest were under suspicion, and are put back
    second = b"second" * 5 + b"##"
    asker.ask(second, kit.benign("iid", 3, 1))
    assert second in asker.guard._known
    assert {*alarmed} <= set(asker.guard._known)


def test_a_budget_of_unique_queries_and_of_coverage_counts_as_a_detector() -> None:
    for policy in ({"unique": 40}, {"coverage": 50}):
        asker = Asker(ladder=(Rung(Action.LABEL_ONLY),), **policy)
        answers = asker.each(ALICE, kit.benign("iid", 1, 150))
        assert turns(answers)[-1][1] == "label_only"
        assert "serve" in answers


def test_labels_are_given_as_text_where_the_model_has_names() -> None:
    asker = Asker(labels=("red", "green", "blue"), ladder=(Rung(Action.LABEL_ONLY),))
    rows = kit.strange(1, CADENCE + 1)
    outputs = {"y": kit.run(rows)}
    seen = asker.guard.observe(MALLORY, {"x": rows})
    given = asker.guard.settle(seen, outputs, outputs).outputs
    assert given["label"].tolist() == [("red", "green", "blue")[at] for at in outputs["y"].argmax(axis=1)]


def test_squeezed_inputs_are_run_where_the_profile_has_levels() -> None:
    low = kit.pool().low.astype(np.float32)
    span = (kit.pool().high - kit.pool().low).astype(np.float32)
    profile = replace(kit.profile(), squeeze=Squeeze(7, low, span))
    guard = Guard(AbusePolicy(), Lens(profile, kit.KEY), ())
    rows = kit.benign("iid", 1, 5)
    seen = guard.observe(ALICE, {"x": rows})
    assert seen.squeezed is not None
    assert seen.squeezed["x"].dtype == np.float32
    assert np.abs(seen.squeezed["x"] - rows).max() <= (span / 14).max() * 1.01
    outputs = {"y": kit.run(rows)}
    assert guard.settle(seen, outputs, outputs, {"y": kit.run(seen.squeezed["x"])}).outputs == outputs


def test_the_score_is_coarse_and_grows_towards_an_alarm() -> None:
    asker = Asker(ladder=(Rung(Action.LOG),))
    assert asker.guard.score() == 0
    scores = []
    for row in kit.strange(1, 100):
        asker.ask(MALLORY, row[None])
        scores.append(asker.guard.score())
    assert scores[0] < 4 <= scores[-1] <= 8
    calm = Asker(ladder=(Rung(Action.LOG),))
    calm.each(ALICE, kit.benign("iid", 1, 30))
    assert calm.guard.score() < 4


def test_counts_are_coarse_and_name_nobody() -> None:
    asker = Asker(ladder=ALL)
    asker.each(MALLORY, kit.strange(1, 300))
    for number in range(10):
        asker.ask(number.to_bytes(32, "big"), kit.benign("iid", number, 1))
    counts = asker.guard.counts()
    assert counts["abuse_identities"] == 8
    assert counts["abuse_revoke"] == 1
    assert counts["abuse_refuse"] == 0
    assert all(count == 0 or count.bit_count() == 1 for count in counts.values())


def manifest(**changes: Any) -> ModelManifest:
    n = Axis("n", 1, 8)
    table = {
        "inputs": (TensorField("x", "float32", (n, kit.FEATURES)),),
        "outputs": (TensorField("y", "float32", (n, kit.CLASSES)),),
        "abuse": AbusePolicy(),
        **changes,
    }
    return ModelManifest(name="small", version="1", epoch=1, **{"owner": bytes(range(32)), **table})


def load(described: ModelManifest, parts: dict[str, bytes]) -> Guard | None:
    return Guard.load(described, parts, memoryview(bytes(32)), bytes(64))


def test_a_model_without_the_table_has_no_guard() -> None:
    assert load(manifest(abuse=None), {}) is None


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {}),
        ({}, {"profile": b"no profile"}),
        ({"outputs": (TensorField("y", "float32", (Axis("n", 1, 8), 7)),)}, None),
        ({"inputs": (TensorField("x", "float32", (Axis("n", 1, 8), 7)),)}, None),
        ({"inputs": (TensorField("z", "float32", (Axis("n", 1, 8), kit.FEATURES)),)}, None),
    ],
    ids=["no profile", "a damaged one", "other classes", "other features", "another input"],
)
def test_a_guard_without_its_own_profile_is_no_guard(changes: dict[str, Any], parts: dict[str, bytes] | None) -> None:
    given = {"profile": kit.profile().encode()} if parts is None else parts
    with pytest.raises(EnclaveError) as error:
        load(manifest(**changes), given)
    assert error.value.code is EnclaveCode.MODEL_UNUSABLE


def test_the_bound_of_memory_is_told_in_bytes() -> None:
    guard = load(manifest(abuse=AbusePolicy(identities=10)), {"profile": kit.profile().encode()})
    assert guard is not None
    assert 10 * 30_000 < guard.most_bytes < 20 * 40_000


@pytest.mark.parametrize(
    ("action", "outputs", "rounded", "level"),
    [
        (Action.LOG, {"y": np.float32([[0.125]])}, frozenset(), Coarsening.NONE),
        (Action.FEWER_DIGITS, {"y": np.float32([[0.125]])}, frozenset(), Coarsening.ROUNDED),
        (Action.FEWER_DIGITS, {"y": np.float32([[1.0]])}, frozenset(), Coarsening.ROUNDED),
        (Action.FEWER_DIGITS, {"y": np.float32([[0.12]])}, frozenset({"y"}), Coarsening.NONE),
        (Action.FEWER_DIGITS, {"y": np.array([[1]])}, frozenset(), Coarsening.NONE),
        (Action.LABEL_ONLY, {"y": np.float32([[0.125]])}, frozenset(), Coarsening.LABEL_ONLY),
        (Action.SLOW, {"y": np.float32([[0.125]])}, frozenset(), Coarsening.LABEL_ONLY),
        (Action.LABEL_ONLY, {"label": np.array([1])}, frozenset(), Coarsening.NONE),
    ],
    ids=[
        "a line in the log shows in nothing",
        "rounding shows in floats",
        "rounding is stated whatever the numbers",
        "the manifest has rounded as far",
        "whole numbers have no digits",
        "a label in the place of scores",
        "slow answers are labels, and how slow is not stated",
        "the manifest gives a label alone",
    ],
)
def test_a_coarsening_is_stated_where_it_has_a_form_of_its_own(
    action: Action, outputs: dict[str, np.ndarray], rounded: frozenset[str], level: Coarsening
) -> None:
    served = Served(next(iter(outputs)), scores="label" not in outputs and outputs["y"].dtype.kind == "f")
    guard = Guard(AbusePolicy(), Lens(kit.profile(), kit.KEY), (), rounded=rounded, served=served)
    assert guard._admitted(action, outputs).coarsening is level


def test_what_a_manifest_rounds_itself_is_known_by_its_steps() -> None:
    fine, coarse = Round("y", 2), Round("y", 3)
    assert rounded_outputs((fine,), 2) == {"y"}
    assert rounded_outputs((coarse,), 2) == set()
    assert rounded_outputs((fine, TopK("y", 1)), 2) == {"y", "y_values"}
    assert rounded_outputs((fine, Softmax("y", -1)), 2) == set()
