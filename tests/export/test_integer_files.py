"""ONNX files of integers: kernels on integers, answers of the simulation, a quarter of the size."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer
import sample_models
from explorer.core.errors import Cancelled, VerificationError
from explorer.export import agreement
from explorer.export.agreement import compare
from explorer.export.exporters import registry
from explorer.export.integer.recipes import int4_recipe, int8_recipe
from explorer.export.session import SessionModule, open_session
from tests.contract.nets import sample

NAMES = tuple(sample_models.SAMPLES)
SLOW = set(NAMES) - {"vowels-rnn", "vowels-lstm", "bikes-mlp"}


def written(subject, name: str, recipe: explorer.Recipe, folder: Path):
    """(exporter, plan of what the file stands for, what was written)."""
    entry = registry[name]()
    plan = explorer.resolve(subject, entry.meaning(subject, recipe))
    module = explorer.compress(subject, plan).to("cpu")
    found = entry.write(subject, plan, module, folder)
    assert entry.verify(subject, plan, module, folder) <= entry.tolerance
    return entry, plan, found


def kernels(path: Path, tmp_path: Path) -> Counter[str]:
    """Operators that ONNX Runtime runs, after its optimization."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NAMES])
@pytest.mark.parametrize("format", ["onnx-int8", "onnx-int4"])
def test_a_sample_answers_as_its_simulation(name: str, format: str, tmp_path: Path, device: str) -> None:
    """On all validation samples; the simulation's figures are those of evaluating that recipe."""
    subject = sample(name, device)
    entry, plan, found = written(subject, format, explorer.Recipe(), tmp_path)
    seen = compare(subject, plan, entry.loaded(tmp_path))
    assert found.notes == ()
    if subject.task.kind != "regression":
        assert seen.same is not None and seen.same >= 0.99
    assert seen.error < 0.05
    report = explorer.evaluate(subject, entry.meaning(subject, explorer.Recipe()), device=device)
    for metric, figure in report.figures.items():
        assert seen.simulated[metric].value == pytest.approx(figure.value, abs=1e-4)
    main, original = report.main, explorer.evaluate(subject, device=device).metrics[report.main]
    lost = (original - seen.figures[main].value) * (-1 if main in report.lower_is_better else 1)
    if format == "onnx-int8" and subject.task.kind != "language_model":
        assert lost <= max(0.003, 1.01 / seen.n)
    size = (tmp_path / entry.filename).stat().st_size
    if sample_models.card(name)["parameters"] > 200_000:
        assert 4 * sample_models.card(name)["parameters"] / size >= (3.5 if format == "onnx-int8" else 6)


def test_what_each_format_adds(subject_of) -> None:
    subject = subject_of("fashion-lenet5")
    recipe = explorer.Recipe().prune("*", sparsity=0.5).quantize("conv1", bits=3).keep("fc1.weight")
    recipe = recipe.quantize("conv2", bits=6, what="activation")
    eight, four = int8_recipe(subject, recipe), int4_recipe(subject, recipe)
    plan = explorer.resolve(subject, eight)
    assert {name: codes.bits for name, codes in plan.codes.items()} == {
        "conv1.weight": 3,
        "conv2.weight": 8,
        "fc2.weight": 8,
    }
    assert {name: how.high for name, how in plan.inputs.items()} == {
        "conv1.weight": 255,
        "conv2.weight": 63,
        "fc2.weight": 255,
    }
    plan = explorer.resolve(subject, four)
    assert {name: codes.bits for name, codes in plan.codes.items()} == {
        "conv1.weight": 3,
        "conv2.weight": 4,
        "fc2.weight": 4,
    }
    assert set(plan.inputs) == {"conv2.weight"} and plan.codes["conv2.weight"].slices.size == 32
    assert plan.masks.keys() == explorer.resolve(subject, recipe).masks.keys()
    gru = subject_of("surnames-gru")
    rounded = explorer.resolve(gru, int8_recipe(gru, explorer.Recipe())).inputs
    assert set(rounded) == {"head.weight"}  # its operator computes in floats


