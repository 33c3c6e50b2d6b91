"""Small models of every kind of layer, and their tasks, for tests against gradients by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.models.subject import Subject
from explorer.models.task import to_device
from tests.contract.nets import CharLM, classification, language, randomize, tiny


class Convs(nn.Module):
    """Convolutions with groups, strides, padding and dilation, one transposed, with BatchNorm and in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 5, 3, stride=2, padding=1, output_padding=1)
        self.wide = nn.Conv2d(5, 4, (3, 1), padding="same", dilation=(2, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.first(x)), inplace=True)
        x = F.relu(self.grouped(x))
        x = F.relu(self.up(x))
        return self.head(F.relu(self.wide(x)).mean((2, 3)))


class Sounds(nn.Module):
    """One and three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(2, 4, 3, stride=2, padding=1)
        self.b = nn.Conv3d(1, 3, (2, 2, 1))
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))  # [N, 4, T]
        return self.head(F.relu(self.b(x[:, None, :, :, None])).mean((2, 3, 4)))


class Recurrent(nn.Module):
    """Two directions, two layers, and a cell, whose gradients go through time; time first."""

    def __init__(self, kind: type[nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.rnn = kind(3, 4, num_layers=2, bidirectional=True)  # type: ignore[call-arg]
        self.cell = nn.GRUCell(8, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x.transpose(0, 1))
        state = None
        for step in h:
            state = self.cell(step, state)
        return self.head(state)


class Deep(nn.Module):
    """Two layers in both directions whose hidden units can be followed."""

    def __init__(self, kind: type[nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.rnn = kind(3, 4, num_layers=2, bidirectional=True, batch_first=True)  # type: ignore[call-arg]
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


class Attending(nn.Module):
    """nn.TransformerEncoderLayer, a position, and attention to something else."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0, activation="gelu")
        self.cross = nn.MultiheadAttention(8, 4, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.block(x + self.position)
        return self.head(self.cross(h[:, :2], h, h, need_weights=False)[0].mean(1))


class Flat(nn.Module):
    """Joins samples and steps into one dim: samples cannot be told apart in it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        return self.b(F.relu(self.a(x.flatten(0, 1)))).view(n, -1, 3).mean(1)


class Twice(nn.Module):
    """One layer called twice, and a weight used without its module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(torch.tanh(self.a(x))))
        return self.head(torch.tanh(F.linear(x, self.b.weight)))


def subject(name: str, device: str = "cpu") -> Subject:
    """A randomized model by name, on a device, in float64 where the device has it."""
    torch.manual_seed(1)
    module, shape = {
        "mlp": (None, (6,)), "convs": (Convs(), (2, 6, 5)), "sounds": (Sounds(), (2, 9)), "lstm": (Recurrent(), (4, 3)),
        "gru": (Recurrent(nn.GRU), (4, 3)), "rnn": (Recurrent(nn.RNN), (4, 3)), "attention": (Attending(), (5, 8)),
        "deep": (Deep(), (4, 3)), "deep-gru": (Deep(nn.GRU), (4, 3)),
        "flat": (Flat(), (3, 4)), "twice": (Twice(), (6,)), "tokens": (CharLM(), None), "tied": (CharLM(tie=True), None),
    }[name]  # fmt: skip
    if shape is None:
        assert module is not None
        found = Subject(randomize(module), language(n=24), name)
    else:
        found = Subject(randomize(module) if module else tiny().module, classification(shape, n=40), name)
    found.module.to(device)
    return found


NAMES = ("mlp", "convs", "sounds", "lstm", "gru", "rnn", "attention", "flat", "twice", "tokens", "tied")


def looked(one: Subject, indices: Sequence[int]) -> tuple[Any, Any]:
    """Inputs and targets of training samples, on the subject's device."""
    first = next(one.module.parameters())
    return to_device(one.task.batch("train", indices), first.device)  # type: ignore[return-value]
