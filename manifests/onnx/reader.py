"""ONNX's messages out of protobuf: `read_model(data)` gives a Model or raises OnnxError, whatever the bytes are."""

from __future__ import annotations

from functools import partial

from manifests.onnx import bounds, messages
from manifests.onnx.decode import Decoder, Field, Kind, Schema
from manifests.onnx.errors import OnnxCode, OnnxError

_NOTE = Field("doc_string", Kind.NOTE)
_NOTES = Field("metadata_props", Kind.NOTES)


def _many(name: str, kind: Kind = Kind.NAME) -> Field:
    return Field(name, kind, repeated=True)


def _one(name: str, schema: str) -> Field:
    return Field(name, Kind.MESSAGE, schema=partial(_SCHEMAS.__getitem__, schema))


def _all(name: str, schema: str) -> Field:
    return Field(name, Kind.MESSAGE, repeated=True, schema=partial(_SCHEMAS.__getitem__, schema))


_SCHEMAS: dict[str, Schema] = {}
_SCHEMAS["opset"] = Schema(
    messages.OperatorSet,
    {1: Field("domain", Kind.NAME), 2: Field("version", Kind.INT64)},
    4096,
    "operator sets",
)
_SCHEMAS["entry"] = Schema(
    messages.Entry,
    {1: Field("key", Kind.NAME), 2: Field("value", Kind.NAME)},
    8 * bounds.MAX_TENSORS,
    "entries of external data",
)
_SCHEMAS["tensor"] = Schema(
    messages.Tensor,
    {
        1: Field("dims", Kind.DIMS),
        2: Field("data_type", Kind.INT32),
        3: Field("segment", Kind.FLAG),
        4: Field("float_data", Kind.PACKED_4),
        5: Field("int32_data", Kind.PACKED_VARINTS),
        6: _many("string_data", Kind.BYTES),
        7: Field("int64_data", Kind.PACKED_VARINTS),
        8: Field("name", Kind.NAME),
        9: Field("raw_data", Kind.DATA),
        10: Field("double_data", Kind.PACKED_8),
        11: Field("uint64_data", Kind.PACKED_VARINTS),
        12: _NOTE,
        13: _all("external_data", "entry"),
        14: Field("data_location", Kind.INT32),
        16: _NOTES,
    },
    bounds.MAX_TENSORS,
    "tensors",
)
_SCHEMAS["sparse"] = Schema(
    messages.SparseTensor,
    {1: _one("values", "tensor"), 2: _one("indices", "tensor"), 3: Field("dims", Kind.DIMS)},
    bounds.MAX_TENSORS,
    "sparse tensors",
)
_SCHEMAS["dimension"] = Schema(
    messages.Dimension,
    {1: Field("dim_value", Kind.INT64), 2: Field("dim_param", Kind.NAME), 3: Field("denotation", Kind.NOTE)},
    8 * bounds.MAX_VALUES,
    "axes",
)
_SCHEMAS["shape"] = Schema(messages.Shape, {1: _all("dim", "dimension")}, bounds.MAX_VALUES, "shapes")
_SCHEMAS["tensor type"] = Schema(
    messages.TensorType,
    {1: Field("elem_type", Kind.INT32), 2: _one("shape", "shape")},
    bounds.MAX_VALUES,
    "types",
)
_SCHEMAS["element"] = Schema(messages.Element, {1: _one("elem_type", "type")}, bounds.MAX_VALUES, "sequence types")
_SCHEMAS["map"] = Schema(
    messages.MapType,
    {1: Field("key_type", Kind.INT32), 2: _one("value_type", "type")},
    bounds.MAX_VALUES,
    "map types",
)
_SCHEMAS["type"] = Schema(
    messages.Type,
    {
        1: _one("tensor_type", "tensor type"),
        4: _one("sequence_type", "element"),
        5: _one("map_type", "map"),
        6: Field("denotation", Kind.NOTE),
        7: Field("opaque_type", Kind.FLAG),
        8: _one("sparse_tensor_type", "tensor type"),
        9: _one("optional_type", "element"),
    },
    bounds.MAX_VALUES,
    "descriptions of types",
)
_SCHEMAS["value"] = Schema(
    messages.ValueInfo,
    {1: Field("name", Kind.NAME), 2: _one("type", "type"), 3: _NOTE, 4: _NOTES},
    bounds.MAX_VALUES,
    "descriptions of values",
)
_SCHEMAS["attribute"] = Schema(
    messages.Attribute,
    {
        1: Field("name", Kind.NAME),
        2: Field("f", Kind.FLOAT),
        3: Field("i", Kind.INT64),
        4: Field("s", Kind.BYTES),
        5: _one("t", "tensor"),
        6: _one("g", "graph"),
        7: Field("floats", Kind.FLOATS),
        8: Field("ints", Kind.INTS),
        9: _many("strings", Kind.BYTES),
        10: _all("tensors", "tensor"),
        11: _all("graphs", "graph"),
        13: _NOTE,
        14: _one("tp", "type"),
        15: _all("type_protos", "type"),
        20: Field("type", Kind.INT32),
        21: Field("ref_attr_name", Kind.NAME),
        22: _one("sparse_tensor", "sparse"),
        23: _all("sparse_tensors", "sparse"),
    },
    bounds.MAX_ATTRIBUTES,
    "attributes",
)
_SCHEMAS["node"] = Schema(
    messages.Node,
    {
        1: _many("input"),
        2: _many("output"),
        3: Field("name", Kind.NAME),
        4: Field("op_type", Kind.NAME),
        5: _all("attribute", "attribute"),
        6: _NOTE,
        7: Field("domain", Kind.NAME),
        8: Field("overload", Kind.NAME),
        9: _NOTES,
        10: Field("device_configurations", Kind.FLAG),
    },
    bounds.MAX_NODES,
    "nodes",
)
_SCHEMAS["graph"] = Schema(
    messages.Graph,
    {
        1: _all("node", "node"),
        2: Field("name", Kind.NAME),
        5: _all("initializer", "tensor"),
        10: _NOTE,
        11: _all("input", "value"),
        12: _all("output", "value"),
        13: _all("value_info", "value"),
        14: Field("quantization_annotation", Kind.NOTES),
        15: _all("sparse_initializer", "sparse"),
        16: _NOTES,
    },
    bounds.MAX_GRAPHS,
    "graphs",
)
_SCHEMAS["function"] = Schema(
    messages.Function,
    {
        1: Field("name", Kind.NAME),
        4: _many("input"),
        5: _many("output"),
        6: _many("attribute"),
        7: _all("node", "node"),
        8: _NOTE,
        9: _all("opset_import", "opset"),
        10: Field("domain", Kind.NAME),
        11: _all("attribute_proto", "attribute"),
        12: _all("value_info", "value"),
        13: Field("overload", Kind.NAME),
        14: _NOTES,
    },
    bounds.MAX_FUNCTIONS,
    "functions",
)
_MODEL = Schema(
    messages.Model,
    {
        1: Field("ir_version", Kind.INT64),
        2: Field("producer_name", Kind.NAME),
        3: Field("producer_version", Kind.NAME),
        4: Field("domain", Kind.NOTE),
        5: Field("model_version", Kind.INT64),
        6: _NOTE,
        7: _one("graph", "graph"),
        8: _all("opset_import", "opset"),
        14: _NOTES,
        20: Field("training_info", Kind.FLAG),
        25: _all("functions", "function"),
        26: Field("configuration", Kind.FLAG),
    },
    1,
    "models",
)


def read_model(data: bytes | bytearray | memoryview) -> messages.Model:
    """Read a model; bytes of tensors are views into `data`, and are not looked at.

    Raises OnnxError `onnx-malformed`, `onnx-incomplete`, `onnx-text`, or one of the codes of wire format and bounds.
    """
    view = memoryview(data)
    if len(view) > bounds.MAX_MODEL:
        raise OnnxError(OnnxCode.SIZE, "the model is larger than a message can be", expected=bounds.MAX_MODEL)
    model: messages.Model = Decoder(view).message(_MODEL, 0, len(view))
    if model.graph is None or not model.opset_import or not model.graph.output:
        raise OnnxError(OnnxCode.INCOMPLETE, "the model lacks a graph with outputs, or its operator sets")
    return model
