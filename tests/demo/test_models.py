from __future__ import annotations

import importlib.resources
import io
import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from evaluation.demo.models import DemoModel, file_features, interruptible_training, magika_model, tumour_model


def answer(model: DemoModel) -> np.ndarray:
    session = ort.InferenceSession(model.onnx, providers=["CPUExecutionProvider"])
    return session.run([model.scores], model.inputs)[0]


def config() -> dict:
    folder = next(Path(str(importlib.resources.files("magika"))).glob("models/*/config.min.json"))
    return json.loads(folder.read_text())


@pytest.mark.parametrize(
    "content",
    [
        b"import os\n" * 40,
        b"  \n\t short text \n ",
        b"\x7fELF" + bytes(range(256)) * 40,
        b" " * 5000 + b"after a block of white space" + b" " * 5000,
        bytes(1024),
        b"x" * 4096,
        b"x" * 4097,
    ],
)
def test_features_are_those_that_magika_itself_extracts(content: bytes):
    from magika import Magika
    from magika.types.seekable import Seekable

    known = config()
    names = ("beg_size", "mid_size", "end_size", "padding_token", "block_size", "use_inputs_at_offsets")
    theirs = Magika._extract_features_from_seekable(
        Seekable(io.BytesIO(content)), **{name: known[name] for name in names}
    )
    assert file_features(content, known).tolist() == [*theirs.beg, *theirs.end]


def test_the_tumour_classifier_is_right_about_patients_it_has_never_seen():
    model = tumour_model()
    best = answer(model).argmax(axis=1)
    assert len(best) == len(model.cases) == len(model.truth) == 114
    assert np.mean(best == np.array(model.truth)) > 0.95


def test_training_twice_gives_the_same_model():
    assert tumour_model().onnx == tumour_model().onnx


def test_magika_tells_files_of_this_machine_apart(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_bytes(Path(__file__).read_bytes())
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"name": "a", "numbers": [1, 2, 3], "nested": {"key": None}}, indent=2))
    model = magika_model([script, data])
    assert [model.classes[best] for best in answer(model).argmax(axis=1)] == ["python", "json"]


def test_this_machine_has_real_files_of_several_kinds():
    model = magika_model()
    assert len(model.cases) >= 8
    assert len(set(answer(model).argmax(axis=1))) >= 5


def test_an_interrupt_during_the_training_ends_the_program(monkeypatch: pytest.MonkeyPatch):
    from sklearn.neural_network import MLPClassifier

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MLPClassifier, "_backprop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tumour_model()


def test_other_warnings_of_the_training_are_no_interrupt():
    with pytest.warns(UserWarning, match="not converged"), interruptible_training():
        warnings.warn("not converged", stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="not converged"), interruptible_training():
            warnings.warn("not converged", stacklevel=1)
