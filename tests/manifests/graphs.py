"""ONNX graphs for tests, made with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

Dims = Sequence[int | str | None]


def value(name: str, dims: Dims | None, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, dims)


def graph(
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    nodes: Sequence[Any] = (),
    initializers: Sequence[Any] = (),
) -> onnx.ModelProto:
    made = helper.make_graph(list(nodes), "drawn", list(inputs), list(outputs), list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def doubling(dims: Dims = ("N", 4)) -> onnx.ModelProto:
    """y = x + x"""
    return graph([value("x", dims)], [value("y", dims)], nodes=[helper.make_node("Add", ["x", "x"], ["y"])])


def external(folder: Path, locations: Sequence[str] = ("weights/w.bin",)) -> Path:
    """Write y = x + w... with each w in a file of its own; return the graph's path."""
    nodes, tensors, last = [], [], "x"
    for number, location in enumerate(locations):
        tensor = onnx.TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", location), ("offset", "0"), ("length", "16")):
            tensor.external_data.add(key=key, value=text)
        tensors.append(tensor)
        nodes.append(helper.make_node("Add", [last, tensor.name], [f"y{number}"]))
        last = f"y{number}"
    model = graph([value("x", [4])], [value(last, [4])], nodes=nodes, initializers=tensors)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path
