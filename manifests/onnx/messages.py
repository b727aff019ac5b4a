"""The messages of ONNX (onnx.proto of version 1.23, IR version 14), as far as the check looks at them.

Names are those of onnx.proto.  A field that is absent has the default that protobuf gives it.  Bytes are views into the
model: nothing copies weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Views = list[memoryview]


@dataclass(slots=True)
class OperatorSet:
    """OperatorSetIdProto."""

    domain: str = ""
    version: int = 0


@dataclass(slots=True)
class Entry:
    """StringStringEntryProto, of external data."""

    key: str = ""
    value: str = ""


@dataclass(slots=True)
class Tensor:
    """TensorProto.  Numbers are in exactly one of the ..._data fields, raw_data, or external data."""

    dims: tuple[int, ...] = ()
    data_type: int = 0
    segment: bool = False
    float_data: Views = field(default_factory=list)
    int32_data: Views = field(default_factory=list)
    string_data: Views = field(default_factory=list)
    int64_data: Views = field(default_factory=list)
    name: str = ""
    raw_data: memoryview | None = None
    external_data: list[Entry] = field(default_factory=list)
    data_location: int = 0
    double_data: Views = field(default_factory=list)
    uint64_data: Views = field(default_factory=list)


@dataclass(slots=True)
class SparseTensor:
    """SparseTensorProto: values, and where they stand in a tensor of shape `dims`."""

    values: Tensor = field(default_factory=Tensor)
    indices: Tensor = field(default_factory=Tensor)
    dims: tuple[int, ...] = ()


@dataclass(slots=True)
class Dimension:
    """TensorShapeProto.Dimension: a number, or a name, or neither."""

    dim_value: int | None = None
    dim_param: str | None = None


@dataclass(slots=True)
class Shape:
    """TensorShapeProto."""

    dim: list[Dimension] = field(default_factory=list)


@dataclass(slots=True)
class TensorType:
    """TypeProto.Tensor or TypeProto.SparseTensor; `shape` is None where even the rank is open."""

    elem_type: int = 0
    shape: Shape | None = None


@dataclass(slots=True)
class Type:
    """TypeProto: exactly one of its kinds is set in a model that passes."""

    tensor_type: TensorType | None = None
    sequence_type: Element | None = None
    map_type: MapType | None = None
    optional_type: Element | None = None
    sparse_tensor_type: TensorType | None = None
    opaque_type: bool = False


@dataclass(slots=True)
class Element:
    """TypeProto.Sequence or TypeProto.Optional."""

    elem_type: Type | None = None


@dataclass(slots=True)
class MapType:
    """TypeProto.Map."""

    key_type: int = 0
    value_type: Type | None = None


@dataclass(slots=True)
class ValueInfo:
    """ValueInfoProto."""

    name: str = ""
    type: Type | None = None


@dataclass(slots=True)
class Attribute:
    """AttributeProto.  `floats` is float32, `ints` int64."""

    name: str = ""
    ref_attr_name: str = ""
    type: int = 0
    f: float | None = None
    i: int | None = None
    s: memoryview | None = None
    t: Tensor | None = None
    g: Graph | None = None
    sparse_tensor: SparseTensor | None = None
    tp: Type | None = None
    floats: Any = field(default_factory=lambda: np.empty(0, np.float32))
    ints: Any = field(default_factory=lambda: np.empty(0, np.int64))
    strings: Views = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    sparse_tensors: list[SparseTensor] = field(default_factory=list)
    type_protos: list[Type] = field(default_factory=list)


@dataclass(slots=True)
class Node:
    """NodeProto."""

    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    name: str = ""
    op_type: str = ""
    domain: str = ""
    overload: str = ""
    attribute: list[Attribute] = field(default_factory=list)
    device_configurations: bool = False


@dataclass(slots=True)
class Graph:
    """GraphProto."""

    node: list[Node] = field(default_factory=list)
    name: str = ""
    initializer: list[Tensor] = field(default_factory=list)
    sparse_initializer: list[SparseTensor] = field(default_factory=list)
    input: list[ValueInfo] = field(default_factory=list)
    output: list[ValueInfo] = field(default_factory=list)
    value_info: list[ValueInfo] = field(default_factory=list)


@dataclass(slots=True)
class Function:
    """FunctionProto."""

    name: str = ""
    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    attribute: list[str] = field(default_factory=list)
    attribute_proto: list[Attribute] = field(default_factory=list)
    node: list[Node] = field(default_factory=list)
    opset_import: list[OperatorSet] = field(default_factory=list)
    domain: str = ""
    overload: str = ""
    value_info: list[ValueInfo] = field(default_factory=list)


@dataclass(slots=True)
class Model:
    """ModelProto."""

    ir_version: int = 0
    opset_import: list[OperatorSet] = field(default_factory=list)
    producer_name: str = ""
    producer_version: str = ""
    model_version: int = 0
    graph: Graph | None = None
    training_info: bool = False
    functions: list[Function] = field(default_factory=list)
    configuration: bool = False
