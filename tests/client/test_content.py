"""What a client who knows nothing of tensors sends, and what it reads of an answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attestation.client.content import Label, find, inputs_of, labels_of, newest
from attestation.client.errors import ClientError
from attestation.client.freshness import Beat
from attestation.client.generation import Draw, question
from attestation.client.models import Axis, ModelInfo, Prediction, TensorInfo, parse_listing
from attestation.client.printing import print_answer, print_models
from attestation.client.refusals import UnsentError, check_texts
from tests.client.conftest import World

OWNER = bytes([3]) * 32
BEAT = Beat(1, 1, OWNER)
BYTES = TensorInfo("file", "uint8", (Axis("bytes", 1, 1000),))
TEXTS = TensorInfo("text", "string", (Axis("n", 1, 8),))


def model(*inputs: TensorInfo, epoch: int = 1, **takes: str) -> ModelInfo:
    return ModelInfo(bytes([epoch]) * 64, "m", "1", epoch, OWNER, inputs, (), 0, takes)


ENCLAVE = {"platform": "sgx", "measurement": "ab" * 32, "tcb_status": None, "checks_passed": 9}


def answer(**tensors: Any) -> Prediction:
    return Prediction({name: np.asarray(value) for name, value in tensors.items()}, bytes(64), 1, BEAT)


def text(*words: str) -> np.ndarray:
    return np.array(words, dtype=object)


def test_a_text_travels_as_one_row_of_whatever_rank() -> None:
    for shape in ((), (1,), (Axis("n", 1, 8),), (1, 1)):
        taken = inputs_of(model(TensorInfo("t", "string", shape), t="text"), "hello")
        assert taken["t"].tolist() == np.full((1,) * len(shape), "hello", object).tolist()
    assert inputs_of(model(TEXTS), "hello")["text"].tolist() == ["hello"], "a model that takes text as it is"


def test_a_file_travels_as_its_bytes_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    for content in (b"abc", tmp_path / "f"):
        assert inputs_of(model(BYTES, file="audio"), content)["file"].tobytes() == b"abc"
    picture = Image.new("RGB", (3, 2), "red")
    sent = inputs_of(model(BYTES, file="image"), picture)["file"]
    assert sent.dtype == np.uint8
    assert Image.open(io.BytesIO(sent.tobytes())).tobytes() == picture.tobytes()


UNFIT: dict[str, tuple[ModelInfo, Any, str | None]] = {
    "a text for a picture": (model(BYTES, file="image"), "text", None),
    "a picture for a text": (model(TEXTS, text="text"), b"bytes", None),
    "a recording where the caller says picture": (model(BYTES, file="audio"), b"bytes", "image"),
    "bytes for plain numbers": (model(BYTES), b"bytes", None),
    "a text for numbers": (model(TensorInfo("x", "float32", (1,))), "text", None),
    "one content for two inputs": (model(TEXTS, BYTES, text="text", file="image"), "text", None),
    "content of a kind that only a later client knows": (model(BYTES, file="video"), b"bytes", None),
    "a number": (model(BYTES, file="image"), 5, None),
}


@pytest.mark.parametrize("case", UNFIT)
def test_content_that_the_model_does_not_take_is_refused_here(case: str) -> None:
    described, content, kind = UNFIT[case]
    with pytest.raises(ClientError) as refusal:
        inputs_of(described, content, kind)
    assert refusal.value.code == "content-unfit"
    assert "--list" in str(refusal.value.remedy)


def test_labels_come_with_the_scores_that_stand_beside_them() -> None:
    both = answer(other=[[0.5, 0.5]], y_values=[[0.75, 0.25]], y_indices=text("a", "b").reshape(1, 2))
    assert labels_of(both) == (Label("a", 0.75), Label("b", 0.25))
    one = answer(label=text("a"), score=[0.5], number=[3])
    assert labels_of(one) == (Label("a", 0.5),)
    bare = answer(label=text("a"), scores=[[0.5, 0.25]])
    assert labels_of(bare) == (Label("a", None),), "scores of another shape are none of this label"


def test_an_answer_of_numbers_alone_has_no_labels() -> None:
    with pytest.raises(ClientError) as refusal:
        labels_of(answer(y=[[0.5]]))
    assert refusal.value.code == "answer-unlabelled"
    assert "infer" in str(refusal.value.remedy)


def test_the_newest_model_of_a_name_is_meant() -> None:
    models = [model(TEXTS, epoch=1), model(TEXTS, epoch=3), model(TEXTS, epoch=2)]
    assert newest(models, "m").epoch == 3
    assert newest(models, f"{OWNER.hex()}/m").epoch == 3
    assert newest(models, models[0].digest).epoch == 1
    assert find(models, "other") is None
    for name in ("other", bytes(64)):
        with pytest.raises(ClientError) as refusal:
            newest(models, name)
        assert refusal.value.code == "model-name-invalid"


def test_a_listing_says_what_is_content(world: World) -> None:
    listed = world.listed() | {"takes": {"x": "image"}}
    (known,), _ = parse_listing({"models": [listed], "class": "simulated", "beats": []})
    assert known.takes == {"x": "image"}
    assert known.to_dict()["takes"] == {"x": "image"}
    (plain,), _ = parse_listing({"models": [world.listed()], "class": "simulated", "beats": []})
    assert "takes" not in plain.to_dict()
    for takes in ([], {"x": 5}, {"x": "k" * 17}, {5: "image"}):
        with pytest.raises(ClientError) as refusal:
            parse_listing({"models": [world.listed() | {"takes": takes}], "class": "simulated", "beats": []})
        assert refusal.value.code == "response-unexpected"


# ---------------------------------------------------------------------------------------- what is not sent


def test_several_contents_at_once_are_told_to_come_one_by_one() -> None:
    several: Any = ["good", "bad"]
    with pytest.raises(ClientError) as caught:
        inputs_of(model(TEXTS), several)
    assert str(caught.value.code) == "content-unfit"
    assert "one content is asked of at a time" in caught.value.message
    assert caught.value.found == "list"


def test_a_language_model_says_how_it_is_asked() -> None:
    with pytest.raises(ClientError) as caught:
        inputs_of(model(), "hello")
    assert "it generates text" in caught.value.message
    assert "strongroom generate" in str(caught.value.remedy)
    assert model().to_dict()["generates"] is True
    assert "generates" not in model(TEXTS).to_dict()


def test_a_listing_fits_a_narrow_screen_in_a_block_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    print_models(ENCLAVE, [model(TEXTS), model()], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("model")] == [["model", "m"]] * 2
    assert any("generates text: strongroom generate" in line for line in lines)
    assert max(map(len, lines)) <= 80


NOT_UTF_8 = "a\udcff"


@pytest.mark.parametrize(
    ("ask", "code", "field"),
    [
        (lambda: question(NOT_UTF_8, 5, (), Draw()), "prompt-refused", "prompt"),
        (lambda: question("a", 5, [NOT_UTF_8], Draw()), "sampling-refused", "stop"),
        (lambda: check_texts({"t": text("a", NOT_UTF_8)}), "tensor-text", "t"),
    ],
)
def test_a_text_that_is_not_utf_8_is_refused_before_it_is_sent(ask: Any, code: str, field: str) -> None:
    with pytest.raises(UnsentError) as caught:
        ask()
    assert (caught.value.remote_code, caught.value.field) == (code, field)
    assert "nothing was sent" in caught.value.message
    assert "not UTF-8" in caught.value.message
    assert caught.value.remedy


def test_a_picture_in_which_nothing_is_found_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(ENCLAVE, answer(boxes=np.empty((0, 4))), None, (), as_json=False)
    assert "nothing found" in capsys.readouterr().out


def test_texts_have_the_dtype_that_a_manifest_has(capsys: pytest.CaptureFixture[str]) -> None:
    print_answer(ENCLAVE, answer(label=text("good")), None, as_json=True)
    assert '"dtype": "string"' in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 1001])
def test_a_file_of_a_size_that_the_model_does_not_take_is_not_sent(size: int) -> None:
    with pytest.raises(UnsentError) as caught:
        inputs_of(model(BYTES, file="image"), bytes(size))
    assert (caught.value.remote_code, caught.value.field) == ("tensor-shape", "file")
    assert "a file of at most 1000" in caught.value.message
    assert "file" in str(caught.value.remedy)