@pytest.mark.parametrize(
    ("name", "kernel", "count", "not_left"),
    [
        ("fashion-mlp", "DynamicQuantizeMatMul", 3, "Gemm"),
        ("fashion-lenet5", "QLinearConv", 2, "Conv"),
        ("fashion-resnet", "QLinearConv", 9, "Conv"),
        ("vowels-lstm", "DynamicQuantizeLSTM", 2, "LSTM"),
    ],
)
def test_layers_run_on_integers(name: str, kernel: str, count: int, not_left: str, subject_of, tmp_path: Path) -> None:
    entry, _, _ = written(subject_of(name), "onnx-int8", explorer.Recipe(), tmp_path)
    found = kernels(tmp_path / entry.filename, tmp_path)
    assert found[kernel] == count and found[not_left] == 0


@pytest.mark.parametrize(
    "name", ["vowels-lstm", "fashion-resnet", pytest.param("surnames-gru", marks=pytest.mark.slow)]
)
def test_pruned_and_removed_units_stay_so(name: str, subject_of, tmp_path: Path) -> None:
    subject = subject_of(name)
    recipe = (
        explorer.Recipe()
        .prune([g.producers[0] for g in subject.groups], sparsity=0.5, granularity="unit")
        .prune("*", sparsity=0.4)
    )
    for format in ("onnx-int8", "onnx-int4"):
        entry, plan, _ = written(subject, format, recipe, tmp_path)
        seen = compare(subject, plan, entry.loaded(tmp_path))
        assert seen.error < 0.06
        codes = [
            t for t in onnx.load(tmp_path / entry.filename).graph.initializer if t.name.endswith(("_codes", "_w", "_r"))
        ]
        arrays = [onnx.numpy_helper.to_array(t).astype(np.int64) for t in codes]
        zeros = sum(int((a == 0).sum()) for a in arrays) / sum(a.size for a in arrays)
        assert 0.35 < zeros < 0.7


@pytest.mark.slow
def test_blocks_that_go_whole_leave_nothing_behind(subject_of, tmp_path: Path) -> None:
    subject = subject_of("fashion-vit")
    recipe = explorer.Recipe().prune("*", sparsity=0.4, granularity="layer", scope="global")
    whole, _, _ = written(subject, "onnx-int8", explorer.Recipe(), tmp_path)
    before = (tmp_path / whole.filename).stat().st_size
    entry, plan, found = written(subject, "onnx-int8", recipe, tmp_path)
    assert plan.removed and found.notes == () and (tmp_path / entry.filename).stat().st_size < 0.8 * before
    assert compare(subject, plan, entry.loaded(tmp_path)).error < 0.06
    packed, _, _ = written(subject, "packed", recipe, tmp_path)
    assert packed.verify(subject, explorer.resolve(subject, recipe), explorer.compress(subject, recipe), tmp_path) == 0


def test_stated_bits_and_codebooks_are_kept(subject_of, tmp_path: Path) -> None:
    subject = subject_of("bikes-mlp")
    first, second, third = (layer.name for layer in subject.layers)
    recipe = (
        explorer.Recipe()
        .quantize(first, bits=4, quantizer="kmeans-linear")
        .quantize(second, bits=3, granularity="channel")
    )
    recipe = recipe.quantize(third, bits=5, what="activation", clip=(-1.0, 3.0))
    entry, plan, found = written(subject, "onnx-int4", recipe, tmp_path)
    assert compare(subject, plan, entry.loaded(tmp_path)).error < 1e-5 and found.notes == ()
    model = onnx.load(tmp_path / entry.filename)
    held = {t.name: t for t in model.graph.initializer}
    table = next(t for name, t in held.items() if name.endswith("_table"))
    assert set(onnx.numpy_helper.to_array(table)) <= {*np.float32(plan.codes[first].levels()), np.float32(0)}
    assert any(node.op_type == "Clip" for node in model.graph.node)


