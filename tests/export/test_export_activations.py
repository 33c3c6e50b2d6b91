from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import ExportError
from explorer.core.recipe import Recipe
from explorer.models.quantized import QuantizedInputs
from tests.contract.nets import few, tiny

EIGHT = Recipe().quantize("*", bits=8).quantize("*", bits=8, what="activation")


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize("name", ["fashion-lenet5", "vowels-lstm", "fashion-vit", "attention"])
def test_a_rebuilt_model_rounds_its_activations_too(name: str, tmp_path: Path, device: str) -> None:
    subject = tiny(Attending(), (5, 8), device) if name == "attention" else few(name, device=device)
    recipe = EIGHT if name == "attention" else EIGHT.prune("*", granularity="unit", sparsity=0.3)
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=["safetensors"])
    assert bundle.checks == {"model.safetensors": 0.0} and not bundle.notes
    loaded, module = explorer.load_exported(tmp_path / "out").to(device), explorer.compress(subject, recipe)
    x = subject.example(7)
    assert torch.equal(loaded(x), module(x))
    plain = explorer.compress(subject, recipe.clear("*", kind="activation-quantize"))
    assert not torch.equal(module(x), plain(x)) and any(isinstance(one, QuantizedInputs) for one in loaded.modules())
    assert "what='activation'" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_model_whose_spec_has_no_place_for_it_is_exported_as_weights(tmp_path: Path, device: str) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x).mean(1))

    bundle = explorer.export(tiny(Encoder(), (5, 8), device), EIGHT, tmp_path / "out", formats=["safetensors"])
    assert any("round their inputs" in note for note in bundle.notes)


def test_a_graph_of_float_operators_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(ExportError, match="quantizes activations.*accepted: .*safetensors"):
        explorer.export(tiny(device=device), EIGHT, tmp_path / "out", formats=["onnx"])
    assert not (tmp_path / "out").exists()
