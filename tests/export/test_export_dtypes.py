"""Files of models whose weights are not float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import ExportError


def subject(dtype: torch.dtype, device: str, module: nn.Module | None = None) -> explorer.Subject:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x, y = torch.randn(40, 2, 6, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    data = TensorDataset(x.to(dtype), y)
    net = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)).to(dtype)
    return explorer.Subject((module or net).to(device), explorer.Task.classification(train=data, validation=data), "narrow")


def test_sixteen_bits_round_in_another_order_and_are_offered(tmp_path: Path, device: str) -> None:
    bundle = explorer.export(subject(torch.float16, device), explorer.Recipe(), tmp_path / "out", formats=["onnx"], device=device)
    assert 0 < bundle.checks["model.onnx"] < 2e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", ["onnx-int8", "onnx-int4"])
def test_integers_are_made_of_float32_alone(dtype: torch.dtype, file: str, tmp_path: Path, device: str) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ExportError, match=rf"0\.weight is {name}; accepted for model\..*\.onnx: float32"):
        explorer.export(subject(dtype, device), explorer.Recipe(), tmp_path / "out", formats=[file], device=device)


@pytest.mark.parametrize("module", [None, "inside"])
def test_onnx_of_bfloat16_says_what_would_be_accepted(module: str | None, tmp_path: Path, device: str) -> None:
    """numpy has no such type, and ONNX Runtime no Gemm of it on the CPU."""
    own = subject(torch.float32, device, Narrowed()) if module else subject(torch.bfloat16, device)
    with pytest.raises(ExportError, match=rf"{'first' if module else '0'}\.weight is bfloat16; accepted for model\.onnx: float32"):
        explorer.export(own, explorer.Recipe(), tmp_path / "out", formats=["onnx"], device=device)


class Narrowed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 8).bfloat16(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1).bfloat16())).float())


def test_a_forward_that_goes_to_bfloat16_is_rebuilt(tmp_path: Path, device: str) -> None:
    mixed = subject(torch.float32, device, Narrowed())
    bundle = explorer.export(mixed, explorer.Recipe(), tmp_path / "out", formats=["safetensors"], device=device)
    assert not bundle.notes
    explorer.load_exported(bundle.folder)
