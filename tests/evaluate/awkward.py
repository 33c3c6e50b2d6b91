"""Models that torch.fx cannot follow, or that a replay could get wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Branches(nn.Module):
    """Asks its data which way to go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        if float(h.mean()) > 0.4:
            h = self.a(h)
        return self.last(F.relu(self.b(h)))


class InPlace(nn.Module):
    """Writes into what a layer returned, and reads it again."""

    def __init__(self, relu: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.act = nn.ReLU(inplace=True) if relu else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        y = self.act(h) if self.act is not None else h.clamp_(min=0)
        z = self.second(y)
        z += h  # h was written to
        return self.last(z)


class Twice(nn.Module):
    """Calls one module at two depths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.shared(F.relu(self.first(x))))
        return self.last(F.relu(self.shared(h)) + h)


class Dropping(nn.Module):
    """Dropout that nobody turned off."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.first(x), 0.5, training=True))


class Counting(nn.Module):
    """Keeps a count that changes what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.n = nn.Linear(6, 8), nn.Linear(8, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.last(self.first(x)) + 0 * self.n


class Running(nn.Module):
    """Writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        self.mean.mul_(0.9)
        return self.last(h - self.mean)


class Functional(nn.Module):
    """Reads a weight without calling its module, before that module is called; and branches, so that nothing traces it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) if float(x.sum()) > -1e9 else x
        h = F.relu(F.linear(h, self.second.weight.t()))
        return self.last(self.second(h))


class Hiding(nn.Module):
    """A child reads a weight that is not its own and that it holds where nobody looks."""

    class Child(nn.Module):
        def __init__(self, other: nn.Linear) -> None:
            super().__init__()
            self.own, self.held = nn.Parameter(torch.ones(8)), [other]

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.held[0].weight.t() * self.own if float(x.sum()) > -1e9 else x

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.child, self.last = self.Child(self.second), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.child(self.first(x)))))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed, self.encoder, self.last = nn.Linear(3, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(self.embed(x)).mean(1))
