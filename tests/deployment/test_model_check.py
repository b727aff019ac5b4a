"""A hostile model whose owner went around the check of `seal` is refused by the enclave, with the check's own code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from evaluation.demo.deployment import Deployment, temporary_home
from evaluation.demo.preparation import ModelToSeal
from manifests import keyfile
from manifests.errors import StrongroomError
from manifests.files import read_bounded
from manifests.model import ModelManifest
from manifests.sealed import RecipientKey, recipients, seal
from manifests.sealed.writer import MemoryPart, write_sealed
from manifests.signing import Signer
from tests.deployment.small import ROWS, WEIGHTS, linear
from tests.modelcheck.hostile import made
from tests.modelcheck.ordinary import value

HOSTILE = {
    "a division that ends the process": ("onnx-division", "int64", ("n",)),
    "a loop without an end": ("onnx-loop", "float32", ("n", 4)),
    "an Expand to a terabyte": ("onnx-memory", "float32", ("n", 4)),
    "a shape whose product wraps around to four": ("onnx-tensor-overflow", "float32", ("n", 4)),
    "two nodes in a circle": ("onnx-cycle", "float32", ("n", 4)),
}


def manifest_of(name: str, owner: bytes, dtype: str, shape: tuple[Any, ...]) -> ModelManifest:
    tensor = {"dtype": dtype, "shape": list(shape)}
    return ModelManifest.from_map(
        {
            "name": name,
            "version": "1",
            "epoch": 3,
            "owner": owner,
            "axes": {"n": {"minimum": 1, "maximum": 64}},
            "inputs": [{"name": "x", **tensor}],
            "outputs": [{"name": "y", **tensor}],
        }
    )


def seal_unchecked(deployment: Deployment, sentence: str, name: str) -> Path:
    """Seal as an owner would who writes the format with a program of their own."""
    layout = deployment.layout
    passphrase = read_bounded(layout.passphrase, 4096).strip()
    signer = Signer.from_seed(keyfile.read_key_file(layout.owner_key, "owner", passphrase))
    _, dtype, shape = HOSTILE[sentence]
    manifest = manifest_of(name, signer.public, dtype, shape)
    sealed = layout.sealed(name)
    card = keyfile.read_card_entry(layout.broker / "broker.pub", recipients.CARD_ENTRY)
    write_sealed(
        sealed,
        [MemoryPart("manifest", manifest.encode()), MemoryPart("model.onnx", made(sentence))],
        name=name,
        epoch=3,
        owner_key=signer,
        recipients=[card],
    )
    return sealed


@pytest.fixture(scope="module")
def own() -> Iterator[Deployment]:
    """A deployment that other tests do not meet, since its broker will offer hostile models again and again."""
    with temporary_home() as home, Deployment(home, [ModelToSeal("linear", linear(), epoch=3)]) as running:
        yield running


def refusal(deployment: Deployment, name: str) -> dict[str, Any] | None:
    """Return what the broker has told of a model that an enclave did not take."""
    events = [item for item in deployment.broker_events() if item["event"] == "failed"]
    return next((item for item in events if item["model"] == name), None)


@pytest.mark.parametrize("sentence", HOSTILE)
def test_the_enclave_refuses(own: Deployment, sentence: str) -> None:
    code = HOSTILE[sentence][0]
    own.preparation.add_to_broker(seal_unchecked(own, sentence, code))
    deadline = time.monotonic() + 25
    while (event := refusal(own, code)) is None:
        assert time.monotonic() < deadline, str(own.broker_events())[-2500:]
        time.sleep(0.1)
    assert event["code"] == code
    with own.session() as session:  # the process lives on, and serves what it served before
        np.testing.assert_array_equal(session.infer("linear", {"x": ROWS})["y"], ROWS @ WEIGHTS)


def described(sentence: str) -> bytes:
    """Return a hostile model whose output has the type that its manifest says, as an owner's own would."""
    graph, (_, dtype, shape) = onnx.load_model_from_string(made(sentence)), HOSTILE[sentence]
    kind = onnx.TensorProto.INT64 if dtype == "int64" else onnx.TensorProto.FLOAT
    graph.graph.output[0].CopyFrom(value("y", list(shape), kind))
    return bytes(graph.SerializeToString())


def test_sealing_refuses_the_same(tmp_path: Path) -> None:
    for sentence, (code, dtype, shape) in HOSTILE.items():
        owner = Signer.generate()
        with pytest.raises(StrongroomError) as caught:
            seal(
                described(sentence),
                tmp_path / "m.sealed",
                owner_key=owner,
                recipients=[RecipientKey.generate().public],
                manifest=manifest_of("m", owner.public, dtype, shape),
            )
        assert str(caught.value.code) == code
        assert not (tmp_path / "m.sealed").exists()
