"""Small networks as ONNX files of every kind: opsets, exporters, types, fixed sizes, external data, weights in nodes."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import explorer
from explorer.models.subject import Subject


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.up = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ConvTranspose2d(4, 3, 2, 2),
        )
        self.fc = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.norm(self.conv1(x)).relu()).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(4, 6, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


class Attending(nn.Module):
    """Tokens, places, a block of attention written with products, tied to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 7, 8))
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 5, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.place
        h = self.norm(x)
        q, k, v = (one(h).unflatten(-1, (2, 4)).transpose(1, 2) for one in (self.q, self.k, self.v))
        x = x + self.out(((q @ k.transpose(-1, -2)) / 2).softmax(-1).matmul(v).transpose(1, 2).flatten(2))
        return self.head((x + self.down(self.up(x).relu())).mean(1))


HALF = explorer.Recipe().prune("*", sparsity=0.5)
NETS: dict[str, Any] = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), "cnn": Conv, "rnn": lambda: Recurrent(nn.RNN),
    "lstm": lambda: Recurrent(nn.LSTM), "gru": lambda: Recurrent(nn.GRU), "transformer": Attending,
}  # fmt: skip


def net(kind: str) -> nn.Module:
    torch.manual_seed(0)
    made = NETS[kind]().eval()
    for norm in [one for one in made.modules() if isinstance(one, nn.BatchNorm2d)]:
        norm.running_mean.uniform_(-0.2, 0.2), norm.running_var.uniform_(0.5, 2)
    return made


def inputs(kind: str, n: int = 40) -> Tensor:
    made = torch.Generator().manual_seed(1)
    if kind == "transformer":
        return torch.randint(0, 11, (n, 7), generator=made)
    shape = {"mlp": (6,), "cnn": (1, 8, 8)}.get(kind, (7, 4))
    return torch.randn(n, *shape, generator=made)


def exported(
    kind: str, opset: int = 17, dynamic: bool = True, fold: bool = True, dynamo: bool = False
) -> onnx.ModelProto:
    """By torch's older exporter, which writes every opset to 20; or by the newer one."""
    return written(net(kind), inputs(kind, 3), opset, dynamic, fold, dynamo)


def written(
    module: nn.Module, x: Tensor, opset: int, dynamic: bool = True, fold: bool = True, dynamo: bool = False
) -> onnx.ModelProto:
    """A module as ONNX, its input x, its output y."""
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
            return torch.onnx.export(
                module, (x,), dynamo=True, opset_version=opset, input_names=["x"], dynamic_shapes=shapes, verbose=False
            ).model_proto
        torch.onnx.export(
            module, (x,), buffer, dynamo=False, opset_version=opset, input_names=["x"], output_names=["y"], do_constant_folding=fold,
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None,
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with every initializer in a Constant node."""
    held = [
        helper.make_node("Constant", [], [one.name], f"c{i}", value=one)
        for i, one in enumerate(model.graph.initializer)
    ]
    nodes = [*held, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with entries as numbers of protobuf and not as raw bytes."""
    for one in model.graph.initializer:
        if one.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(one).reshape(-1).tolist()
            one.ClearField("raw_data")
            one.float_data.extend(values)
    return model


def halved(model: onnx.ModelProto, inputs_too: bool = True) -> onnx.ModelProto:
    """All floats as float16."""
    for one in model.graph.initializer:
        if one.data_type == TensorProto.FLOAT:
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype("float16"), one.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(
                    numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float16"), attribute.t.name)
                )
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


def external(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Written with its weights in a file beside it."""
    onnx.save_model(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    return path


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def subject_of(path: Path, kind: str, n: int = 40) -> Subject:
    return explorer.load(path, explorer.Task.agreement(inputs(kind, n), train=inputs(kind, n)))


def torch_of(kind: str, n: int = 40) -> Subject:
    return Subject(net(kind), explorer.Task.agreement(inputs(kind, n)))


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


@torch.no_grad()
def same_answers(subject: Subject, kind: str, tolerance: float = 1e-5) -> None:
    for n in (1, 5):
        x = inputs(kind, n)
        assert gap(net(kind)(x), subject.module(x)) <= tolerance
