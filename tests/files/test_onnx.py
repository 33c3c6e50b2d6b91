"""ONNX files as subjects: the figures of the torch model that they were made of."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import explorer
from explorer.export.exporters import registry
from tests.contract.nets import SAMPLES, few
from tests.files import onnx_files as files
from tests.files.onnx_files import HALF, gap, same_answers, subject_of, torch_of

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("bikes-mlp", "vowels-rnn")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLES])
def test_a_sample_comes_back_from_onnx_with_the_same_figures(name: str, tmp_path: Path, device: str) -> None:
    subject = few(name, 64, device)
    plain = explorer.compress(subject, explorer.Recipe()).cpu()
    registry["onnx"]().write(subject, explorer.resolve(subject, explorer.Recipe()), plain, tmp_path)
    again = explorer.load(tmp_path / "model.onnx", subject.task)
    before, after = explorer.evaluate(subject, device=device), explorer.evaluate(again, device=device)
    assert after.metrics == pytest.approx(before.metrics, rel=1e-4, abs=1e-5) and after.macs == before.macs
    assert {(one.name, one.kind, one.shape) for one in again.layers} == {
        (one.name, one.kind, one.shape) for one in subject.layers
    }
    recipe = HALF.quantize("*", bits=6, granularity="channel")
    masks, mine = explorer.resolve(subject, recipe).masks, explorer.resolve(again, recipe).masks
    for layer in again.layers:  # the exporter folds BatchNorm into convolutions: then these are the weights
        if torch.equal(again.weight(layer.name), subject.weight(layer.name).cpu()):
            assert torch.equal(mine[layer.name], masks[layer.name].cpu())
        oracle = nn.ParameterList([nn.Parameter(again.weight(layer.name).clone())])
        prune.l1_unstructured(oracle, "0", amount=0.5)
        assert torch.equal(mine[layer.name], oracle.get_buffer("0_mask").bool())
    if name != "fashion-resnet":
        first, second = (
            explorer.evaluate(subject, recipe, device=device),
            explorer.evaluate(again, recipe, device=device),
        )
        assert second.metrics == pytest.approx(first.metrics, rel=1e-3, abs=1e-4)
        assert (second.sparsity, second.macs, second.bytes, second.parameters) == (
            first.sparsity,
            first.macs,
            first.bytes,
            first.parameters,
        )


NEW = (("lstm", 21), ("transformer", 21))
OPSETS = [
    pytest.param(kind, opset, marks=() if opset == 13 or (kind, opset) in NEW else pytest.mark.slow)
    for kind in files.NETS
    for opset in range(13, 22)
]


@pytest.mark.parametrize(("kind", "opset"), OPSETS)
def test_networks_of_every_opset(kind: str, opset: int, tmp_path: Path) -> None:
    model = files.exported(kind, min(opset, 20))
    model = onnx.version_converter.convert_version(model, opset) if opset > 20 else model
    subject = subject_of(files.saved(model, tmp_path / "m.onnx"), kind)
    same_answers(subject, kind)
    reference, net = torch_of(kind), files.net(kind)
    assert {one.name: one.shape for one in subject.layers} == {
        n: tuple(p.shape) for n, p in net.named_parameters() if p.ndim > 1
    }
    if kind != "cnn":
        kinds = {one.name: one.kind for one in reference.layers}
        assert {one.name: one.kind for one in subject.layers} == kinds
    assert explorer.evaluate(subject).macs == explorer.evaluate(reference).macs
    assert subject.module.graph.opset == opset


RECIPES = {
    "hard": HALF, "2:4": explorer.Recipe().prune("fc2.weight", granularity="2:4"),
    "soft": explorer.Recipe().prune("*", sparsity=0.4, mode="scale", factor=0.3),
    "shrink": explorer.Recipe().prune("*", sparsity=0.4, mode="shrink"), "global": explorer.Recipe().prune("*", sparsity=0.4, scope="global"),
    "lamp": explorer.Recipe().prune("*", sparsity=0.4, scope="global", criterion="lamp"),
    "bits": explorer.Recipe().quantize("*", bits=3, granularity="channel"), "affine": explorer.Recipe().quantize("*", bits=4, scheme="affine"),
    "codebook": explorer.Recipe().quantize("*", bits=2, quantizer="kmeans-linear"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        pytest.param(kind, what, marks=() if kind == "lstm" or what == "2:4" else pytest.mark.slow)
        for kind in ("lstm", "gru", "rnn", "transformer")
        for what in RECIPES
    ],
)
def test_recipes_mean_the_same_as_for_the_torch_model(what: str, kind: str, tmp_path: Path) -> None:
    """Layouts of ONNX (transposed products, gates in another order) are not seen by a recipe."""
    recipe = RECIPES[what]
    if what == "2:4":
        recipe = explorer.Recipe().prune("up.weight" if kind == "transformer" else "head.weight", granularity="2:4")
    subject, reference = subject_of(files.saved(files.exported(kind), tmp_path / "m.onnx"), kind), torch_of(kind)
    mine, theirs = explorer.resolve(subject, recipe), explorer.resolve(reference, recipe)
    assert {n: m.tolist() for n, m in mine.masks.items()} == {n: m.tolist() for n, m in theirs.masks.items()}
    x = files.inputs(kind, 5)
    with torch.no_grad():
        found, expected = explorer.compress(subject, recipe)(x), explorer.compress(reference, recipe)(x)
    assert gap(expected, found) <= 1e-5
    assert explorer.evaluate(subject, recipe).bytes == explorer.evaluate(reference, recipe).bytes


def test_gates_are_those_of_torch(tmp_path: Path) -> None:
    subject, reference = subject_of(files.saved(files.exported("lstm"), tmp_path / "m.onnx"), "lstm"), torch_of("lstm")
    recipe = explorer.Recipe().prune("rnn.weight_hh_l0", granularity="gate", sparsity=0.5)
    name = "rnn.weight_hh_l0"
    assert torch.equal(explorer.resolve(subject, recipe).masks[name], explorer.resolve(reference, recipe).masks[name])


def test_masking_everything_changes_every_networks_outputs(tmp_path: Path) -> None:
    for kind in files.NETS:
        subject = subject_of(files.saved(files.exported(kind), tmp_path / f"{kind}.onnx"), kind)
        plain = explorer.evaluate(subject, HALF).main
        for layer in subject.layers:
            report = explorer.evaluate(subject, explorer.Recipe().prune(layer.name, threshold=1e9))
            assert report.metrics["cosine"] < 1 - 1e-6, (kind, layer.name, plain)


def test_a_large_graph_is_run_with_its_changed_weights(tmp_path: Path) -> None:
    """Above a size weights are made when their layer runs; a graph runs as a whole, and is handed all of them."""
    from explorer.compress.build import effective_weights
    from explorer.models.replica import Replica

    subject = files.subject_of(files.saved(files.exported("cnn"), tmp_path / "m.onnx"), "cnn")
    weights = effective_weights(subject, explorer.resolve(subject, files.HALF))
    x, found = files.inputs("cnn", 5), []
    for large in (None, 0):
        with Replica(subject.module, large=large).weights(weights) as masked:
            found.append(masked(x))
    assert torch.equal(*found) and files.gap(subject.module(x), found[0]) > 1e-3
