"""Pre- and post-processing: the steps of `manifests.steps`, compiled to functions over named arrays.

Each is exact about types: a step computes in the tensor's own float type and gives what the manifest announces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from enclave.components import Component, Parts, Step
from enclave.errors import EnclaveCode, EnclaveError
from enclave.spelling import TableWords, Words
from enclave.validate import Tensors
from enclave.values import Array
from manifests.model import ModelManifest
from manifests.steps import (
    ArgMax,
    Cast,
    Crop,
    Image,
    Label,
    LabelOnly,
    PostStep,
    PreStep,
    Round,
    Scale,
    Select,
    Sigmoid,
    Softmax,
    Threshold,
    TopK,
    Whole,
)
from manifests.tensors import Axis, Dimension, TensorField


def compile_pre(
    manifest: ModelManifest, components: Mapping[str, Component] | None = None, parts: Parts | None = None
) -> tuple[Step, ...]:
    """Return the manifest's pre-processing; the steps never write into the request's own buffers.

    components: those that this enclave has.  parts: the sealed parts that the steps name.  Raises EnclaveError
    `component-missing`, and `model-unusable` for a part that is missing or cannot be read.
    """
    steps = [Whole(step) if manifest.stages and isinstance(step, Image) else step for step in manifest.pre]
    return tuple(_pre(step, components or {}, parts or {}) for step in steps)


def compile_crop(crop: Crop, components: Mapping[str, Component]) -> Step:
    """Return what cuts boxes out of a picture; raises EnclaveError `component-missing`."""
    return need_component(crop.component, components).compile(crop, {})


def compile_post(manifest: ModelManifest, components: Mapping[str, Component] | None = None) -> tuple[Step, ...]:
    """Return the manifest's post-processing; where there is any, it starts with the shapes of the graph's outputs.

    Raises EnclaveError `component-missing`.
    """
    if not manifest.post:
        return ()
    labels = np.array(manifest.labels, dtype=object)
    shapes = _check_shapes(manifest.answered_outputs())
    return shapes, *(_post(step, labels, components or {}) for step in manifest.post)


def _check_shapes(outputs: Sequence[TensorField]) -> Step:
    """Hold a graph to the shapes that its manifest announces, which the steps rely on."""

    def check(tensors: Tensors) -> Tensors:
        if all(_fits(tensors[output.name].shape, output.shape) for output in outputs):
            return tensors
        raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model gave an output of another shape than announced")

    return check


def _fits(shape: tuple[int, ...], announced: Sequence[Dimension]) -> bool:
    if len(shape) != len(announced):
        return False
    pairs = zip(shape, announced, strict=True)
    return all(a.minimum <= n <= a.maximum if isinstance(a, Axis) else n == a for n, a in pairs)


def run_steps(steps: Sequence[Step], tensors: Tensors) -> Tensors:
    """Run steps in order; arithmetic on extreme values gives infinities and NaN as IEEE 754 has it."""
    if not steps:
        return tensors
    with np.errstate(all="ignore"):
        for step in steps:
            tensors = step(tensors)
    return tensors


def _pre(step: PreStep | Whole, components: Mapping[str, Component], parts: Parts) -> Step:
    match step:
        case Scale(name, mean, std):
            return _on(name, lambda x: (x - np.asarray(mean, x.dtype)) / np.asarray(std, x.dtype))
        case Cast(name, dtype):
            return _on(name, lambda x: x.astype(dtype))
        case _:
            return need_component(step.component, components).compile(step, parts)


def check_components(manifest: ModelManifest, components: Mapping[str, Component]) -> None:
    """Refuse a model that needs what this enclave does not have; raises EnclaveError `component-missing`."""
    for name in manifest.components():
        need_component(name, components)


def compile_words(manifest: ModelManifest, components: Mapping[str, Component], parts: Parts) -> Words | None:
    """Return what the tokens of a model that generates stand for, or None for a model that does not.

    Raises EnclaveError `component-missing`, and `model-unusable` for a tokenizer that is missing or cannot be used.
    """
    generation = manifest.serving.generation
    if generation is None:
        return None
    size = generation.vocabulary_size({tensor.name: tensor for tensor in manifest.outputs})
    if generation.tokenizer is None:
        return TableWords(manifest, size)
    return need_component("text", components).words(generation.tokenizer, parts, size, generation.context)


def need_component(name: str, components: Mapping[str, Component]) -> Component:
    """Return a component that a model needs; raises EnclaveError `component-missing`."""
    if name in components:
        return components[name]
    raise EnclaveError(
        EnclaveCode.COMPONENT_MISSING,
        f"the model needs the component {name!r}, which this enclave does not have",
        remedy=f"render the enclave's manifest with --component {name}: its measurement changes",
    )


def _post(step: PostStep, labels: Array, components: Mapping[str, Component]) -> Step:
    match step:
        case Select(names):
            return lambda tensors: {name: tensors[name] for name in names}
        case Softmax(name, axis):
            return _on(name, lambda x: _softmax(x, axis))
        case Sigmoid(name):
            return _on(name, lambda x: np.asarray(1 / (1 + np.exp(-x)), x.dtype))
        case ArgMax(name):
            return _on(name, lambda x: np.asarray(np.argmax(x, axis=-1), np.int64))
        case Threshold(name, at):
            return _on(name, lambda x: np.asarray(x >= np.asarray(at, x.dtype)))
        case Round(name, decimals):
            return _on(name, lambda x: _round(x, decimals))
        case TopK(name, k):
            return lambda tensors: _top_k(tensors, name, k)
        case Label(name):
            return _on(name, lambda x: _label(x, labels))
        case LabelOnly(name):
            return lambda tensors: {"label": _label_only(tensors[name], labels)}
        case _:
            return need_component(step.component, components).compile(step, {})


def _on(name: str, function: Callable[[Array], Array]) -> Step:
    return lambda tensors: {**tensors, name: function(tensors[name])}


def _softmax(x: Array, axis: int) -> Array:
    shifted = np.exp(x - x.max(axis=axis, keepdims=True)) if x.size else x
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True), x.dtype)


def _round(x: Array, decimals: int) -> Array:
    """Round in float64, where fifteen decimals of a float16 do not overflow; what still would stays as it is."""
    rounded = np.round(x.astype(np.float64), decimals)
    return np.where(np.isfinite(rounded), rounded, x).astype(x.dtype)


def _top_k(tensors: Tensors, name: str, k: int) -> Tensors:
    """Sort the reversed axis, stably, and reverse that: equal values keep ascending indices."""
    x = tensors[name]
    last = x.shape[-1] - 1
    order = last - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :k]
    others = {other: value for other, value in tensors.items() if other != name}
    values = np.take_along_axis(x, order, axis=-1)
    return {**others, f"{name}_values": values, f"{name}_indices": order.astype(np.int64)}


def _label(x: Array, labels: Array) -> Array:
    if x.size and not (x.min() >= 0 and x.max() < len(labels)):
        raise EnclaveError(EnclaveCode.INFERENCE_FAILED, "the model gave a class that has no label")
    return np.asarray(labels[x.astype(np.int64)], dtype=object)


def _label_only(x: Array, labels: Array) -> Array:
    classes = x if x.dtype.kind in "iu" else np.argmax(x, axis=-1)
    return _label(classes, labels) if len(labels) else np.asarray(classes, np.int64)
