"""Steps that decode, compiled as a model's are, and applied to single inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enclave.components import load_components
from enclave.errors import EnclaveError
from enclave.process import compile_pre, run_steps
from manifests.gramine.settings import COMPONENTS
from manifests.model import ModelManifest
from manifests.signing import Signer

OWNER = Signer.from_seed(bytes(32)).public
LOADED = load_components(COMPONENTS)
FILE = {"name": "file", "dtype": "uint8", "shape": ["bytes"]}
TEXTS = {"name": "texts", "dtype": "string", "shape": ["rows"]}


def manifest(step: dict[str, Any]) -> ModelManifest:
    tensor, axis, most = (TEXTS, "rows", 64) if step["kind"] == "tokenize" else (FILE, "bytes", 1 << 24)
    return ModelManifest.from_map(
        {
            "name": "decoding",
            "version": "1",
            "epoch": 1,
            "owner": OWNER,
            "axes": {axis: {"minimum": 1, "maximum": most}},
            "inputs": [tensor],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [1]}],
            "pre": [step],
        }
    )


def decoded(step: dict[str, Any], data: bytes) -> np.ndarray:
    """Return what a step makes of a file, which has the shape and dtype that the manifest announces."""
    described = manifest(step)
    steps = compile_pre(described, LOADED)
    (array,) = run_steps(steps, {"file": np.frombuffer(data, np.uint8)}).values()
    (announced,) = described.graph_inputs()
    assert array.dtype.name == announced.dtype
    for length, axis in zip(array.shape, announced.shape, strict=True):
        assert length == axis if isinstance(axis, int) else axis.minimum <= length <= axis.maximum
    return np.asarray(array)


def refused(step: dict[str, Any], data: bytes) -> str:
    """Return the code with which a file is refused; the words name the input and hold nothing of the file."""
    with pytest.raises(EnclaveError) as refusal:
        decoded(step, data)
    assert refusal.value.field == "file"
    assert "'file'" in refusal.value.message
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    return str(refusal.value.code)
