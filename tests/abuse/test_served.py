"""The label of a rung is told by the answer that the manifest gives, or the model is not sealed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enclave.abuse import Guard
from enclave.components import load_components
from enclave.process import compile_post, run_steps
from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.policy import AbusePolicy, Action, Rung
from manifests.abuse.sealing import check_sealed_profile
from manifests.gramine.settings import EnclaveSettings
from manifests.model import ModelManifest
from manifests.steps import ArgMax, Label, LabelOnly, Noise, PostStep, Round, Select, Sigmoid, Softmax, Threshold, TopK
from manifests.tensors import Axis, TensorField
from tests.abuse import kit
from tests.abuse.test_guard import manifest
from tests.enclave.rig import Owner, running

N = Axis("n", 1, 8)
OUTPUTS = (TensorField("y", "float32", (N, kit.CLASSES)), TensorField("best", "float32", (N, 1)))
COLOURS = ("red", "green", "blue")
RAW = np.array([[0.2, 0.7, 0.1], [0.31, 0.3, 0.39], [0.1, 0.4, 0.5]], np.float32)
LABELS = AbusePolicy(ladder=(Rung(Action.LABEL_ONLY),))

TOLD: dict[str, tuple[tuple[PostStep, ...], Callable[[dict[str, np.ndarray]], list[Any]]]] = {
    "as the graph gives them": ((), lambda given: given["y"].argmax(axis=1).tolist()),
    "made to probabilities": ((Sigmoid("y"), Softmax("y", -1)), lambda given: given["y"].argmax(axis=1).tolist()),
    "rounded until two are equal: the first": ((Round("y", 0),), lambda given: given["y"].argmax(axis=1).tolist()),
    "the best three": ((TopK("y", 3),), lambda given: given["y_indices"][:, 0].tolist()),
    "the best two by name": ((TopK("y", 2), Label("y_indices")), lambda given: given["y_indices"][:, 0].tolist()),
    "the class": ((ArgMax("y"),), lambda given: given["y"].tolist()),
    "the label": ((ArgMax("y"), Label("y")), lambda given: given["y"].tolist()),
    "the label alone": ((LabelOnly("y"),), lambda given: given["label"].tolist()),
    "selected": ((Select(("y",)),), lambda given: given["y"].argmax(axis=1).tolist()),
}
HIDDEN: dict[str, tuple[PostStep, ...]] = {
    "not selected": (Select(("best",)), Threshold("best", (0.9,))),
    "held against a threshold": (Threshold("y", (0.5,)),),
    "the values of the best three without their places": (TopK("y", 3), Select(("y_values",))),
    "the label of another output": (LabelOnly("best"),),
    "made to shares over the rows": (Softmax("y", 0),),
    "the greatest place of the best": (TopK("y", 2), ArgMax("y_indices")),
}


def described(*post: PostStep, **changes: Any) -> ModelManifest:
    return manifest(**{"outputs": OUTPUTS, "post": post, "labels": COLOURS, "abuse": LABELS, **changes})


def loaded(described: ModelManifest) -> Guard:
    guard = Guard.load(described, {"profile": kit.profile().encode()}, memoryview(bytes(32)), bytes(64))
    assert guard is not None
    return guard


def names(classes: list[Any]) -> list[str]:
    return [each if isinstance(each, str) else COLOURS[each] for each in classes]


@pytest.mark.parametrize(("post", "told"), TOLD.values(), ids=TOLD)
def test_a_label_is_what_the_served_answer_tells(
    post: tuple[PostStep, ...], told: Callable[[dict[str, np.ndarray]], list[Any]]
) -> None:
    made = described(*post)
    given = run_steps(compile_post(made), {"y": RAW, "best": RAW.max(axis=1, keepdims=True)})
    label = loaded(made)._admitted(Action.LABEL_ONLY, given).outputs
    assert {name: array.tolist() for name, array in label.items()} == {"label": names(told(given))}


def test_classes_without_names_are_told_as_they_are_served() -> None:
    guard = loaded(described(TopK("y", 2), labels=()))
    given = {"y_values": RAW[:, :2], "y_indices": np.array([[1, 0], [2, 0], [2, 1]])}
    [(name, label)] = guard._admitted(Action.SLOW, given).outputs.items()
    assert (name, str(label.dtype), label.tolist()) == ("label", "int64", [1, 2, 2])


def test_a_label_of_noisy_scores_is_the_greatest_noisy_one() -> None:
    step = Noise("y", 0.01, 1.0, 0.0, 1.0, 4.0)
    row = TensorField("y", "float32", (1, kit.CLASSES))
    made = described(step, outputs=(row,), inputs=(TensorField("x", "float32", (1, kit.FEATURES)),))
    post, guard = compile_post(made, load_components(["noise"])), loaded(made)
    other = 0
    for _ in range(200):
        given = run_steps(post, {"y": RAW[:1]})
        [label] = guard._admitted(Action.LABEL_ONLY, given).outputs["label"]
        assert label == COLOURS[int(given["y"][0].argmax())]
        other += label != COLOURS[int(RAW[0].argmax())]
    assert other > 50, "noise of a hundred times the scores leaves little of them"


@pytest.mark.parametrize("post", HIDDEN.values(), ids=HIDDEN)
def test_a_model_whose_answers_hide_the_class_is_not_sealed_with_a_rung_that_tells_it(
    post: tuple[PostStep, ...],
) -> None:
    wide = {"labels": (), "outputs": (OUTPUTS[0], TensorField("best", "float32", (N, 2)))}
    with pytest.raises(AbuseError) as refusal:
        check_sealed_profile(described(*post, **wide), {"profile": kit.profile().encode()})
    assert refusal.value.code is AbuseCode.LABEL_HIDDEN


@pytest.mark.parametrize(
    ("policy", "sealed"),
    [
        (AbusePolicy(), False),
        (AbusePolicy(ladder=(Rung(Action.SLOW),)), False),
        (AbusePolicy(ladder=(Rung(Action.LOG), Rung(Action.REFUSE))), False),
        (AbusePolicy(ladder=(Rung(Action.REFUSE),), pool=Action.SLOW), False),
        (AbusePolicy(ladder=(Rung(Action.LOG), Rung(Action.REFUSE)), pool=Action.REFUSE), True),
        (AbusePolicy(ladder=(Rung(Action.FEWER_DIGITS), Rung(Action.REFUSE)), pool=Action.FEWER_DIGITS), True),
        (AbusePolicy(ladder=(Rung(Action.FEWER_DIGITS),)), True),
    ],
    ids=[
        "the ladder that is the default",
        "slow answers are labels",
        "the default pool goes no further than labels",
        "the pool goes no further than slow labels",
        "all are refused with one",
        "all get fewer digits, one is refused",
        "no rung goes as far",
    ],
)
def test_labels_are_given_by_rungs_and_by_the_bound_of_the_pool(policy: AbusePolicy, *, sealed: bool) -> None:
    hidden = described(Threshold("y", (0.5,)), abuse=policy)
    assert policy.gives_labels is not sealed
    if sealed:
        check_sealed_profile(hidden, {"profile": kit.profile().encode()})
        return
    with pytest.raises(AbuseError, match="labels alone"):
        check_sealed_profile(hidden, {"profile": kit.profile().encode()})


def test_raising_an_alarm_tells_no_more_of_noisy_scores(tmp_path: Path) -> None:
    """Through the service: the labels that an alarm leads to are as often wrong as the scores before it."""
    noise = {"kind": "noise", "output": "y", "epsilon": 0.01, "sensitivity": 1.0, "max_epsilon": 4.0}
    table: dict[str, Any] = {
        "name": "small",
        "version": "1",
        "epoch": 1,
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, kit.FEATURES]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, kit.CLASSES]}],
        "post": [{**noise, "minimum": 0.0, "maximum": 1.0}],
        "abuse": AbusePolicy(unique=1, ladder=(Rung(Action.LABEL_ONLY),)).to_map(),
    }
    with running(EnclaveSettings("any", components=("noise",))) as rig:
        owner = Owner()
        made = ModelManifest.from_map({**table, "owner": owner.public})
        parts = {"profile": kit.profile().encode()}
        digest = owner.seal(rig.host, tmp_path, kit.onnx_bytes(), manifest=made, extra_parts=parts)
        owner.provision(rig.client(), digest, name="small", lease=1000)
        client, rows, right = rig.client(), kit.world()[1300:1500].astype(np.float32), []
        for row in rows:
            answer = client.infer(digest, x=row[None])
            if "label" in answer:
                right.append(answer["label"][0] == kit.run(row[None])[0].argmax())
    assert len(right) > 100
    assert np.mean(right) < 0.6, "a third is chance"
