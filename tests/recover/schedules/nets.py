"""Tiny subjects that can be learned, and a way to look into a training after each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.loop import Training
from explorer.recover.schedules import Schedule
from explorer.recover.settings import Settings
from tests.contract.nets import MLP


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.conv2 = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.bn(self.conv1(x)).relu()).relu()
        return self.head(x.mean((2, 3)))


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (CNN, (1, 7, 7)),
    "mlp": (MLP, (6,)),
    "lstm": (LSTM, (5, 3)),
}


def learnable(shape: tuple[int, ...], n: int, seed: int) -> TensorDataset:
    """Three classes, each around a pattern of its own."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(3, *shape, generator=torch.Generator().manual_seed(99))
    y = torch.randint(0, 3, (n,), generator=generator)
    return TensorDataset(patterns[y] + torch.randn(n, *shape, generator=generator), y)


def subject(kind: str = "mlp", device: str = "cpu") -> Subject:
    torch.manual_seed(0)
    make, shape = NETS[kind]
    task = Task.classification(train=learnable(shape, 48, 1), validation=learnable(shape, 48, 2))
    return Subject(make().to(device).eval(), task, kind)


def training(
    schedule: str | Schedule,
    recipe: Recipe,
    kind: str = "mlp",
    device: str = "cpu",
    cancel: Any = None,
    **settings: Any,
) -> Training:
    """48 samples, 8 at once: six steps an epoch, each of them told."""
    given: dict[str, Any] = dict(epochs=4, batch=8, lr=0.05, optimizer="sgd", log_every=1) | settings
    return Training(subject(kind, device), recipe, Settings(**given), schedule=schedule, device=device, cancel=cancel)


def zeros(tensor: Tensor) -> int:
    return tensor.numel() - int(torch.count_nonzero(tensor))
