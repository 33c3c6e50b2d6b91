"""Tensors of an ONNX model by the names of their values, and torch's tensors as such."""

from __future__ import annotations

import onnx
import torch
from onnx import TensorProto
from torch import Tensor

FLOATS: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32, TensorProto.DOUBLE: torch.float64, TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
}  # fmt: skip


def by_name(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """{value name: tensor} of the main graph: initializers, and what Constant nodes hold."""
    found = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    found.setdefault(node.output[0], attribute.t)
    return found


def to_proto(value: Tensor, name: str) -> onnx.TensorProto:
    """A floating tensor, as raw data."""
    kind = next(number for number, dtype in FLOATS.items() if dtype == value.dtype)
    flat = value.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return TensorProto(name=name, data_type=kind, dims=value.shape, raw_data=data)


def check_model(model: onnx.ModelProto) -> None:
    """ONNX's own checker; it asks for the outputs' shapes, which runtimes find by themselves."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for one in copied.graph.output:
        if one.type.HasField("tensor_type") and not one.type.tensor_type.HasField("shape"):
            one.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(copied)
