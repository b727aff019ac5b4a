"""Sealing straight from PyTorch and Keras; run in the second environment, which has both."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch: Any = pytest.importorskip("torch", reason="PyTorch is in the second environment")
keras: Any = pytest.importorskip("keras", reason="Keras is in the second environment")

from manifests.errors import ManifestCode, ManifestError  # noqa: E402 - after the skip
from manifests.sealed import FileSource, SealedReader, inspect_sealed, recover_dek, seal  # noqa: E402 - after the skip
from tests.manifests.small import OWNER, RECIPIENT  # noqa: E402 - after the skip

pytestmark = [pytest.mark.extras, pytest.mark.filterwarnings("ignore")]

WHO: dict[str, Any] = {"owner_key": OWNER, "recipients": [RECIPIENT.public]}


def answers(path: Path, *inputs: Any) -> tuple[Any, Any]:
    """Open the sealed model; return its manifest and what onnxruntime computes."""
    with FileSource(path) as source:
        reader = SealedReader(source, owner=OWNER.public, digest=inspect_sealed(path).digest)
        reader.open(recover_dek(source, RECIPIENT))
        manifest, graph = reader.read_manifest(), bytes(reader.read_part(1))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {tensor.name: value for tensor, value in zip(manifest.inputs, inputs, strict=True)}
    return manifest, session.run(None, feeds)[0]


def test_a_torch_module_is_sealed_in_one_call(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    model.train()
    seal(model, tmp_path / "s", name="net", example_input=torch.zeros(2, 4), **WHO)
    assert model.training
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    manifest, found = answers(tmp_path / "s", x)
    model.eval()
    assert np.allclose(found, model(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    assert manifest.inputs[0].shape[0].maximum == 64


def test_a_torch_module_of_two_inputs_is_sealed(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + 2 * b

    seal(Sum(), tmp_path / "s", example_input=(torch.zeros(2, 3), torch.zeros(2, 3)), **WHO)
    a, b = np.ones((7, 3), np.float32), np.full((7, 3), 3, np.float32)
    assert np.array_equal(answers(tmp_path / "s", a, b)[1], a + 2 * b)


def test_a_torch_module_without_an_example_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        seal(torch.nn.Linear(1, 1), tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.EXPORT_FAILED
    assert "tensor" in str(caught.value.expected)


def test_a_torch_module_that_cannot_be_exported_says_why(tmp_path: Path) -> None:
    class Wild(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            raise RuntimeError("wild")

    with pytest.raises(ManifestError) as caught, warnings.catch_warnings():
        seal(Wild(), tmp_path / "s", example_input=torch.zeros(2, 1), **WHO)
    assert caught.value.code is ManifestCode.EXPORT_FAILED
    assert "torch" in caught.value.message


def _keras_model() -> Any:
    return keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, activation="softmax")])


def test_a_keras_model_is_sealed_after_one_call(tmp_path: Path) -> None:
    model = _keras_model()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(model(x))
    seal(model, tmp_path / "s", name="net", **WHO)
    assert np.allclose(answers(tmp_path / "s", x)[1], expected, atol=1e-5)


def test_a_keras_model_is_called_with_the_example(tmp_path: Path) -> None:
    model = _keras_model()
    x = np.ones((2, 4), np.float32)
    with pytest.raises(ManifestError) as caught:
        seal(model, tmp_path / "s", **WHO)
    assert caught.value.code is ManifestCode.EXPORT_FAILED
    seal(model, tmp_path / "s", example_input=x, **WHO)
    assert np.allclose(answers(tmp_path / "s", x)[1], keras.ops.convert_to_numpy(model(x)), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s"]
