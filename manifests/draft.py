"""Model manifests and ONNX graphs: draft the one from the other, and check that they fit."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.errors import ManifestCode, ManifestError
from manifests.files import read_bounded
from manifests.model import MAX_NAME, Limits, ModelManifest, check_name
from manifests.tensors import DEFAULT_TEXT, MAX_AXIS_NAME, Axis, Dimension, TensorField

if TYPE_CHECKING:
    import onnx

MAX_GRAPH = (1 << 31) - 1
"""A protobuf message ends there; larger models keep their weights in external data."""
DEFAULT_BATCH = 64
DEFAULT_AXIS = 1024
DEFAULT_BYTES = 16 << 20

_REVIEW = "# Review: {name!r} is a dynamic axis of the graph, which does not bound it. Allow what your clients need.\n"
_HEAD = """\
# Drafted from the ONNX graph. Review it before sealing: bounds of dynamic axes, value ranges of the inputs
# (`minimum`, `maximum`), limits. docs/model-manifest.md explains every field.
"""


def load_graph(model: Path | bytes) -> onnx.ModelProto:
    """Parse an ONNX model without its external data; raises ManifestError `model-malformed` or a file's error."""
    import onnx

    data = model if isinstance(model, bytes) else read_bounded(model, MAX_GRAPH)
    try:
        graph = onnx.load_model_from_string(data)
    except Exception:  # noqa: BLE001 - protobuf's DecodeError, whose package has no type information
        graph = onnx.ModelProto()
    if not graph.opset_import or not graph.graph.output:
        raise ManifestError(ManifestCode.MODEL_MALFORMED, "the bytes are not an ONNX model")
    return graph


def draft_manifest(
    graph: onnx.ModelProto,
    *,
    owner: bytes,
    name: str | None = None,
    suggested: str | None = None,
    version: str = "1.0.0",
    epoch: int = 1,
) -> ModelManifest:
    """Describe a graph: its inputs without initializers, its outputs, and bounds for its dynamic axes.

    `name` is taken as it is.  Without one, the `suggested` name (a file's, say), or else the graph's, is made to fit.
    Raises ManifestError `field-invalid` for a name that no model can have, or `model-unsupported` for what cannot be
    served, such as sequences and maps.
    """
    name = _fitting(suggested or graph.graph.name or "model") if name is None else check_name(name)
    inputs, outputs = _Reader(graph).fields()
    return ModelManifest(name, version, epoch, owner, inputs, outputs, _limits(inputs, outputs))


def _fitting(name: str) -> str:
    return "".join("-" if character in "/*" or not character.isprintable() else character for character in name)[
        :MAX_NAME
    ]


def draft_toml(manifest: ModelManifest, *, with_owner: bool = True) -> str:
    """Return a drafted manifest as TOML that tells its owner what to review."""
    text = manifest.to_toml(with_owner=with_owner)
    for axis in _axes(manifest.inputs + manifest.outputs):
        header = f"[axes.{axis.name}]\n"
        text = text.replace(header, _REVIEW.format(name=axis.name) + header, 1)
    return _HEAD + text


def check_graph(manifest: ModelManifest, graph: onnx.ModelProto) -> None:
    """Check that the graph takes and gives what the manifest says.

    Raises ManifestError `manifest-invalid` with the tensor's name, or `model-unsupported`.
    """
    inputs, outputs = _Reader(graph).fields()
    for what, described, actual in (
        ("input", manifest.graph_inputs(), inputs),
        ("output", manifest.outputs, outputs),
    ):
        by_name = {tensor.name: tensor for tensor in actual}
        for tensor in described:
            _check_tensor(what, tensor, by_name.pop(tensor.name, None))
        if by_name and what == "input":
            raise _unfit(f"the manifest lacks the graph's input {next(iter(by_name))!r}")


def check_limits(manifest: ModelManifest) -> None:
    """Check that one row of input, and its answer, fit their limits; raises ManifestError `manifest-invalid`."""
    for name, limit, tensors in (
        ("max_request_bytes", manifest.limits.max_request_bytes, manifest.client_inputs()),
        ("max_response_bytes", manifest.limits.max_response_bytes, manifest.served_outputs()),
    ):
        least = sum(map(_least_bytes, tensors))
        if limit < least:
            raise _unfit(f"{name} is too small for the smallest of them all", f"at least {least}", limit)


def _least_bytes(tensor: TensorField) -> int:
    """Return the bytes of the smallest tensor that holds anything; a text takes a byte at least."""
    lengths = (axis if isinstance(axis, int) else max(axis.minimum, 1) for axis in tensor.shape)
    return math.prod(lengths) * (1 if tensor.dtype == "string" else _item_size(tensor.dtype))


def _check_tensor(what: str, tensor: TensorField, actual: TensorField | None) -> None:
    if actual is None:
        raise _unfit(f"the graph has no {what} {tensor.name!r}")
    if tensor.dtype != actual.dtype:
        raise _unfit(f"{what} {tensor.name!r} has another dtype in the graph", actual.dtype, tensor.dtype)
    fits = len(tensor.shape) == len(actual.shape) and all(map(_covers, actual.shape, tensor.shape))
    if not fits:
        raise _unfit(
            f"{what} {tensor.name!r} has another shape in the graph", _written(actual.shape), _written(tensor.shape)
        )


