"""Steps that make tensors of content: what they announce, and which cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.errors import ManifestCode, ManifestError
from manifests.model import ModelManifest
from manifests.steps import ArgMax, Audio, Image, Label, Sigmoid, Threshold, Tokenize, part_names
from manifests.tensors import Axis, TensorField
from tests.manifests.small import OWNER

ROWS = Axis("rows", 1, 16)
FILE = {"name": "in", "dtype": "uint8", "shape": ["bytes"]}
TEXT = {"name": "in", "dtype": "string", "shape": ["rows"], "max_text": 100}
TOKENIZE: dict[str, Any] = {"kind": "tokenize", "input": "in", "tokenizer": "t.json", "max_length": 8}
IMAGE: dict[str, Any] = {"kind": "image", "input": "in", "output": "x", "width": 6, "height": 4}
AUDIO: dict[str, Any] = {"kind": "audio", "input": "in", "output": "x", "rate": 8000, "max_seconds": 2.0}


def manifest(step: dict[str, Any], tensor: dict[str, Any] | None = None, **more: Any) -> ModelManifest:
    tensor = tensor or (TEXT if step["kind"] == "tokenize" else FILE)
    axes = {name: {"minimum": 1, "maximum": 16} for name in tensor["shape"] if isinstance(name, str)}
    table = {
        "name": "m",
        "version": "1",
        "epoch": 1,
        "owner": OWNER.public,
        "axes": axes,
        "inputs": [tensor],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 2]}],
        "pre": [step],
    }
    return ModelManifest.from_map({**table, **more})


def gets(step: dict[str, Any]) -> tuple[TensorField, ...]:
    return manifest(step).graph_inputs()


def test_texts_become_tokens_masks_and_segments() -> None:
    tokens = Axis("input_ids.tokens", 1, 8)
    assert gets(TOKENIZE) == (TensorField("input_ids", "int64", (ROWS, tokens)),)
    three = {**TOKENIZE, "mask": "m", "types": "s", "dtype": "int32", "padding": "max_length"}
    assert gets(three) == tuple(TensorField(name, "int32", (ROWS, 8)) for name in ("input_ids", "m", "s"))


@pytest.mark.parametrize(
    ("changes", "shape", "dtype"),
    [
        ({}, (1, 3, 4, 6), "float32"),
        ({"layout": "nhwc", "mode": "gray"}, (1, 4, 6, 1), "float32"),
        ({"layout": "flat", "dtype": "uint8"}, (1, 72), "uint8"),
    ],
)
def test_a_picture_becomes_one_row(changes: dict[str, Any], shape: tuple[int, ...], dtype: str) -> None:
    assert gets({**IMAGE, **changes}) == (TensorField("x", dtype, shape),)


def test_a_recording_becomes_one_row_of_any_or_of_one_length() -> None:
    assert gets(AUDIO) == (TensorField("x", "float32", (1, Axis("x.samples", 1, 16_001))),)
    assert gets({**AUDIO, "samples": 100}) == (TensorField("x", "float32", (1, 100)),)


@pytest.mark.parametrize("step", [TOKENIZE, IMAGE, AUDIO, {**IMAGE, "mean": [0.5], "std": [0.1], "alpha": "white"}])
def test_both_encodings_bring_the_step_back(step: dict[str, Any]) -> None:
    read = manifest(step)
    assert ModelManifest.decode(read.encode()) == read
    assert ModelManifest.from_toml(read.to_toml()) == read
    assert set(read.to_map()["pre"][0]) == set(step), "defaults are left out"


def test_a_default_that_is_spelled_out_is_another_encoding() -> None:
    spelled = manifest({**IMAGE, "mode": "rgb"})
    assert spelled == manifest(IMAGE)
    assert spelled.encode() == manifest(IMAGE).encode()


def test_steps_tell_which_parts_they_read() -> None:
    assert part_names(manifest(TOKENIZE).pre) == {"t.json"}
    assert part_names(manifest(IMAGE).pre) == frozenset()
    assert manifest(TOKENIZE).own_parts() == {"t.json"}


def test_a_manifest_tells_which_components_it_needs() -> None:
    assert [manifest(step).components() for step in (TOKENIZE, IMAGE, AUDIO)] == [("text",), ("image",), ("audio",)]
    post = [
        {"kind": "noise", "output": "y", "epsilon": 1, "sensitivity": 1, "minimum": 0, "maximum": 1, "max_epsilon": 1}
    ]
    assert manifest(IMAGE, post=post).components() == ("image", "noise")


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]] = {
    "no tokens": (TOKENIZE, {"max_length": 0}, None),
    "too many tokens": (TOKENIZE, {"max_length": 65_537}, None),
    "more tokens than a request may make": (TOKENIZE, {"max_length": 65_536}, {**TEXT, "shape": [1025]}),
    "texts in two axes": (TOKENIZE, {}, {**TEXT, "shape": ["rows", 2]}),
    "numbers for texts": (TOKENIZE, {}, FILE),
    "an unknown padding": (TOKENIZE, {"padding": "some"}, None),
    "tokens as floats": (TOKENIZE, {"dtype": "float32"}, None),
    "a padding below zero": (TOKENIZE, {"pad_id": -1}, None),
    "two inputs of one name": (TOKENIZE, {"mask": "input_ids"}, None),
    "a truncation that is a number": (TOKENIZE, {"truncate": 1}, None),
    "a tokenizer without a name": (TOKENIZE, {"tokenizer": ""}, None),
    "texts for a picture": (IMAGE, {}, TEXT),
    "floats for a picture": (IMAGE, {}, {**FILE, "dtype": "float32"}),
    "a picture in two axes": (IMAGE, {}, {**FILE, "shape": [2, "bytes"]}),
    "no width": (IMAGE, {"width": 0}, None),
    "a side too long": (IMAGE, {"height": 16_385}, None),
    "an area too large": (IMAGE, {"height": 16_384, "width": 16_384}, None),
    "pixels beyond the bound": (IMAGE, {"max_pixels": (1 << 26) + 1}, None),
    "a ratio beyond deflate's": (IMAGE, {"max_ratio": 1033}, None),
    "no format": (IMAGE, {"formats": []}, None),
    "a format twice": (IMAGE, {"formats": ["png", "png"]}, None),
    "a format that is not read": (IMAGE, {"formats": ["gif"]}, None),
    "an unknown mode": (IMAGE, {"mode": "cmyk"}, None),
    "an unknown fit": (IMAGE, {"fit": "squeeze"}, None),
    "an unknown filter": (IMAGE, {"filter": "sinc"}, None),
    "an unknown layout": (IMAGE, {"layout": "chw"}, None),
    "an unknown ground": (IMAGE, {"alpha": "pink"}, None),
    "doubles": (IMAGE, {"dtype": "float64"}, None),
    "two means for three channels": (IMAGE, {"mean": [0, 0], "std": [1, 1]}, None),
    "means without deviations": (IMAGE, {"mean": [0.5]}, None),
    "a deviation of zero": (IMAGE, {"mean": [0], "std": [0]}, None),
    "white that is black": (IMAGE, {"white": 0}, None),
    "white without an end": (IMAGE, {"white": float("inf")}, None),
    "scaled bytes": (IMAGE, {"dtype": "uint8", "white": 2.0}, None),
    "a name that is taken": (IMAGE, {"output": "x"}, {**FILE, "name": "x"}),
    "a rate too low": (AUDIO, {"rate": 999}, None),
    "a rate too high": (AUDIO, {"rate": 384_001}, None),
    "no time": (AUDIO, {"max_seconds": 0}, None),
    "a day": (AUDIO, {"max_seconds": 86_400}, None),
    "more samples than a step may make": (AUDIO, {"max_seconds": 3600, "rate": 96_000}, None),
    "an unknown quality": (AUDIO, {"quality": "best"}, None),
    "a cut of no length": (AUDIO, {"truncate": True}, None),
    "texts for sound": (AUDIO, {}, TEXT),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_step_that_cannot_work_is_refused(case: str) -> None:
    step, changes, tensor = REFUSED[case]
    with pytest.raises(ManifestError) as caught:
        manifest({**step, **changes}, tensor)
    assert caught.value.code in {ManifestCode.MANIFEST_INVALID, ManifestCode.FIELD_INVALID}


def test_what_steps_give_of_scores() -> None:
    def served(*post: dict[str, Any], **more: Any) -> tuple[TensorField, ...]:
        return manifest(IMAGE, post=list(post), **more).served_outputs()

    sigmoid, argmax = {"kind": "sigmoid", "output": "y"}, {"kind": "argmax", "output": "y"}
    threshold, label = {"kind": "threshold", "output": "y", "at": 0.5}, {"kind": "label", "output": "y"}
    assert served(sigmoid) == (TensorField("y", "float32", (1, 2)),)
    assert served(argmax) == (TensorField("y", "int64", (1,)),)
    assert served(threshold) == (TensorField("y", "bool", (1, 2)),)
    assert served(threshold, label, labels=["no", "yes"]) == (TensorField("y", "string", (1, 2)),)
    assert manifest(IMAGE, post=[sigmoid, {**threshold, "at": [0.1, 0.2]}]).post == (
        Sigmoid("y"),
        Threshold("y", (0.1, 0.2)),
    )
    for post, labels in (
        ([threshold, sigmoid], []),
        ([argmax, argmax, argmax], []),
        ([{**threshold, "at": [1, 2, 3]}], []),
        ([{**threshold, "at": []}], []),
        ([{**threshold, "at": float("nan")}], []),
        ([threshold, label], ["a", "b", "c"]),
    ):
        with pytest.raises(ManifestError) as caught:
            served(*post, labels=labels)
        assert caught.value.code is ManifestCode.MANIFEST_INVALID


def test_the_steps_are_what_they_were_read_as() -> None:
    assert manifest(TOKENIZE).pre == (Tokenize("in", "t.json", 8),)
    assert manifest(IMAGE).pre == (Image("in", "x", 6, 4),)
    assert manifest(AUDIO).pre == (Audio("in", "x", 8000, 2.0),)
    assert ArgMax("y") != Label("y")
