"""The graph for the screen: every layer is found in it, with the plan's figures and the plan's weights."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer
import sample_models
from explorer.export import annotated as module_under_test
from explorer.export import onnx_graph, skeleton
from explorer.export.annotated import annotated
from explorer.export.fold import consumers, fold

OPERATORS = {
    "conv": {"Conv"}, "linear": {"Gemm", "MatMul"}, "rnn": {"RNN"}, "lstm": {"LSTM"}, "gru": {"GRU"},
    "embedding": {"Gather"}, "other": {"Add"},
}  # fmt: skip


LONG = ("moby-lstm", "surnames-gru", "vowels-lstm")  # to export


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in sample_models.SAMPLES]
)
def test_every_layer_of_every_sample_has_its_node(subject_of, recipe_of, name: str, device: str) -> None:
    subject = subject_of(name)
    recipe = recipe_of(subject, "all")
    plan = explorer.resolve(subject, recipe)
    graph = annotated(subject, plan)
    model = onnx.load_from_string(graph.onnx)
    nodes = {node.name: node for node in model.graph.node}
    assert len(nodes) == len(model.graph.node) and set(graph.marks) <= set(nodes)
    counted = explorer.evaluate(subject, recipe, device=device).counts.layers
    found = set()
    for node, mark in graph.marks.items():
        layers = [counted[layer] for layer in mark["layers"]]
        assert mark["layer"] == mark["layers"][0] and mark["bits"] == 4
        share = sum(one.nonzero for one in layers) / sum(one.original for one in layers)
        assert mark["sparsity"] == pytest.approx(1 - share)
        for layer in layers:
            assert nodes[node].op_type in OPERATORS[layer.kind], (layer.name, nodes[node].op_type)
            found.add(layer.name)
        props = {prop.key: prop.value for prop in nodes[node].metadata_props}
        prefix = f"{layers[0].name.rpartition('.')[2]}: " if len(layers) > 1 else ""
        assert props[f"{prefix}layer"] == layers[0].name and props[f"{prefix}bits"] == "4"
        assert props[f"{prefix}shape"] == " x ".join(map(str, layers[0].shape))
        assert props[f"{prefix}scheme"] == "symmetric, per channel"
    assert found == {layer.name for layer in subject.layers}
    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    x = subject.example(3).cpu()
    with torch.no_grad():  # the weights shown are the plan's, not the original's
        expected = explorer.compress(subject, recipe).cpu()(x)
    shown = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
    assert (shown - expected).abs().max() <= 1e-4 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize(("name", "count"), [("fashion-mlp", 6), ("fashion-lenet5", 8), ("bikes-mlp", 5)])
def test_simple_models_have_simple_pictures(subject_of, recipe_of, name: str, count: int) -> None:
    subject = subject_of(name)
    graph = annotated(subject, explorer.resolve(subject, recipe_of(subject, "all")))
    assert len(onnx.load_from_string(graph.onnx).graph.node) == count


def test_units_kept_and_batchnorm_are_shown(subject_of, recipe_of) -> None:
    subject = subject_of("fashion-resnet")
    plan = explorer.resolve(subject, recipe_of(subject, "all"))
    model = onnx.load_from_string(annotated(subject, plan).onnx)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 9  # not folded away
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert {p.key: p.value for p in first.metadata_props}["units kept"] == str(len(plan.kept["stem"])) == "8"
    assert not any(word in model.SerializeToString() for word in (b"stack_trace", b".py", b"torch.nn"))


def test_one_torch_export_a_structure_and_one_graph_a_plan(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    data = TensorDataset(torch.randn(8, 3), torch.arange(8) % 2)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(device)
    subject = explorer.Subject(net, explorer.Task.classification(validation=data))
    calls = []
    honest = onnx_graph.to_onnx
    monkeypatch.setattr(skeleton, "to_onnx", lambda *a, **k: calls.append(1) or honest(*a, **k))
    original = explorer.resolve(subject, explorer.Recipe())
    half = explorer.resolve(subject, explorer.Recipe().prune("*", sparsity=0.5))
    assert annotated(subject, original) is annotated(subject, original)
    assert [mark["sparsity"] for mark in annotated(subject, original).marks.values()] == [0.0, 0.0]
    assert [mark["sparsity"] for mark in annotated(subject, half).marks.values()] == [0.5, 0.5]
    assert [mark["bits"] for mark in annotated(subject, half).marks.values()] == [32, 32]
    assert len(calls) == 1
    annotated(subject, explorer.resolve(subject, explorer.Recipe().prune("0", sparsity=0.5, granularity="unit")))
    assert len(calls) == 2


def test_large_weights_are_left_out_of_the_picture(subject_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "PICTURE", 50_000)
    subject = subject_of("fashion-mlp")
    graph = annotated(subject, explorer.resolve(subject, explorer.Recipe().prune("fc3", sparsity=0.25)))
    assert len(graph.onnx) < 60_000
    dims = {one.name: tuple(one.dims) for one in onnx.load_from_string(graph.onnx).graph.initializer}
    assert dims["fc1.weight"] == (300, 784) and len(graph.marks) == 3


def test_folding_remembers_where_entries_come_from() -> None:
    h = onnx.helper
    one = onnx.numpy_helper.from_array
    import numpy as np

    weights = [one(np.arange(4, dtype=np.float32), "a"), one(np.ones(4, np.float32), "b"), one(np.int64([1]), "axis")]
    nodes = [
        h.make_node("Concat", ["a", "b"], ["ab"], axis=0),
        h.make_node("Unsqueeze", ["ab", "axis"], ["w"]),
        h.make_node("Shape", ["a"], ["size"]),
        h.make_node("MatMul", ["x", "w"], ["y"]),
        h.make_node("Reshape", ["y", "size"], ["unread"]),
    ]
    value = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g", [value("x", 1, ["n", 8])], [value("y", 1, ["n", 1])], weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)])
    sources = fold(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert sources == {"w": frozenset({"a", "b"})}  # entries come from there; an axis is none
    assert {name: len(found) for name, found in consumers(model, sources).items()} == {"a": 1, "b": 1}
    onnx.checker.check_model(model, full_check=True)
