"""Linear layers on integers in graphs of all shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer


@pytest.mark.parametrize("bias", [True, False])
def test_layers_follow_each_other_with_nothing_between(bias: bool, tmp_path: Path, device: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8, bias), nn.Linear(8, 6, bias), nn.ReLU(), nn.Linear(6, 3, bias)).to(device)
    data = TensorDataset(torch.randn(16, 6), torch.randn(16, 3))
    subject = explorer.Subject(net, explorer.Task.regression(train=data, validation=data), "factors")
    bundle = explorer.export(subject, explorer.Recipe(), tmp_path / "out", formats=["onnx-int8"], device=device)
    assert bundle.agreements["model.int8.onnx"].error < 0.05
    assert not any("floats" in note for note in bundle.notes)
