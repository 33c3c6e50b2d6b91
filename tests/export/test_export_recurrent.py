"""Recurrent models whose layers lost units: every format, the picture, and quantized as well."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import ExportError, LoadError
from explorer.export.annotated import annotated
from explorer.export.exporters.onnx import open_session
from explorer.export.rebuild import rebuild
from explorer.export.spec import trace
from explorer.models.calls import Call
from explorer.models.stack import RecurrentStack
from explorer.models.subject import Subject
from explorer.models.trial import difference, tensors
from tests.models.recurrent_nets import Cells, Last, Packed, Pair, Started
from tests.models.test_flow_recurrent import of, tokens

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def cut(targets: Any, bits: int | None = None) -> explorer.Recipe:
    recipe = explorer.Recipe().prune(targets, sparsity=0.5, granularity="unit")
    return recipe.quantize("*", bits=bits, granularity="channel") if bits else recipe


def exported(subject: Subject, recipe: explorer.Recipe, folder: Path) -> onnx.ModelProto:
    """Export, load both files again, and compare them with the compressed module at another batch size."""
    digest = subject.digest
    before = {name: tensor.clone() for name, tensor in subject.module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        device = next(subject.module.parameters()).device
        bundle = explorer.export(subject, recipe, folder / "bundle", ("safetensors", "onnx"), device=device)
    assert bundle.notes == () and bundle.checks["model.safetensors"] <= 1e-6 and bundle.checks["model.onnx"] <= 1e-4
    module, loaded = explorer.compress(subject, recipe).cpu(), explorer.load_exported(bundle.folder)
    assert list(loaded.state_dict()) == list(module.state_dict())
    session = open_session(bundle.folder / "model.onnx")
    x = subject.example(7).cpu()
    with torch.no_grad():
        expected = module(x)
        assert difference(expected, loaded(x)) == 0
    found = [torch.from_numpy(one) for one in session.run(None, {"input": x.numpy()})]
    assert difference(tensors(expected), found) <= 1e-4
    assert Subject(subject.module, subject.task).digest == digest
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.module.state_dict().items())
    return onnx.load(bundle.folder / "model.onnx")


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type in OPERATORS.values()]


SAMPLES = [
    ("vowels-lstm", ["*"], nn.LSTM, None),
    ("vowels-lstm", ["lstm.weight_hh_l0"], RecurrentStack, 4),
    ("surnames-gru", ["gru.weight_hh_l0_reverse"], RecurrentStack, None),
    ("vowels-rnn", ["*"], nn.RNN, 4),
    ("vowels-rnn", ["rnn.weight_hh_l1"], RecurrentStack, None),
    ("moby-lstm", ["*"], nn.LSTM, None),
]
SLOW = (0, 1, 2, 5)  # what the newer ONNX exporter takes long for


@pytest.mark.parametrize(
    ("name", "targets", "kind", "bits"),
    [pytest.param(*row, marks=pytest.mark.slow if i in SLOW else ()) for i, row in enumerate(SAMPLES)],
)
def test_samples(subject_of: Any, tmp_path: Path, name: str, targets: Any, kind: type[nn.Module], bits: int) -> None:
    subject, recipe = subject_of(name), cut(targets, bits)
    model = exported(subject, recipe, tmp_path)
    short = name.rpartition("-")[2]
    assert type(getattr(explorer.compress(subject, recipe), short)) is kind
    assert set(operators(model)) == {OPERATORS[short]}  # never unrolled over time


NETS = {
    "rnn-both": (
        lambda device: of(Last(nn.RNN, "pair", both=True, nonlinearity="relu"), device),
        ["rnn.weight_hh_l0_reverse"],
        3,
    ),
    "gru-both": (lambda device: of(Last(nn.GRU, "pair", both=True), device), ["rnn.weight_hh_l1"], 3),
    "lstm-no-bias": (lambda device: of(Last(nn.LSTM, "final", layers=3, bias=False), device), ["rnn.weight_hh_l1"], 3),
    "whole-state": (lambda device: of(Last(nn.GRU, "all", both=True), device), ["*"], 2),
    "packed-equal": (lambda device: tokens(Packed(nn.GRU, both=True, final=True), device), ["*"], 2),
    "packed-stack": (lambda device: tokens(Packed(nn.LSTM, final=True), device), ["rnn.weight_hh_l0"], 2),
    "packed-rnn": (lambda device: tokens(Packed(nn.RNN, final=True), device), ["rnn.weight_hh_l0"], 2),
    "pair": (lambda device: of(Pair(nn.GRU, 2), device), ["encoder.weight_hh_l0"], 4),
    "learned": (lambda device: of(Started(nn.LSTM, "learned"), device), ["rnn.weight_hh_l0"], 2),
    "cells": (lambda device: of(Cells(nn.LSTMCell, "own"), device), ["*"], 0),
}
FAST = ("rnn-both", "packed-rnn", "packed-stack")


@pytest.mark.parametrize("net", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in NETS])
def test_nets_around_recurrent_layers(net: str, tmp_path: Path, device: str) -> None:
    make, targets, count = NETS[net]
    subject: Subject = make(device)
    assert len(operators(exported(subject, cut(targets, 8), tmp_path))) == count


@pytest.mark.parametrize(
    ("name", "targets"),
    [("vowels-rnn", ["rnn.weight_hh_l0"]), pytest.param("surnames-gru", ["gru.weight_hh_l0"], marks=pytest.mark.slow)],
)
def test_every_layer_of_a_stack_has_its_node(subject_of: Any, name: str, targets: Any) -> None:
    subject = subject_of(name)
    graph = annotated(subject, explorer.resolve(subject, cut(targets)))
    nodes = {node.name: node for node in onnx.load_from_string(graph.onnx).graph.node}
    at = {layer: name for name, mark in graph.marks.items() for layer in mark["layers"]}
    assert set(at) == {layer.name for layer in subject.layers}
    for layer in subject.layers:
        if layer.kind in OPERATORS:
            assert nodes[at[layer.name]].op_type == OPERATORS[layer.kind]
    props = {p.key: p.value for p in nodes[at[targets[0]]].metadata_props}
    assert any(key.endswith("units kept") for key in props)


def test_projections_are_refused_by_onnx_alone(tmp_path: Path, device: str) -> None:
    subject = of(Last(nn.LSTM, "final", proj_size=3), device)
    with pytest.raises(ExportError, match="rnn is an LSTM with projections, which the LSTM operator of ONNX"):
        explorer.export(subject, cut(["rnn.weight_hh_l0"]), tmp_path / "onnx", "onnx", device=device)
    bundle = explorer.export(subject, cut(["rnn.weight_hr_l0"]), tmp_path / "plain", "safetensors", device=device)
    assert bundle.checks == {"model.safetensors": 0.0} and bundle.notes == ()


@pytest.mark.slow
def test_packed_directions_of_different_sizes_are_refused_by_onnx_alone(tmp_path: Path, device: str) -> None:
    subject = tokens(Packed(nn.RNN, both=True, final=True), device)
    with pytest.raises(ExportError, match="pack_padded_sequence"):
        explorer.export(subject, cut(["rnn.weight_hh_l0"]), tmp_path / "onnx", "onnx", device=device)
    bundle = explorer.export(subject, cut(["rnn.weight_hh_l0"]), tmp_path / "plain", "safetensors", device=device)
    assert bundle.checks["model.safetensors"] == 0 and bundle.notes == ()


class Returning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = RecurrentStack(
            "LSTM", 5, (4, 3, 2, 2), batch_first=True, bidirectional=True, proj_sizes=(2, 3, 2, 1)
        )

    def forward(self, x: Tensor) -> Any:
        return self.rnn(x)


def _spec(device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    module = Returning()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    spec, weights = trace(module.to(device), Call((torch.randn(2, 3, 5).to(device),), {}))
    return json.loads(json.dumps(spec)), weights


def test_a_stack_comes_back_from_its_spec(device: str) -> None:
    spec, weights = _spec(device)
    again = rebuild(spec, weights)
    module = Returning()
    module.load_state_dict(weights)
    x = torch.randn(3, 4, 5)
    with torch.no_grad():
        assert difference(module(x), again(x)) == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_sizes", {"tuple": [1] * 5000}, "whole numbers above 0"),
        ("hidden_sizes", {"tuple": [4, -3, 2, 2]}, "whole numbers above 0"),
        ("proj_sizes", [2, 3, 2, 1], "whole numbers above 0"),
        ("hidden_sizes", {"tuple": [4, 3, 2]}, "one a layer and direction"),
        ("hidden_sizes", {"tuple": [2**31 - 1] * 4}, "spec"),
        ("mode", "forward", "mode 'forward'"),
    ],
)
def test_hostile_sizes_of_a_stack_are_refused(key: str, value: Any, message: str, device: str) -> None:
    spec, weights = _spec(device)
    spec["modules"]["rnn"]["arguments"][key] = value
    with pytest.raises(LoadError, match=message):
        rebuild(spec, weights)
