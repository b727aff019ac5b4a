"""The owner's model, run by onnxruntime as the enclave will run it, with the manifest's pre-processing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.abuse.calibrate.learn import Run, Subject
from manifests.abuse.errors import AbuseCode, AbuseError
from manifests.abuse.fitting import watched_input, watched_output
from manifests.abuse.profile import MAX_CLASSES, MAX_FEATURES
from manifests.abuse.scores import Outputs
from manifests.model import ModelManifest
from manifests.steps import Cast, PreStep, Scale
from manifests.tensors import Axis
from manifests.values import INTEGERS

_BATCH = 256
_MAX_REASON = 500
"""Characters of the runtime's reason: enough for its sentence, and not for a dump."""


def subject_of(model: Path, manifest: ModelManifest, output: str | None = None) -> Subject:
    """Return a model as calibration sees it.

    Raises AbuseError `calibration-unsupported` or `calibration-model-failed`.
    """
    tensor, answer = watched_input(manifest), watched_output(manifest, output)
    if any(not isinstance(step, Scale | Cast) for step in manifest.pre):
        raise _unsuited("the model's inputs are made from something else than numbers")
    shape = tuple(axis if isinstance(axis, int) else axis.minimum for axis in tensor.shape[1:])
    labels_only = answer.dtype in INTEGERS
    classes = answer.shape[1] if not labels_only else max(2, len(manifest.labels))
    if np.prod(shape) > MAX_FEATURES or not isinstance(classes, int) or classes > MAX_CLASSES:
        raise _unsuited(f"more than {MAX_FEATURES} numbers in a row, or {MAX_CLASSES} classes, are not watched")
    batch = tensor.shape[0]
    most = min(_BATCH, batch.maximum if isinstance(batch, Axis) else batch)
    run = _runner(model, manifest, tensor.name, answer.name, most)
    return Subject(tensor.name, answer.name, labels_only, classes, tensor.dtype, shape, run)


def _runner(model: Path, manifest: ModelManifest, name: str, output: str, most: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common root
        raise _failed(f"{model} cannot be loaded by the runtime", error) from None

    def run(rows: npt.NDArray[Any]) -> Outputs:
        for step in manifest.pre:
            rows = _prepared(step, rows)
        try:
            parts = [session.run([output], {name: rows[at : at + most]})[0] for at in range(0, len(rows), most)]
        except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common root
            raise _failed("the model cannot be run on the sample", error) from None
        return np.concatenate(parts)

    return run


def _prepared(step: PreStep, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if isinstance(step, Scale):
        return np.asarray((rows - np.asarray(step.mean, rows.dtype)) / np.asarray(step.std, rows.dtype))
    return rows.astype(step.dtype) if isinstance(step, Cast) else rows


def _failed(message: str, error: Exception) -> AbuseError:
    """Make an error with the runtime's own reason: model and sample are the owner's who reads it."""
    return AbuseError(AbuseCode.MODEL_FAILED, message, expected="a model that runs", found=str(error)[:_MAX_REASON])


def _unsuited(message: str) -> AbuseError:
    return AbuseError(AbuseCode.MODEL_UNSUITED, message)
