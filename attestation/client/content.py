"""For clients that know nothing of tensors: a text, a picture or a recording in, labels with their scores out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from attestation.client.errors import ClientCode, ClientError
from attestation.client.files import MAX_INPUT
from attestation.client.models import Axis, ModelInfo, ModelName, Prediction, TensorInfo, name_invalid
from attestation.client.refusals import UnsentError
from manifests.files import read_bounded

FILES = ("image", "audio")
"""Kinds of content that travel as the bytes of a file."""


class Label(NamedTuple):
    """What a model says of a content; the score is None where its owner gives out none."""

    name: str
    score: float | None


class Found(NamedTuple):
    """What a pipeline has read in one place of a picture; the score is None where its owner gives out none.

    box: left, top, right and bottom, as fractions of the picture set upright.
    """

    name: str
    score: float | None
    box: tuple[float, float, float, float]


Labels: TypeAlias = tuple[Label, ...] | tuple[Found, ...]
"""What a content is answered by: labels, or those of a pipeline, each with its place in the picture."""


@runtime_checkable
class Picture(Protocol):
    """A picture in memory, such as one of Pillow's, which writes itself."""

    def save(self, fp: Any, format: str) -> None:  # noqa: A002 - Pillow's word
        """Write a file of this format."""


Content: TypeAlias = str | bytes | Path | Picture
"""A text; or the bytes of a file, its path, or a picture."""


def find(models: Iterable[ModelInfo], model: str | bytes) -> ModelInfo | None:
    """Return the listed model of that name or digest, the newest where there are several; raises ClientError."""
    name = ModelName.parse(model)
    found = [
        known
        for known in models
        if name.digest == known.digest or (name.name == known.name and name.owner in {None, known.owner})
    ]
    return max(found, key=lambda known: known.epoch, default=None)


def newest(models: Iterable[ModelInfo], model: str | bytes) -> ModelInfo:
    """Return the model that `find` finds; raises ClientError `model-name-invalid` where there is none."""
    found = find(models, model)
    if found is None:
        raise name_invalid("the enclave lists no such model", model.hex() if isinstance(model, bytes) else model)
    return found


def inputs_of(model: ModelInfo, content: Content, kind: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return the one input that the model takes a content as.

    kind: "text", "image" or "audio", where the caller knows.  Raises ClientError `content-unfit` for a model that
    takes nothing of this kind, or more than one input; and ManifestError where a file cannot be read.
    """
    if isinstance(content, list | tuple):
        raise ClientError(
            ClientCode.CONTENT_UNFIT,
            "one content is asked of at a time: a text, the bytes of a file, its path, or a picture",
            expected="one text, or one file",
            found=type(content).__name__,
            remedy="ask of each content by itself; several at once go to `infer`, as a tensor",
        )
    if model.generates:
        raise ClientError(
            ClientCode.CONTENT_UNFIT,
            f"model {model.name!r} cannot be asked so: it generates text",
            remedy="use `strongroom generate`, in Python `Session.generate`",
        )
    if len(model.inputs) != 1:
        raise _unfit(model, f"it has {len(model.inputs)} inputs, and so one content does not fill them")
    (tensor,) = model.inputs
    taken = model.takes.get(tensor.name, "text" if tensor.dtype == "string" else "numbers")
    given = ("text",) if isinstance(content, str) else FILES
    if taken not in given or kind not in {None, taken}:
        raise _unfit(model, f"it takes {taken}, and this is {kind or ' or '.join(given)}")
    if isinstance(content, str):
        return {tensor.name: _text(tensor, content)}
    data = _file(content)
    _check_size(tensor, len(data))
    return {tensor.name: np.frombuffer(data, np.uint8)}


def _check_size(tensor: TensorInfo, size: int) -> None:
    """Refuse a file that the model does not take for its size; raises UnsentError `tensor-shape`."""
    axis = tensor.shape[0] if tensor.shape else None
    if isinstance(axis, Axis) and not max(axis.low, 1) <= size <= axis.high:
        raise UnsentError(
            "tensor-shape",
            f"the file has {size} bytes, and the model takes a file of at most {axis.high}"
            if size
            else f"the file is empty, and the model takes a file of at most {axis.high} bytes",
            tensor.name,
            "send a smaller file" if size else "name a file with something in it",
        )


def answers_of(answer: Prediction, model: ModelInfo) -> Labels:
    """Return the labels of an answer to one content, with their boxes where it is a pipeline's; raises ClientError."""
    for stage in model.stages:
        found = _read_in(answer, f"{stage.model}.", stage.boxes)
        if found is not None:
            return found
    return labels_of(answer)


def _read_in(answer: Mapping[str, Any], prefix: str, boxes: str) -> tuple[Found, ...] | None:
    """Return the best label for each box, of the outputs of one reader; None where those hold numbers alone."""
    outputs = {name: value for name, value in answer.items() if name.startswith(prefix)}
    places = answer.get(boxes)
    for name, names in outputs.items():
        if places is None or names.dtype.kind not in "UO" or not _belong(names, places):
            continue
        scores = _scores(outputs, name)
        values = [None] * len(names) if scores is None else [float(row.ravel()[0]) for row in scores]
        best = names if names.ndim == 1 else names[:, 0]
        return tuple(map(_found, best, values, places))
    return None


def _belong(names: npt.NDArray[Any], places: npt.NDArray[Any]) -> bool:
    """Tell whether there is a label, or a row of labels from the best on, for each box."""
    return names.ndim in {1, 2} and 0 not in names.shape[1:] and places.shape == (len(names), 4)


def _found(label: object, score: float | None, place: npt.NDArray[Any]) -> Found:
    left, top, right, bottom = map(float, place)
    return Found(str(label), score, (left, top, right, bottom))


def labels_of(answer: Mapping[str, npt.NDArray[Any]]) -> tuple[Label, ...]:
    """Return the labels of an answer to one content, in the order of the answer; raises ClientError.

    A text output is one of labels.  Its scores are the output of floats that goes with it: `<x>_values` beside
    `<x>_indices`, as `top_k` names them, or else one of the same shape.
    """
    for name, names in answer.items():
        if names.dtype.kind in "UO":
            scores = _scores(answer, name)
            values = [None] * names.size if scores is None else [float(score) for score in scores.ravel()]
            return tuple(Label(str(label), score) for label, score in zip(names.ravel(), values, strict=True))
    raise ClientError(
        ClientCode.ANSWER_UNLABELLED, "the model's answer holds numbers alone", found=[str(name) for name in answer]
    )


def _scores(answer: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any] | None:
    shape = answer[name].shape
    fitting = {other: value for other, value in answer.items() if value.dtype.kind == "f" and value.shape == shape}
    beside = f"{name.removesuffix('_indices')}_values"
    return fitting.get(beside, next(iter(fitting.values()), None))


def _text(tensor: TensorInfo, text: str) -> npt.NDArray[Any]:
    return np.array([text], dtype=object).reshape((1,) * len(tensor.shape))


def _file(content: bytes | Path | Picture) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, Path):
        return read_bounded(content, MAX_INPUT)
    if not isinstance(content, Picture):
        raise ClientError(
            ClientCode.CONTENT_UNFIT,
            "a content is a text, the bytes of a file, its path, or a picture",
            found=type(content).__name__,
        )
    file = io.BytesIO()
    content.save(file, format="PNG")
    return file.getvalue()


def _unfit(model: ModelInfo, why: str) -> ClientError:
    return ClientError(ClientCode.CONTENT_UNFIT, f"model {model.name!r} cannot be asked so: {why}")
