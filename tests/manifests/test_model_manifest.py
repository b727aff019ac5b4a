"""Model manifests say one thing, and contradictions are found before anything is sealed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manifests import canonical
from manifests.errors import ManifestCode, ManifestError
from manifests.model import Limits, ModelManifest
from manifests.receipts import Receipts
from manifests.steps import Cast, Label, LabelOnly, Round, Scale, Select, Softmax, TopK
from manifests.tensors import Axis, TensorField, static
from tests.manifests.small import OTHER_OWNER, OWNER

COMPLETE = """
name = "everything"
version = "2.1"
epoch = 7
labels = ["benign", "malignant"]

[axes]
batch = { minimum = 1, maximum = 64 }
length = { minimum = 0, maximum = 512 }

[[inputs]]
name = "features"
dtype = "uint8"
shape = ["batch", 30]
minimum = 0
maximum = 200

[[inputs]]
name = "age"
dtype = "float32"
shape = ["batch"]
minimum = 0
maximum = 120.5
allow_nan = true
allow_infinity = true

[[inputs]]
name = "text"
dtype = "string"
shape = ["batch", "length"]
max_text = 100

[[outputs]]
name = "scores"
dtype = "float32"
shape = ["batch", 2]

[[outputs]]
name = "hidden"
dtype = "float64"
shape = []

[limits]
max_request_bytes = 1000
max_response_bytes = 2000
timeout_ms = 50

[[pre]]
kind = "cast"
input = "features"
dtype = "float32"

[[pre]]
kind = "scale"
input = "features"
mean = 2
std = [4.5]

[[post]]
kind = "select"
outputs = ["scores"]

[[post]]
kind = "softmax"
output = "scores"
axis = -1

[[post]]
kind = "round"
output = "scores"
decimals = 2

[[post]]
kind = "top_k"
output = "scores"
k = 2

