"""From the frameworks in which models are made to ONNX.  Each framework is imported when one of its models comes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from manifests.errors import ManifestCode, ManifestError, StrongroomError

if TYPE_CHECKING:
    import onnx

_ML_OPSET = 3
"""Of ai.onnx.ml: the newest that skl2onnx converts every estimator to; left alone it asks for 4 and fails."""


def to_onnx(model: object, example_input: Any = None) -> onnx.ModelProto:
    """Return the ONNX form of a ModelProto, a scikit-learn estimator, a torch module or a Keras 3 model.

    Raises ManifestError `model-unsupported` for anything else, `extra-missing` where the exporter is not installed,
    and `export-failed` with the framework's own words.
    """
    framework = _framework(model)
    if framework is None:
        raise ManifestError(
            ManifestCode.MODEL_UNSUPPORTED,
            f"a {type(model).__module__}.{type(model).__qualname__} cannot be sealed",
            expected="an ONNX path, bytes or ModelProto, a scikit-learn estimator, a torch.nn.Module, a Keras 3 model",
        )
    try:
        return _EXPORTERS[framework](model, example_input)
    except StrongroomError:
        raise
    except Exception as error:  # whatever a framework raises, the caller learns that the export failed
        raise ManifestError(
            ManifestCode.EXPORT_FAILED,
            f"{framework} could not export the model: {type(error).__name__}: {str(error)[:500]}",
            remedy="export the model to ONNX yourself and seal the file",
        ) from error


def serialize(graph: onnx.ModelProto) -> bytes:
    """Return the bytes of a graph; raises ManifestError `export-failed` beyond protobuf's 2 GiB."""
    try:
        data: bytes = graph.SerializeToString()
    except ValueError:
        raise ManifestError(
            ManifestCode.EXPORT_FAILED,
            "the model is larger than 2 GiB, more than an ONNX graph holds",
            remedy="save it with external data and seal the file",
        ) from None
    return data


def _framework(model: object) -> str | None:
    """Name the framework of a model without importing any; a Keras model on torch is a torch module too."""
    packages = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    return next((name for name in _EXPORTERS if name in packages), None)


def _identity(model: Any, example_input: Any) -> onnx.ModelProto:  # noqa: ARG001 - one signature for all exporters
    if not hasattr(model, "opset_import"):
        raise ManifestError(
            ManifestCode.MODEL_UNSUPPORTED, "a part of an ONNX model cannot be sealed, only a whole one"
        )
    graph: onnx.ModelProto = model
    return graph


def _from_sklearn(model: Any, example_input: Any) -> onnx.ModelProto:
    """Convert with skl2onnx: float32 features unless the example says otherwise, and class scores as one tensor."""
    skl2onnx = _need("skl2onnx", "sklearn")
    _check_fitted(model)
    types = None
    if example_input is None:
        if not hasattr(model, "n_features_in_"):
            raise _needs_example("a fitted estimator, or one row of its input")
        tensor = _need("skl2onnx.common.data_types", "sklearn").FloatTensorType([None, model.n_features_in_])
        types = [("X", tensor)]
    export = functools.partial(
        skl2onnx.to_onnx,
        model,
        example_input,
        initial_types=types,
        target_opset={"": skl2onnx.get_latest_tested_opset_version(), "ai.onnx.ml": _ML_OPSET},
    )
    if not _need("sklearn.base", "sklearn").is_classifier(model):
        return _localised(export())
    try:
        return _localised(export(options={id(model): {"zipmap": False}}))
    except NameError:  # the converter of this classifier knows no such option, and makes a tensor anyway
        return _localised(export())


def _localised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Have texts changed in case by a locale that every enclave has, and not by en_US, which is the default."""
    onnx = _need("onnx", "sklearn")
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer" and not any(item.name == "locale" for item in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    return graph


def _check_fitted(model: Any) -> None:
    """Refuse an estimator that has learnt nothing, before its converter misses some attribute of it."""
    not_fitted = _need("sklearn.exceptions", "sklearn").NotFittedError
    try:
        _need("sklearn.utils.validation", "sklearn").check_is_fitted(model)
    except TypeError:  # what has no `fit` needs none
        return
    except not_fitted:
        raise ManifestError(
            ManifestCode.EXPORT_FAILED,
            f"the {type(model).__name__} is not fitted, call fit first",
            remedy="call its fit with the training data, then seal it",
        ) from None


def _from_torch(model: Any, example_input: Any) -> onnx.ModelProto:
    """Export with torch.onnx in evaluation mode; the first axis stays dynamic if the example has 2 rows or more."""
    torch = _need("torch", "torch")
    _need("onnxscript", "torch")
    if example_input is None:
        raise _needs_example("a tensor, or a tuple of tensors, that the module can be called with")
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    was_training = model.training
    model.eval()
    try:
        program = torch.onnx.export(model, arguments, dynamic_shapes=_leading(torch, arguments), verbose=False)
    finally:
        model.train(was_training)
    return program.model_proto  # type: ignore[no-any-return]


def _leading(torch: ModuleType, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Ask for a dynamic first axis of every tensor, which the exporter drops where the module fixes it."""
    return tuple(
        {0: torch.export.Dim.AUTO} if isinstance(item, torch.Tensor) and item.dim() else None for item in arguments
    )


def _from_keras(model: Any, example_input: Any) -> onnx.ModelProto:
    """Export with Keras' own ONNX export, into memory: nothing is written to a disk in plain text."""
    _need("onnxscript", "keras")
    if example_input is not None:
        model(example_input)  # the export needs the shapes of a model that was called
    if not model.built:
        raise _needs_example("an array that the model can be called with, or a model that was called before")
    with _memory_file() as path:
        model.export(str(path), format="onnx", verbose=False)
        return _need("onnx", "keras").load(str(path))  # type: ignore[no-any-return]


@contextlib.contextmanager
def _memory_file() -> Iterator[Path]:
    descriptor = os.memfd_create("export", os.MFD_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _need(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ManifestError(
            ManifestCode.EXTRA_MISSING,
            f"sealing a {extra} model needs the package {error.name or module}",
            remedy=f"pip install 'strongroom[{extra}]'",
        ) from None


def _needs_example(what: str) -> ManifestError:
    return ManifestError(ManifestCode.EXPORT_FAILED, "the export needs an example input", expected=what)


_EXPORTERS: dict[str, Callable[[Any, Any], onnx.ModelProto]] = {
    "onnx": _identity,
    "keras": _from_keras,
    "torch": _from_torch,
    "sklearn": _from_sklearn,
}
"""By top-level package, the more specific one first."""
