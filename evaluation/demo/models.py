"""The two models of the demonstration, each with real inputs that it was never trained on."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.demo.errors import DemoCode, DemoError
from evaluation.demo.samples import real_files

SEED = 7
"""Any seed would do; a fixed one makes each run train the same model."""
HELD_OUT = 0.2
_INTERRUPTED = "Training interrupted by user"
"""How the warning of sklearn.neural_network begins."""


@dataclass(frozen=True)
class DemoModel:
    """An ONNX file, the inputs to ask it about, and how to read its answer.

    inputs: by tensor name, one row per case.  cases: what each row is.  truth: index of the right class of each
    row, where it is known.  scores: name of the output that holds one score per class.
    """

    name: str
    title: str
    onnx: bytes
    inputs: dict[str, npt.NDArray[Any]]
    cases: tuple[str, ...]
    classes: tuple[str, ...]
    scores: str
    truth: tuple[int, ...] | None = None


def tumour_model() -> DemoModel:
    """Train a tumour classifier on the breast-cancer measurements that ship in scikit-learn.

    A fifth of the 569 patients is held out and becomes the input of the demonstration.
    """
    try:
        from skl2onnx import to_onnx
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import train_test_split
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise _missing(error) from None
    data = load_breast_cancer()
    patients = np.arange(len(data.target))
    known, held_out = train_test_split(patients, test_size=HELD_OUT, random_state=SEED, stratify=data.target)
    measured = data.data.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((32, 16), alpha=1e-2, max_iter=600, random_state=SEED))
    with interruptible_training():
        pipeline.fit(measured[known], data.target[known])
    graph = to_onnx(pipeline, measured[:1], options={"zipmap": False}, target_opset=18)
    return DemoModel(
        name="tumour",
        title=f"tumour classifier, trained on {len(known)} patients",
        onnx=graph.SerializeToString(),
        inputs={"X": measured[held_out]},
        cases=tuple(f"patient {number}" for number in held_out),
        classes=tuple(str(name) for name in data.target_names),
        scores="probabilities",
        truth=tuple(int(target) for target in data.target[held_out]),
    )


@contextlib.contextmanager
def interruptible_training() -> Iterator[None]:
    """Let Ctrl-C end the program: scikit-learn takes it for the end of the training, and only warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_INTERRUPTED)
        try:
            yield
        except UserWarning as warning:
            if str(warning).startswith(_INTERRUPTED):
                raise KeyboardInterrupt from None
            raise


def magika_model(files: Sequence[Path] | None = None) -> DemoModel:
    """Take the file-type classifier inside the `magika` package, and files of this machine as its input."""
    folder = _magika_folder()
    config = json.loads((folder / "config.min.json").read_text())
    files = real_files() if files is None else files
    rows = np.stack([file_features(path.read_bytes(), config) for path in files])
    return DemoModel(
        name="magika",
        title="magika, a third party's file-type classifier",
        onnx=(folder / "model.onnx").read_bytes(),
        inputs={"bytes": rows},
        cases=tuple(str(path) for path in files),
        classes=tuple(config["target_labels_space"]),
        scores="target_label",
    )


def file_features(content: bytes, config: dict[str, Any]) -> npt.NDArray[np.int32]:
    """Return a file's features as magika computes them: the first and last bytes that are not white space, padded.

    The result has `beg_size + end_size` values of 0 to 255, or the padding token.
    """
    first = content[: config["block_size"]].lstrip()[: config["beg_size"]]
    last = content[-config["block_size"] :].rstrip()[-config["end_size"] :]
    features = np.full(config["beg_size"] + config["end_size"], config["padding_token"], dtype=np.int32)
    features[: len(first)] = np.frombuffer(first, dtype=np.uint8)
    features[len(features) - len(last) :] = np.frombuffer(last, dtype=np.uint8)
    return features


def _magika_folder() -> Path:
    try:
        models = importlib.resources.files("magika") / "models"
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    folders = sorted(Path(str(models)).glob("*/model.onnx"))
    if not folders:
        raise DemoError(DemoCode.EXTRAS_MISSING, "the installed magika package holds no ONNX model")
    return folders[-1].parent


def _missing(error: ImportError) -> DemoError:
    return DemoError(
        DemoCode.EXTRAS_MISSING,
        f"the demonstration needs the package {error.name}",
        remedy="pip install 'strongroom[demo]'",
    )
