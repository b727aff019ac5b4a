from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from manifests.sealed import seal
from manifests.signing import Signer
from tests.broker.support import OWNER

Sealing = Callable[..., Path]


@pytest.fixture(scope="session")
def doubler() -> bytes:
    """The bytes of a model that adds its input to itself."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubler", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def sealed(tmp_path: Path, doubler: bytes) -> Sealing:
    """Seal a model for a recipient's public key, and return the file."""

    def make(recipient: bytes, name: str = "doubler", epoch: int = 1, owner: Signer = OWNER) -> Path:
        path = tmp_path / f"{name}-{epoch}.sealed"
        seal(doubler, path, owner_key=owner, recipients=[recipient], name=name, epoch=epoch)
        return path

    return make
