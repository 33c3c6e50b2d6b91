"""A small model that can learn its task in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task


class Small(nn.Module):
    """Everything that a training has to mind: a convolution with BatchNorm, dropout, a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.Dropout(0.2)
        self.rnn, self.head = nn.GRU(8, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.bn(self.conv(x)).relu())
        return self.head(self.rnn(x.transpose(1, 2))[0][:, -1])


def learnable(n: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=generator)
    return TensorDataset(torch.randn(n, 2, 12, generator=generator) + y[:, None, None] - 1, y)


def small(device: str = "cpu") -> Subject:
    torch.manual_seed(0)
    task = Task.classification(train=learnable(97, 1), validation=learnable(60, 2), test=learnable(20, 3))
    return Subject(Small().to(device).eval(), task, "small")


RECIPE = (
    Recipe()
    .prune("rnn", sparsity=0.5)
    .prune("conv", granularity="unit", sparsity=0.25)
    .prune("head", sparsity=0.4)
    .quantize("*", bits=4, granularity="channel")
)
QUICK: dict[str, Any] = dict(epochs=3, batch=16, lr=2e-2)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())