def _written(shape: tuple[Dimension, ...]) -> str:
    """Return a shape as a manifest has it, such as ["batch", 13]."""
    return json.dumps([axis.name if isinstance(axis, Axis) else axis for axis in shape])


def _covers(actual: Dimension, described: Dimension) -> bool:
    """Tell whether every length that the manifest admits is one that the graph takes."""
    if isinstance(actual, Axis):
        return True
    if isinstance(described, Axis):
        return described.minimum == described.maximum == actual
    return described == actual


class _Reader:
    """Reads the tensors of a graph, naming its dynamic axes as it goes."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        import onnx

        self._types = {
            getattr(onnx.TensorProto, name.upper()): name
            for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string")
        } | {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
        self._graph = graph.graph
        self._names: dict[str, str] = {}
        self._leading: Axis | None = None

    def fields(self) -> tuple[tuple[TensorField, ...], tuple[TensorField, ...]]:
        """Return the graph's inputs and outputs."""
        initial = {tensor.name for tensor in self._graph.initializer}
        initial |= {tensor.values.name for tensor in self._graph.sparse_initializer}
        inputs = tuple(self._field(value, is_input=True) for value in self._graph.input if value.name not in initial)
        outputs = tuple(self._field(value, is_input=False) for value in self._graph.output)
        return inputs, outputs

    def _field(self, value: Any, *, is_input: bool) -> TensorField:
        what = f"{'input' if is_input else 'output'} {value.name!r}"
        names = [value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim)]
        if not all(isinstance(name, str) for name in names):  # protobuf gives bytes where they are no UTF-8
            raise _unsupported(f"{what} has a name that is not UTF-8", "name tensors and axes in UTF-8")
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise _unsupported(
                f"{what} is no tensor but a {(kind or 'nothing').removesuffix('_type')}",
                "export the model with tensors alone; for scikit-learn classifiers switch zipmap off",
            )
        tensor = value.type.tensor_type
        if tensor.elem_type not in self._types:
            raise _unsupported(f"{what} has an element type that cannot be sent", "cast it within the graph")
        if not tensor.HasField("shape"):
            raise _unsupported(f"{what} has no rank", "give it a shape, or run onnx.shape_inference over the model")
        dtype = self._types[tensor.elem_type]
        shape = tuple(self._dimension(dim, value.name, at, is_input) for at, dim in enumerate(tensor.shape.dim))
        if is_input and self._leading is None and shape and isinstance(shape[0], Axis):
            self._leading = shape[0]
        return TensorField(value.name, dtype, shape, max_text=DEFAULT_TEXT if dtype == "string" and is_input else None)

    def _dimension(self, dim: Any, tensor: str, at: int, is_input: bool) -> Dimension:  # noqa: FBT001 - private
        if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0:
            return int(dim.dim_value)
        if not dim.dim_param and at == 0 and not is_input and self._leading:
            return self._leading
        name = self._axis_name(dim.dim_param or ("batch" if at == 0 and is_input else f"{tensor}_axis{at}"))
        if self._leading and name == self._leading.name:
            return self._leading
        return Axis(name, 1, DEFAULT_BATCH if at == 0 else DEFAULT_AXIS)

    def _axis_name(self, raw: str) -> str:
        """Return a name that TOML writes without quotes; expressions such as "2*n" stay different from each other."""
        if raw not in self._names:
            plain = re.sub(r"\W+", "_", raw, flags=re.ASCII).strip("_")[: MAX_AXIS_NAME - 4] or "axis"
            count = sum(name == plain or name.startswith(f"{plain}__") for name in self._names.values())
            self._names[raw] = f"{plain}__{count + 1}" if count else plain
        return self._names[raw]


def _limits(inputs: tuple[TensorField, ...], outputs: tuple[TensorField, ...]) -> Limits:
    """Allow the largest tensors that the bounds allow, but 16 MiB where the axes alone would allow more."""
    return Limits(max_request_bytes=_budget(inputs), max_response_bytes=_budget(outputs))


def _budget(tensors: tuple[TensorField, ...]) -> int:
    least = sum(_bytes(tensor, greatest=False) for tensor in tensors)
    most = sum(_bytes(tensor, greatest=True) for tensor in tensors)
    return max(1, least, min(most, DEFAULT_BYTES))


def _bytes(tensor: TensorField, *, greatest: bool) -> int:
    size = DEFAULT_TEXT if tensor.dtype == "string" else _item_size(tensor.dtype)
    for axis in tensor.shape:
        size *= axis if isinstance(axis, int) else (axis.maximum if greatest else axis.minimum)
    return size


def _item_size(dtype: str) -> int:
    """Return the bytes of one element of a numeric type, which its name gives in bits; a bool takes one."""
    digits = re.search(r"\d+$", dtype)
    return int(digits.group()) // 8 if digits else 1


def _axes(tensors: tuple[TensorField, ...]) -> Iterator[Axis]:
    yield from dict.fromkeys(axis for tensor in tensors for axis in tensor.shape if isinstance(axis, Axis))


def _unfit(message: str, expected: object = None, found: object = None) -> ManifestError:
    return ManifestError(
        ManifestCode.MANIFEST_INVALID,
        message,
        expected=expected,
        found=found,
        remedy="correct the manifest; `strongroom model draft` writes one that fits",
    )


def _unsupported(message: str, remedy: str) -> ManifestError:
    return ManifestError(ManifestCode.MODEL_UNSUPPORTED, message, remedy=remedy)