[[post]]
kind = "label"
output = "scores_indices"
"""

BATCH = Axis("batch", 1, 64)


def read(text: str = COMPLETE) -> ModelManifest:
    return ModelManifest.from_toml(text, owner=OWNER.public)


def test_every_field_is_read() -> None:
    manifest = read()
    assert (manifest.name, manifest.version, manifest.epoch, manifest.owner) == ("everything", "2.1", 7, OWNER.public)
    assert manifest.inputs == (
        TensorField("features", "uint8", (BATCH, 30), 0, 200),
        TensorField("age", "float32", (BATCH,), 0.0, 120.5, allow_nan=True, allow_infinity=True),
        TensorField("text", "string", (BATCH, Axis("length", 0, 512)), max_text=100),
    )
    assert isinstance(manifest.inputs[1].minimum, float)
    assert manifest.limits == Limits(1000, 2000, 50)
    assert manifest.labels == ("benign", "malignant")
    assert manifest.pre == (Cast("features", "float32"), Scale("features", (2.0,), (4.5,)))
    assert manifest.post == (
        Select(("scores",)),
        Softmax("scores", -1),
        Round("scores", 2),
        TopK("scores", 2),
        Label("scores_indices"),
    )


def test_both_encodings_bring_the_manifest_back() -> None:
    manifest = read()
    assert ModelManifest.decode(manifest.encode()) == manifest
    assert ModelManifest.from_toml(manifest.to_toml()) == manifest
    assert ModelManifest.from_toml(manifest.to_toml(with_owner=False), owner=OWNER.public) == manifest
    assert "owner" not in manifest.to_toml(with_owner=False)
    assert 'shape = ["batch", 30]' in manifest.to_toml()


def test_receipts_are_written_only_where_the_owner_wants_them_always() -> None:
    assert read().receipts is Receipts.ON_REQUEST
    assert read('receipts = "on-request"\n' + COMPLETE) == read()
    assert b"receipts" not in read().encode()
    assert "receipts" not in read().to_toml()
    always = read('receipts = "always"\n' + COMPLETE)
    assert always.receipts is Receipts.ALWAYS
    assert ModelManifest.decode(always.encode()) == always
    assert ModelManifest.from_toml(always.to_toml()) == always
    spelt = canonical.encode({**read().to_map(), "receipts": "on-request"})
    with pytest.raises(ManifestError, match="spells out a default"):
        ModelManifest.decode(spelt)
    for wrong in ('"never"', "true", "1"):
        with pytest.raises(ManifestError) as error:
            read(f"receipts = {wrong}\n" + COMPLETE)
        assert error.value.code is ManifestCode.FIELD_INVALID


def test_the_steps_tell_what_the_graph_gets_and_what_clients_get() -> None:
    manifest = read()
    assert manifest.graph_inputs()[0] == TensorField("features", "float32", (BATCH, 30))
    assert manifest.graph_inputs()[1:] == manifest.inputs[1:]
    assert manifest.served_outputs() == (
        TensorField("scores_values", "float32", (BATCH, 2)),
        TensorField("scores_indices", "string", (BATCH, 2)),
    )


def test_label_only_leaves_one_output() -> None:
    start = COMPLETE.partition("[[post]]")[0]
    only = start + '[[post]]\nkind = "label_only"\noutput = "scores"\n'
    assert read(only).post == (LabelOnly("scores"),)
    assert read(only).served_outputs() == (TensorField("label", "string", (BATCH,)),)
    bare = only.replace('labels = ["benign", "malignant"]', "")
    assert read(bare).served_outputs() == (TensorField("label", "int64", (BATCH,)),)


def test_the_owner_comes_from_the_text_or_the_key_and_they_must_agree() -> None:
    named = f'owner = "{OWNER.public.hex()}"\n' + COMPLETE
    assert ModelManifest.from_toml(named).owner == OWNER.public
    assert ModelManifest.from_toml(named, owner=OWNER.public).owner == OWNER.public
    with pytest.raises(ManifestError) as caught:
        ModelManifest.from_toml(named, owner=OTHER_OWNER.public)
    assert caught.value.code is ManifestCode.SEALED_OWNER
    with pytest.raises(ManifestError) as caught:
        ModelManifest.from_toml(COMPLETE)
    assert caught.value.code is ManifestCode.MANIFEST_INVALID
    for owner in ('"xyz"', '"00"'):
        with pytest.raises(ManifestError) as caught:
            ModelManifest.from_toml(f"owner = {owner}\n" + COMPLETE)
        assert caught.value.code in {ManifestCode.KEY_INVALID, ManifestCode.FIELD_INVALID}


def test_defaults_are_cautious() -> None:
    text = 'name = "n"\nversion = "1"\nepoch = 0\ninputs = [{name = "t", dtype = "string", shape = []}]\n'
    manifest = read(text + 'outputs = [{name = "y", dtype = "bool", shape = [1]}]')
    assert manifest.limits == Limits()
    assert manifest.inputs[0].max_text == 4096
    assert not manifest.inputs[0].allow_nan
    assert manifest.graph_inputs() == manifest.inputs
    assert manifest.served_outputs() == manifest.outputs


CONTRADICTIONS = {
    "not TOML": (COMPLETE, "name"),
    "an unknown field": ('name = "everything"', 'name = "everything"\nnmae = "typo"'),
    "no name": ('name = "everything"', ""),
    "an empty name": ('name = "everything"', 'name = ""'),
    "an epoch below zero": ("epoch = 7", "epoch = -1"),
    "an epoch that is a float": ("epoch = 7", "epoch = 7.0"),
    "an unknown dtype": ('"uint8"', '"uint7"'),
    "a range beyond the dtype": ("maximum = 200", "maximum = 256"),
    "a float range for integers": ("maximum = 200", "maximum = 2.5"),
    "an empty range": ("minimum = 0\nmaximum = 200", "minimum = 9\nmaximum = 8"),
    "an infinite range": ("maximum = 120.5", "maximum = inf"),
    "a range for text": ("max_text = 100", "minimum = 1"),
    "NaN in integers": ("maximum = 200", "maximum = 200\nallow_nan = true"),
    "a text limit for numbers": ("maximum = 200", "maximum = 200\nmax_text = 3"),
    "a range on an output": ('dtype = "float64"', 'dtype = "float64"\nminimum = 0'),
    "an axis without bounds": ('shape = ["batch", 30]', 'shape = ["batches", 30]'),
    "an axis with one bound": ("batch = { minimum = 1, maximum = 64 }", "batch = { maximum = 64 }"),
    "an axis with crossed bounds": ("minimum = 1, maximum = 64", "minimum = 65, maximum = 64"),
    "a negative dimension": ('shape = ["batch", 30]', 'shape = ["batch", -30]'),
    "a shape of 17 axes": ("shape = []", f"shape = {[1] * 17}"),
    "two inputs of one name": ('name = "age"', 'name = "features"'),
    "two outputs of one name": ('name = "hidden"', 'name = "scores"'),
    "no time at all": ("timeout_ms = 50", "timeout_ms = 0"),
    "an unknown limit": ("timeout_ms = 50", "timeout = 50"),
    "an unknown step": ('kind = "round"', 'kind = "sound"'),
    "a step without its kind": ('kind = "round"', ""),
    "a step with another's field": ("decimals = 2", "decimals = 2\nk = 1"),
    "a pre step after": ('kind = "round"', 'kind = "scale"'),
    "a step on what is not there": ('input = "features"\ndtype', 'input = "missing"\ndtype'),
    "a step on what was dropped": ('outputs = ["scores"]', 'outputs = ["hidden"]'),
    "a selection of nothing": ('outputs = ["scores"]', "outputs = []"),
    "a selection twice": ('outputs = ["scores"]', 'outputs = ["scores", "scores"]'),
    "a cast of text": ('input = "features"\ndtype', 'input = "text"\ndtype'),
    "a cast to text": ('dtype = "float32"\n\n[[pre]]', 'dtype = "string"\n\n[[pre]]'),
    "a scale of integers": ('dtype = "float32"\n\n[[pre]]', 'dtype = "int32"\n\n[[pre]]'),
    "a scale by nothing": ("mean = 2\nstd = [4.5]", "mean = []\nstd = []"),
    "a scale by zero": ("std = [4.5]", "std = [0.0]"),
    "a scale by NaN": ("mean = 2", "mean = nan"),
    "more means than deviations": ("mean = 2", "mean = [1, 2]"),
    "a scale of another length": ("mean = 2\nstd = [4.5]", "mean = [1, 2]\nstd = [1, 2]"),
    "a softmax over no axis": ("axis = -1", "axis = 2"),
    "too many decimals": ("decimals = 2", "decimals = 16"),
    "a k beyond the axis": ("k = 2", "k = 3"),
    "a k of zero": ("k = 2", "k = 0"),
    "labels of scores": ('output = "scores_indices"', 'output = "scores_values"'),
    "labels that are not there": ('labels = ["benign", "malignant"]', ""),
    "a label that is no text": ('"malignant"]', "1]"),
    "a label with a line end": ('"malignant"]', '"a\\nb"]'),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(case: str) -> None:
    old, new = CONTRADICTIONS[case]
    assert old in COMPLETE
    with pytest.raises(ManifestError) as caught:
        read(COMPLETE.replace(old, new, 1))
    assert caught.value.code in {ManifestCode.MANIFEST_INVALID, ManifestCode.FIELD_INVALID}


MORE_STEPS = {
    "label_only on unequal labels": (LabelOnly("scores"), {"labels": ("a", "b", "c")}),
    "label_only on text": (LabelOnly("words"), {}),
    "top_k that collides": (TopK("scores", 1), {"more": ("scores_values", "float32", (BATCH,))}),
    "top_k of a scalar": (TopK("hidden", 1), {}),
    "top_k of an axis that may be shorter": (TopK("free", 2), {}),
    "softmax of a scalar": (Softmax("hidden", 0), {}),
    "round of integers": (Round("numbers", 1), {}),
}


@pytest.mark.parametrize("case", MORE_STEPS)
def test_a_step_that_cannot_work_is_refused(case: str) -> None:
    step, changes = MORE_STEPS[case]
    outputs: list[Any] = [
        TensorField("scores", "float32", (BATCH, 2)),
        TensorField("hidden", "float32", ()),
        TensorField("words", "string", (BATCH,)),
        TensorField("numbers", "int64", (BATCH,)),
        TensorField("free", "float32", (BATCH, Axis("n", 1, 9))),
    ]
    if "more" in changes:
        outputs.append(TensorField(*changes["more"]))
    with pytest.raises(ManifestError) as caught:
        dataclasses.replace(read(), outputs=tuple(outputs), labels=changes.get("labels", ("a", "b")), post=(step,))
    assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_one_axis_has_one_bound() -> None:
    two = (TensorField("a", "bool", (Axis("n", 1, 2),)), TensorField("b", "bool", (Axis("n", 1, 3),)))
    with pytest.raises(ManifestError) as caught:
        dataclasses.replace(read(), inputs=two, pre=())
    assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_a_manifest_needs_inputs_and_outputs() -> None:
    for changes in ({"inputs": (), "pre": ()}, {"outputs": (), "post": ()}):
        with pytest.raises(ManifestError) as caught:
            dataclasses.replace(read(), **changes)
        assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_the_sealed_form_spells_nothing_out_twice() -> None:
    table = read().to_map()
    for change in (
        {"axes": {**table["axes"], "unused": {"minimum": 1, "maximum": 2}}},
        {"inputs": [{**table["inputs"][0], "allow_nan": False}, *table["inputs"][1:]]},
    ):
        with pytest.raises(ManifestError) as caught:
            ModelManifest.decode(canonical.encode({**table, **change}))
        assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_static_axes_are_those_of_one_length() -> None:
    assert static(3, 3)
    assert static(Axis("n", 3, 3), 3)
    assert not static(Axis("n", 1, 3), 3)
    assert not static(4, 3)


def test_no_model_has_the_name_that_stands_for_all() -> None:
    """In a delegation, a revocation or an enclave's floors its epoch would bind every other model of its owner."""
    manifest = read(COMPLETE)
    for refused in (
        lambda: dataclasses.replace(manifest, name="*"),
        lambda: read(COMPLETE.replace(f'name = "{manifest.name}"', 'name = "*"', 1)),
        lambda: ModelManifest.decode(canonical.encode(manifest.to_map() | {"name": "*"})),
    ):
        with pytest.raises(ManifestError, match="every model") as caught:
            refused()
        assert caught.value.code is ManifestCode.FIELD_INVALID
        assert caught.value.remedy
