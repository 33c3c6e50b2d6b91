"""Bytes are those of the type that a weight has, and agree with what a file of it holds."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

import explorer
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.core.report import Counts
from explorer.evaluate.costs import counts
from explorer.files.save import compressed_graph, compressed_weights
from explorer.measure.parts import parts
from explorer.models.subject import Subject
from tests.contract.nets import tiny
from tests.files import onnx_files as files

TYPES = {
    "fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn,
}  # fmt: skip
HALF = Recipe().prune("*", sparsity=0.5)


def _counted(subject: Subject, recipe: Recipe = HALF) -> Counts:
    return counts(subject, resolve(subject, recipe))


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())


@pytest.mark.parametrize("kind", list(TYPES))
def test_a_checkpoint_counts_what_it_holds(kind: str, tmp_path: Path) -> None:
    dtype = TYPES[kind]
    tensors = {"a.weight": torch.randn(16, 8).to(dtype), "a.bias": torch.randn(16).to(dtype)}
    tensors |= {"codes": torch.ones(5, dtype=torch.int8), "rest": torch.randn(4, 4)}
    save_file(tensors, tmp_path / "w.safetensors")
    subject = explorer.load(tmp_path / "w.safetensors")
    width = dtype.itemsize
    whole = _counted(subject, Recipe())
    assert whole.sizes["dense"] == whole.bytes == _bytes(tensors) == (128 + 16) * width + 5 + 64
    assert subject.layer("a.weight").bits == whole.layers["a.weight"].bits == 8 * width
    assert subject.layer("a.weight").dtype.startswith(kind)
    pruned = _counted(subject)
    assert pruned.layers["a.weight"].bytes == 16 + 64 * width if width > 1 else 128  # bitmap and the half that is left
    assert pruned.sizes["dense"] == whole.sizes["dense"]
    for recipe in (
        HALF,
        Recipe().prune("a", sparsity=0.25).quantize("a", bits=4),
        Recipe().prune("a", sparsity=0.2, mode="scale", factor=0.3),
    ):
        written = load(compressed_weights(subject, recipe))
        assert _counted(subject, recipe).sizes["dense"] == _bytes(written)
        module = explorer.compress(subject, recipe)
        assert all(torch.equal(written[n].double(), t.double()) for n, t in module.state_dict().items())
        plan = resolve(subject, recipe)
        assert parts(subject, plan)[0].total == _counted(subject, recipe).bytes


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_a_module_of_ones_own_is_exported_as_large_as_it_counts(kind: str, tmp_path: Path, device: str) -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.norm, self.last = nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.norm(self.first(x.to(self.last.weight.dtype))))

    module = Cast().to(TYPES[kind]).eval()
    subject = tiny(module, (6,), device=device)
    subject.module.to(TYPES[kind])
    recipe = HALF.prune("first", sparsity=0.5, granularity="unit")
    explorer.export(subject, recipe, tmp_path / "out", formats=["safetensors"])
    written = load_file(tmp_path / "out" / "model.safetensors")
    floats = {name: t for name, t in written.items() if t.is_floating_point()}
    assert {t.dtype for t in floats.values()} == {TYPES[kind]}
    assert _counted(subject, recipe).sizes["dense"] == _bytes(floats) + 4  # and one counter
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| bytes, dense | {_counted(subject, Recipe()).sizes['dense']:,} | {_bytes(floats) + 4:,} |" in text


def test_a_graph_of_half_precision_counts_halves(tmp_path: Path) -> None:
    path = files.saved(files.halved(files.exported("cnn")), tmp_path / "m.onnx")
    subject, full = files.subject_of(path, "cnn"), files.torch_of("cnn")
    assert {layer.dtype for layer in subject.layers} == {"fp16"} and set(_counted(subject).dtypes) == {"fp16"}
    held = {name: p.numel() for name, p in subject.module.held().items()}
    assert _counted(subject, Recipe()).bytes == 2 * sum(held.values())
    for recipe in (Recipe(), HALF, HALF.quantize("*", bits=4)):
        graph = compressed_graph(subject, recipe)
        assert graph is not None
        weights = [numpy_helper.to_array(one) for one in onnx.load_from_string(graph).graph.initializer]
        stored = sum(one.nbytes for one in weights if one.dtype.kind == "f")
        assert stored == pytest.approx(
            _counted(subject, recipe).sizes["dense"], abs=8
        )  # a constant of the graph, at most
        assert _counted(subject, recipe).sizes["dense"] == _bytes(load(compressed_weights(subject, recipe)))
    pruned, as_floats = _counted(subject).layers["fc.weight"], _counted(full).layers["fc.weight"]
    assert pruned.nonzero == as_floats.nonzero and as_floats.bytes - pruned.bytes == 2 * pruned.nonzero


def test_four_bits_of_halves_are_not_of_floats(tmp_path: Path) -> None:
    save_file({"a.weight": torch.randn(64, 64).bfloat16()}, tmp_path / "w.safetensors")
    subject = explorer.load(tmp_path / "w.safetensors")
    four = _counted(subject, Recipe().quantize("a", bits=4))
    assert four.bytes == 64 * 64 // 2 + 4 and four.sizes["dense"] == 64 * 64 * 2
    sixteen = _counted(subject, Recipe().quantize("a", bits=16, quantizer="bf16"))
    assert sixteen.bytes == 64 * 64 * 2
