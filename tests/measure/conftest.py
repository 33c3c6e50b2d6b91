"""A small subject whose counts can be done by hand, and samples judged on few samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import explorer
from explorer.models.subject import Subject


@pytest.fixture(scope="session")
def small(device: str) -> Subject:
    """Linear 8 -> 16 -> 4 on 64 samples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    data = TensorDataset(torch.randn(64, 8), torch.randint(0, 4, (64,)))
    return Subject(module.to(device), explorer.Task.classification(train=data, validation=data), "small")
