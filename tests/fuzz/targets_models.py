"""Targets for ONNX models: what an owner's graph is read and checked by, inside the enclave."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from manifests.onnx.check import check_model
from manifests.onnx.errors import OnnxError
from manifests.onnx.reader import read_model
from tests.fuzz.target import Target

FOLDER: Final = Path(__file__).resolve().parents[1] / "vectors" / "onnx"


def _models() -> list[bytes]:
    return [path.read_bytes() for path in sorted(FOLDER.glob("*.onnx"))]


def _check(data: bytes) -> Any:
    """Check a model; its refusal is raised, so that each code counts as an outcome of its own."""
    report = check_model(data, parts={"w.bin": 64})
    if not report.passed:
        raise report.error()
    return report


TARGETS: Final = (
    Target("onnx-reader", read_model, _models, (OnnxError,)),
    Target("onnx-check", _check, _models, (OnnxError,)),
)

__all__ = ["TARGETS"]
