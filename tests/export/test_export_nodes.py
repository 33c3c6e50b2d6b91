"""Exported graphs hold the nodes that compute something, and few others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.core.errors import ExportError
from explorer.core.recipe import Recipe
from explorer.export.onnx_flatten import flatten_directions
from explorer.export.onnx_graph import to_onnx
from explorer.models.calls import calls
from tests.contract.nets import randomize, tiny
from tests.structure.zoo import UNTRACEABLE


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, x: Any) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


class Heads(nn.Module):
    """Attention of 3 heads in every form that torch.nn.functional has, one after the other."""

    def __init__(self, forms: list[dict[str, Any]]) -> None:
        super().__init__()
        self.forms, self.qkv, self.head = forms, nn.Linear(4, 36), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        for form in self.forms:
            q = F.scaled_dot_product_attention(q, k, v, **form)
        return self.head(q.transpose(1, 2).flatten(2)).mean(1)


def exported(net: nn.Module, shape: tuple[int, ...], device: str) -> onnx.ModelProto:
    subject = tiny(randomize(net), shape, device)
    module = subject.copy().cpu()
    model = to_onnx(subject, module, calls(subject, module, (2,))[0])
    for n in (1, 5):
        x = subject.task.example(n)
        assert (torch.from_numpy(run(model, x.numpy())) - module(x)).abs().max() <= 1e-5
    return model


def test_attention_is_two_products_around_a_softmax(device: str) -> None:
    model = exported(Heads([{}, {"scale": 0.3}]), (5, 4), device)
    found = kinds(model)
    assert found["Softmax"] == 2 and found["MatMul"] == 4 + 2 and found["Mul"] == 2
    assert found["Slice"] == 3 and not {"Shape", "Concat", "Sqrt"} & set(found)  # q, k and v of one product


def test_attention_with_a_mask_is_what_torch_makes_of_it(device: str) -> None:
    mask = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    model = exported(Heads([{"is_causal": True}, {"attn_mask": mask}, {"attn_mask": mask > 0.0}]), (5, 4), device)
    assert kinds(model)["Softmax"] == 3


@pytest.mark.parametrize("both", [False, True])
def test_directions_are_joined_by_one_node(both: bool, device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, 2, batch_first=True, bidirectional=both)
            self.head = nn.Linear(6 * (1 + both), 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0].mean(1))

    model = exported(Net(), (5, 4), device)
    found = kinds(model)
    assert found["LSTM"] == found["Reshape"] == 2 and not found["Mul"]
    named = {one.name for one in model.graph.initializer}
    assert len(named) == len(model.graph.initializer)
    used = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    assert named <= used  # nothing is left over


def joined(order: tuple[int, ...], start: int = 0) -> onnx.ModelProto:
    """A GRU of two directions, joined by way of its shape; ``order`` says which sizes are read."""
    constants = {"w": np.ones((2, 9, 2)), "r": np.ones((2, 9, 3))}
    tensors = [numpy_helper.from_array(one.astype(np.float32), name) for name, one in constants.items()]
    tensors += [numpy_helper.from_array(np.array([i]), f"i{i}") for i in range(6)]
    tensors.append(numpy_helper.from_array(np.array([-1]), "flat"))
    nodes = [
        helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=3, direction="bidirectional"),
        helper.make_node("Transpose", ["y"], ["moved"], perm=[0, 2, 1, 3]),
        helper.make_node("Shape", ["moved"], ["shape"], start=start),
        *(helper.make_node("Slice", ["shape", f"i{i}", f"i{i + 1}"], [f"size{n}"]) for n, i in enumerate(order)),
        helper.make_node("Mul", ["size2", "size3"], ["product"]),
        helper.make_node("Reshape", ["product", "flat"], ["last"]),
        helper.make_node("Concat", ["size0", "size1", "last"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["moved", "sizes"], ["out"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, None, 2])
    made = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], [made], tensors), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    return model


def test_only_what_joins_directions_is_rewritten() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    wanted = run(joined((0, 1, 2, 3)), x)
    simpler = flatten_directions(joined((0, 1, 2, 3)))
    assert kinds(simpler) == {"GRU": 1, "Transpose": 1, "Reshape": 1}
    assert np.array_equal(run(simpler, x), wanted) and wanted.shape == (5, 4, 6)
    for other in (joined((1, 0, 2, 3)), joined((0, 1, 3, 3)), joined((0, 1, 2, 3), start=1)):
        before = other.SerializeToString()
        assert flatten_directions(other).SerializeToString() == before


@pytest.mark.parametrize("name", ["early exit", "branch on a number that is lost", "branch on data"])
def test_a_graph_does_not_stand_for_a_forward_that_branches_on_data(name: str, device: str, tmp_path: Path) -> None:
    """Though all samples that are compared may take one way."""
    subject = next(case for case in UNTRACEABLE if case.name == name).subject(device)
    with pytest.raises(ExportError, match=r"branches on them \(nets_control\.py:\d+\)"):
        explorer.export(subject, Recipe(), tmp_path / "out", formats=["onnx"])
    bundle = explorer.export(subject, Recipe(), tmp_path / "weights", formats=["safetensors"])
    assert "weights only" in bundle.notes[0]