def test_codebooks_that_differ_between_channels_stay_floats_and_it_is_said(subject_of, tmp_path: Path) -> None:
    subject = subject_of("bikes-mlp")
    first = subject.layers[0].name
    recipe = explorer.Recipe().quantize(first, bits=3, quantizer="kmeans-linear", granularity="channel")
    _, _, found = written(subject, "onnx-int8", recipe, tmp_path)
    assert first in found.notes[0] and "floats" in found.notes[0]


def test_a_hidden_state_that_no_operator_rounds_is_said(subject_of, tmp_path: Path) -> None:
    recipe = explorer.Recipe().quantize("gru.weight_hh_l0", bits=8, what="activation")
    _, _, found = written(subject_of("surnames-gru"), "onnx-int8", recipe, tmp_path)
    assert any("gru.weight_hh_l0" in note and "activations" in note for note in found.notes)


def test_bidirectional_transposed_and_grouped_layers(tmp_path: Path, device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(3, 8, 3, stride=2)
            self.norm = nn.BatchNorm1d(8)
            self.depth = nn.Conv1d(8, 8, 3, groups=8)
            self.rnn = nn.LSTM(8, 6, bidirectional=True, batch_first=True)
            self.head = nn.Linear(12, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.depth(torch.relu(self.norm(self.up(x)))).transpose(1, 2)
            return self.head(self.rnn(h)[0].mean(1))

    torch.manual_seed(0)
    data = TensorDataset(torch.randn(64, 3, 10), torch.randint(0, 4, (64,)))
    subject = explorer.Subject(Net().to(device), explorer.Task.classification(train=data, validation=data))
    for format, recipe in (
        ("onnx-int8", explorer.Recipe()),
        ("onnx-int8", explorer.Recipe().quantize("*", bits=8, scheme="affine")),
        ("onnx-int4", explorer.Recipe()),
    ):
        entry, plan, _ = written(subject, format, recipe, tmp_path)
        assert compare(subject, plan, entry.loaded(tmp_path)).error < 0.05


def test_a_bundle_says_how_far_a_file_agrees(subject_of, tmp_path: Path) -> None:
    subject = subject_of("vowels-lstm")
    bundle = explorer.export(
        subject, explorer.Recipe().prune("*", sparsity=0.3), tmp_path / "out", formats=["onnx", "onnx-int8"]
    )
    seen = bundle.agreements["model.int8.onnx"]
    assert seen.n == 24 and seen.split == "validation" and seen.same >= 0.99
    stored = json.loads((bundle.folder / "report.json").read_text(encoding="utf-8"))["agreements"]["model.int8.onnx"]
    assert stored["same_predictions"] == seen.same and stored["metrics"]["accuracy"] == seen.figures["accuracy"].value
    readme = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert "Files of integers" in readme and f"{seen.same:.2%}" in readme
    assert "model.int8.onnx" in readme and set(bundle.agreements) == {"model.int8.onnx"}


def test_a_file_that_disagrees_is_never_offered(subject_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(SessionModule):
        def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
            return super().forward(*args, **kwargs).roll(1, -1)

    kind = registry["onnx-int8"]
    monkeypatch.setattr(kind, "loaded", lambda self, folder: Wrong(open_session(folder / self.filename)))
    monkeypatch.setattr(kind, "verify", lambda *_: 0.0)
    with pytest.raises(VerificationError, match="predicts another class than its simulation"):
        explorer.export(subject_of("vowels-lstm"), explorer.Recipe(), tmp_path / "out", formats="onnx-int8")
    assert list(tmp_path.iterdir()) == []


def test_comparing_can_be_cancelled(subject_of, tmp_path: Path) -> None:
    subject = subject_of("bikes-mlp")
    entry, plan, _ = written(subject, "onnx-int8", explorer.Recipe(), tmp_path)
    with pytest.raises(Cancelled):
        compare(subject, plan, entry.loaded(tmp_path), cancel=lambda: True)
    told: list[tuple[int, int]] = []
    compare(subject, plan, entry.loaded(tmp_path), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (24, 24) and agreement.LEAST == 0.99
