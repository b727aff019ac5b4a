"""Optional components: a model that needs one is served where the settings name it, and refused elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from enclave import components
from enclave.errors import EnclaveError
from manifests.errors import ManifestError
from manifests.gramine.settings import COMPONENTS, EnclaveSettings
from manifests.model import ModelManifest
from tests.enclave.rig import Owner, Refused, Rig, graph, running
from tests.testkit.files import picture, saved, tone, trained_tokenizer, wav

TOKENIZER = trained_tokenizer(["one two three", "two three", "three"], 60)
INPUTS: dict[str, Any] = {
    "text": {"name": "words", "dtype": "string", "shape": ["n"]},
    "image": {"name": "photo", "dtype": "uint8", "shape": ["bytes"]},
    "audio": {"name": "sound", "dtype": "uint8", "shape": ["bytes"]},
}
STEPS: dict[str, Any] = {
    "text": {"kind": "tokenize", "input": "words", "tokenizer": "tokenizer.json", "max_length": 8, "ids": "x"},
    "image": {"kind": "image", "input": "photo", "output": "x", "width": 4, "height": 4},
    "audio": {"kind": "audio", "input": "sound", "output": "x", "rate": 8000, "max_seconds": 1.0},
}
SENT: dict[str, dict[str, Any]] = {
    "text": {"words": np.array(["three two", "one"], object)},
    "image": {"photo": np.frombuffer(saved(picture()), np.uint8)},
    "audio": {"sound": np.frombuffer(wav(tone(0.01)), np.uint8)},
}
TYPES = {"text": TensorProto.INT64, "image": TensorProto.FLOAT, "audio": TensorProto.FLOAT}
SHAPES: dict[str, list[Any]] = {"text": ["n", "t"], "image": [1, 3, 4, 4], "audio": [1, "s"]}


def echo(kind: str) -> bytes:
    """A graph that gives back what it gets, as floats in one row."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["y"], axis=0),
    ]
    return graph(nodes, [("x", TYPES[kind], SHAPES[kind])], [("y", TensorProto.FLOAT, [1, "m"])])


def described(owner: Owner, kind: str, **changes: Any) -> ModelManifest:
    axes = {"n": {"minimum": 1, "maximum": 8}} if kind == "text" else {"bytes": {"minimum": 1, "maximum": 1 << 20}}
    table = {
        "name": "tiny",
        "version": "1.0",
        "epoch": 1,
        "owner": owner.public,
        "axes": {**axes, "m": {"minimum": 1, "maximum": 10_000}},
        "inputs": [INPUTS[kind]],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, "m"]}],
        "pre": [STEPS[kind]],
    }
    return ModelManifest.from_map({**table, **changes})


def served(rig: Rig, kind: str, folder: Path, **changes: Any) -> bytes:
    owner = Owner()
    parts = {"tokenizer.json": TOKENIZER} if kind == "text" else {}
    manifest = described(owner, kind, **changes)
    digest = owner.seal(rig.host, folder, echo(kind), manifest=manifest, extra_parts=parts)
    owner.provision(rig.client(), digest)
    return digest


@pytest.mark.parametrize("kind", STEPS)
def test_a_model_is_served_where_its_component_is(kind: str, tmp_path: Path) -> None:
    with running(EnclaveSettings("first", components=(kind,))) as rig:
        digest = served(rig, kind, tmp_path)
        client = rig.client()
        assert client.infer(digest, **SENT[kind])["y"].size > 1
        (listed,) = client.request({"op": "models"}).header["models"]
        assert listed["takes"] == {INPUTS[kind]["name"]: kind}


@pytest.mark.parametrize("kind", STEPS)
def test_a_model_is_refused_where_its_component_is_not(kind: str, tmp_path: Path) -> None:
    others = tuple(name for name in COMPONENTS if name != kind)
    with running(EnclaveSettings("first", components=others)) as rig:
        with pytest.raises(Refused) as refusal:
            served(rig, kind, tmp_path)
        assert refusal.value.code == "component-missing"
        assert repr(kind) in refusal.value.message
        assert rig.is_alive()


def test_a_tokenizer_is_no_external_data_of_the_graph(tmp_path: Path) -> None:
    """A tokenizer that is broken makes the model unusable; the part never reaches the runtime."""
    with running(EnclaveSettings("first", components=("text",))) as rig:
        owner = Owner()
        parts = {"tokenizer.json": b'{"model": {"type": "WordPiece", "vocab": {}}, "version": "none"}'}
        digest = owner.seal(rig.host, tmp_path, echo("text"), manifest=described(owner, "text"), extra_parts=parts)
        with pytest.raises(Refused) as refusal:
            owner.provision(rig.client(), digest)
        assert refusal.value.code == "model-unusable"
        assert "tokenizer" in refusal.value.message


@pytest.mark.parametrize("name", ["model.onnx", "manifest", "absent.json"])
def test_sealing_refuses_a_step_whose_part_is_missing_or_the_graphs(name: str, tmp_path: Path) -> None:
    owner = Owner()
    manifest = described(owner, "text", pre=[{**STEPS["text"], "tokenizer": name}])
    with running() as rig, pytest.raises(ManifestError) as refusal:
        owner.seal(rig.host, tmp_path, echo("text"), manifest=manifest, extra_parts={"tokenizer.json": TOKENIZER})
    assert refusal.value.code == "sealed-part"


def test_a_component_whose_library_is_not_installed_keeps_the_enclave_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(components.importlib, "import_module", absent)
    with pytest.raises(EnclaveError) as refusal:
        components.load_components(["image"])
    assert refusal.value.code == "enclave-start-failed"
    assert "components" in str(refusal.value.remedy)


REFUSED = {
    "image": (b"no picture", "image-format"),
    "audio": (b"no sound", "audio-malformed"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_file_leaves_the_session_alive(kind: str, tmp_path: Path) -> None:
    data, code = REFUSED[kind]
    name = INPUTS[kind]["name"]
    with running(EnclaveSettings("first", components=COMPONENTS)) as rig:
        digest = served(rig, kind, tmp_path)
        client = rig.client()
        with pytest.raises(Refused) as refusal:
            client.infer(digest, **{name: np.frombuffer(data, np.uint8)})
        assert (refusal.value.code, refusal.value.field) == (code, name)
        with pytest.raises(Refused) as refusal:
            client.infer(digest, **{name: np.zeros((1 << 20) + 1, np.uint8)})
        assert refusal.value.code == "tensor-shape", "longer files are refused before they are touched"
        assert client.infer(digest, **SENT[kind])["y"].size > 1


LIBRARY = """
import os, sys
from enclave.log import Event, log, silence_libraries
os.write(2, b"before\\n")
silence_libraries()

try:
    os.write(2, b"what a request held\\n")
except BrokenPipeError:
    pass
sys.stderr.write("a warning that repeats it\\n")

log(Event.STOPPED)
"""


def test_what_a_library_writes_to_standard_error_reaches_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines[0] == "before"
    assert json.loads(lines[1]) == {"event": "stopped"}
    assert "request" not in done.stderr
    assert "repeats" not in done.stderr + done.stdout
    assert done.returncode == 0
