"""What a bundle holds, and that a failed one leaves nothing."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import Cancelled, ExportError, RecipeError, VerificationError
from explorer.export.annotated import annotated
from explorer.export.exporters import safetensors as writer
from explorer.export.exporters.onnx import Onnx, open_session


def test_contents(exported) -> None:
    bundle = exported("fashion-lenet5")
    names = {"model.safetensors", "model.onnx", "masks.safetensors", "recipe.json", "report.json", "README.md"}
    assert set(bundle.files) == names == {path.name for path in bundle.folder.iterdir()}
    assert all(size == (bundle.folder / name).stat().st_size for name, size in bundle.files.items())
    assert (bundle.report.split, bundle.report.n) == ("test", 24)
    with zipfile.ZipFile(io.BytesIO(bundle.zip_bytes())) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {f"{bundle.folder.name}/{name}" for name in names}
    with pytest.raises(AttributeError):
        bundle.folder = Path()  # type: ignore[misc]


def test_recipe_and_report_read_back(exported, subject_of, recipe_of, device: str) -> None:
    bundle, subject = exported("fashion-lenet5"), subject_of("fashion-lenet5")
    recipe = explorer.Recipe.from_json((bundle.folder / "recipe.json").read_text(encoding="utf-8"))
    assert recipe == recipe_of(subject, "all")
    report = json.loads((bundle.folder / "report.json").read_text(encoding="utf-8"))
    test = explorer.evaluate(subject, recipe, split="test", device=device)
    assert report["splits"]["test"]["metrics"]["accuracy"]["value"] == test.metrics["accuracy"]
    assert report["original"]["test"]["n"] == 24 and report["splits"]["validation"]["split"] == "validation"
    assert report["checks"] == bundle.checks and "changed" not in report["splits"]["test"]


@pytest.mark.parametrize("name", ["fashion-lenet5", "fashion-resnet", "vowels-rnn"])
def test_masks_are_the_plans_in_the_compressed_shapes(exported, subject_of, recipe_of, name: str) -> None:
    subject = subject_of(name)
    recipe = recipe_of(subject, "all")
    plan, module = explorer.resolve(subject, recipe), explorer.compress(subject, recipe).cpu()
    masks = safetensors.torch.load_file(exported(name).folder / "masks.safetensors")
    assert set(masks) == set(plan.masks) == {layer.name for layer in subject.layers}
    weights = dict(module.named_parameters())
    for layer, mask in masks.items():
        assert mask.dtype == torch.bool and mask.shape == weights[layer].shape
        assert int(mask.sum()) == int(plan.masks[layer].sum())
        assert not weights[layer][~mask].any()


def test_readme_says_what_was_measured(exported, subject_of, device: str) -> None:
    bundle = exported("fashion-lenet5")
    text = (bundle.folder / "README.md").read_text(encoding="utf-8")
    before = explorer.evaluate(subject_of("fashion-lenet5"), split="test", device=device).metrics["accuracy"]
    for part in (
        "On the **test** split, n = 24 samples, measured, fp32",
        f"| accuracy | {before:.5g} | {bundle.report.metrics['accuracy']:.5g} |",
        "explorer.load_exported",
        "onnxruntime.InferenceSession",
        ".quantize('*', bits=4, granularity='channel')",
        f"| model.onnx | {bundle.files['model.onnx']:,} |",
        f"{bundle.report.bytes:,}",
        f"- model.onnx: {bundle.checks['model.onnx']:.1e}",
        f"torch {torch.__version__.partition('+')[0]}",
        bundle.report.recipe.digest,
    ):
        assert part in text, part


def test_readme_snippets_run(exported, subject_of, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, subject = exported("fashion-mlp"), subject_of("fashion-mlp")
    monkeypatch.chdir(bundle.folder)
    text = (bundle.folder / "README.md").read_text(encoding="utf-8")
    loading = text.partition("## Load it")[2].partition("## How it was made")[0]
    blocks = [part.partition("```")[0] for part in loading.split("```python\n")[1:]]
    seen: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), seen)  # our own text, just written
    x, found = torch.from_numpy(seen["input"]), torch.from_numpy(seen["outputs"])
    assert x.shape == subject.example(2).shape
    with torch.no_grad():
        assert (seen["module"](x) - found).abs().max() < 1e-4


def _subject(module: nn.Module, device: str) -> explorer.Subject:
    data = TensorDataset(torch.randn(8, 3), torch.arange(8) % 2)
    return explorer.Subject(module.to(device), explorer.Task.classification(validation=data), "mine")


class Branching(nn.Module):
    """Its path depends on values, so no graph can stand for it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor([2.0, 1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * self.scale if x.sum() > 1e9 else self.fc(x)


def test_weights_only_where_the_model_cannot_be_traced(tmp_path: Path, device: str) -> None:
    subject = _subject(Branching(), device)
    bundle = explorer.export(
        subject, explorer.Recipe().prune("fc", sparsity=0.5), tmp_path / "out", ["safetensors"], device=device
    )
    assert "weights only" in bundle.notes[0] and "cannot be traced" in bundle.notes[0]
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert bundle.notes[0] in text and "**Validation only**" in text and bundle.report.split == "validation"
    with pytest.raises(explorer.LoadError, match="weights only"):
        explorer.load_exported(tmp_path / "out")
    stored = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert set(stored) == {"fc.weight", "fc.bias", "scale"} and int((stored["fc.weight"] == 0).sum()) == 3


def test_a_file_that_computes_something_else_is_never_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    subject = _subject(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), device)
    honest = writer.save_file

    def off(weights: dict, path: Path, metadata: dict) -> None:
        weights["0.weight"] = weights["0.weight"] + 1e-3
        honest(weights, path, metadata)

    monkeypatch.setattr(writer, "save_file", off)
    with pytest.raises(VerificationError, match=r"model\.safetensors.*1e-06"):
        explorer.export(subject, explorer.Recipe(), tmp_path / "deep" / "out", "safetensors", device=device)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_onnx_file_is_never_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    subject = _subject(nn.Sequential(nn.Linear(3, 2)), device)
    other = _subject(nn.Sequential(nn.Linear(3, 2)), device)
    honest = Onnx.write
    monkeypatch.setattr(Onnx, "write", lambda self, s, p, m, f: honest(self, other, p, other.copy().cpu(), f))
    (tmp_path / "out").mkdir()
    with pytest.raises(VerificationError, match=r"model\.onnx"):
        explorer.export(subject, explorer.Recipe(), tmp_path / "out", ["onnx"], device=device)
    assert list((tmp_path / "out").iterdir()) == [] and len(list(tmp_path.iterdir())) == 1


def test_where_it_may_write(tmp_path: Path, device: str) -> None:
    subject = _subject(nn.Linear(3, 2), device)
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "空 folder"
    full.mkdir()
    empty.mkdir()
    (full / "precious").write_text("x", encoding="utf-8")
    file.write_text("x", encoding="utf-8")
    for taken, why in ((full, "not empty"), (file, "is a file"), (file / "below", "cannot be created; accepted: a folder that you may write to")):
        with pytest.raises(ExportError, match=why):
            explorer.export(subject, explorer.Recipe(), taken, "safetensors", device=device)
    assert [path.name for path in full.iterdir()] == ["precious"] and file.read_text(encoding="utf-8") == "x"
    bundle = explorer.export(subject, explorer.Recipe(), str(empty), "safetensors", device=device)
    assert bundle.folder == empty and "model.safetensors" in bundle.files and "model.onnx" not in bundle.files
    assert bundle.zip_path == tmp_path / "空 folder.zip" == bundle.zip_path
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["full", "file", "空 folder", "空 folder.zip"])


def test_bad_requests(tmp_path: Path, device: str) -> None:
    subject = _subject(nn.Linear(3, 2), device)
    with pytest.raises(RecipeError, match="did you mean safetensors"):
        explorer.export(subject, explorer.Recipe(), tmp_path / "out", ["safetensor"], device=device)
    with pytest.raises(RecipeError, match="no format"):
        explorer.export(subject, explorer.Recipe(), tmp_path / "out", [], device=device)
    with pytest.raises(RecipeError, match="names no layer"):
        explorer.export(subject, explorer.Recipe().prune("nope", sparsity=0.5), tmp_path / "out", device=device)
    assert list(tmp_path.iterdir()) == []


def test_progress_and_cancel(tmp_path: Path, device: str) -> None:
    subject = _subject(nn.Linear(3, 2), device)
    seen: list[tuple[int, int]] = []
    explorer.export(
        subject,
        explorer.Recipe(),
        tmp_path / "a",
        "safetensors",
        progress=lambda d, t: seen.append((d, t)),
        device=device,
    )
    assert seen[0] == (0, 1000) and seen[-1] == (1000, 1000) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        explorer.export(
            subject, explorer.Recipe(), tmp_path / "b", "safetensors", cancel=lambda: next(asked, True), device=device
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TwoInputs(nn.Module):
    """Two inputs, one of them optional and by keyword; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(
        self, x: torch.Tensor, more: torch.Tensor | None = None, scale: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.a(x) * scale
        if more is not None:
            h = h + self.b(more)
        return h, h.softmax(-1)


@pytest.mark.parametrize("kind", ["tuple", "dict", "own forward"])
def test_tasks_with_several_inputs(kind: str, tmp_path: Path, device: str) -> None:
    pairs = [(torch.randn(3), torch.randn(2)) for _ in range(6)]
    inputs = [{"x": x, "more": m} for x, m in pairs] if kind == "dict" else pairs
    task = explorer.Task(
        splits={"validation": [(one, torch.tensor(i)) for i, one in enumerate(inputs)]},
        score=lambda outputs, targets: {"first": outputs[0][:, 0]},
        **({"forward": lambda module, i: module(i[0], more=i[1], scale=2.0)} if kind == "own forward" else {}),
    )
    subject = explorer.Subject(TwoInputs().to(device), task)
    bundle = explorer.export(subject, explorer.Recipe().prune("a", sparsity=0.5), tmp_path / "out", device=device)
    assert bundle.notes == () and bundle.report.n == 6 and max(bundle.checks.values()) < 1e-6
    session = open_session(tmp_path / "out" / "model.onnx")
    names = ["input", "input_2"] if kind == "tuple" else ["x", "more"] if kind == "dict" else ["input", "more"]
    assert [one.name for one in session.get_inputs()] == names
    assert [one.name for one in session.get_outputs()] == ["output", "output_2"]
    x, more = torch.randn(3, 3), torch.randn(3, 2)
    loaded, module = explorer.load_exported(tmp_path / "out"), explorer.compress(subject, bundle.report.recipe).cpu()
    scale = {"scale": 2.0} if kind == "own forward" else {}
    assert torch.equal(loaded(x, more=more, **scale)[1], module(x, more, **scale)[1])
    assert annotated(subject, explorer.resolve(subject, bundle.report.recipe)).marks
