"""Nets of the zoo that call functions on parameters of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Products(nn.Module):
    """x @ W, x @ W.T and bias + x @ W, as hand-written layers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.ones(s)) for s in ((6, 8), (5, 8), (5, 7)))
        self.bias_a, self.bias_c, self.head = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(7)), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(x @ self.a + self.bias_a)
        h = torch.sigmoid(torch.matmul(h, self.b.T))
        return self.head(torch.sigmoid(torch.addmm(self.bias_c, h.view(-1, h.size(-1)), self.c)))


class Einsum(nn.Module):
    """Attention written with einsum alone; the weights are three-dimensional."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        size = width // heads
        self.embed, self.head = nn.Linear(4, width), nn.Linear(width, 3)
        self.q, self.k, self.v = (nn.Parameter(torch.ones(width, heads, size)) for _ in range(3))
        self.out = nn.Parameter(torch.ones(heads, size, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (torch.einsum("bnd,dhe->bnhe", x, w) for w in (self.q, self.k, self.v))
        weights = torch.einsum("bnhe,bmhe->bhnm", q, k).softmax(-1)
        x = x + torch.einsum("bnhe,hed->bnd", torch.einsum("bhnm,bmhe->bnhe", weights, v), self.out)
        return torch.einsum("...d,cd->...c", x.mean(1), self.head.weight)


class Functional(nn.Module):
    """Convolution, normalization, padding and gates called as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.filters, self.shift = nn.Parameter(torch.ones(6, 2, 3, 3)), nn.Parameter(torch.zeros(6))
        self.gain, self.bias, self.slope = (nn.Parameter(torch.ones(6)) for _ in range(3))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("variance", torch.ones(6))
        self.grouped = nn.Parameter(torch.ones(8, 3, 3, 3))
        self.gate, self.gated, self.head = nn.Conv2d(8, 10, 1), nn.GLU(1), nn.Linear(5, 6)
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(F.pad(x, (1, 1, 1, 1)), self.filters, self.shift)
        x = F.prelu(F.batch_norm(x, self.mean, self.variance, self.gain, self.bias), self.slope)
        x = torch.sigmoid(F.conv2d(F.pad(x, (1, 0, 1, 0)), self.grouped, groups=2))
        x = self.gated(self.gate(x)).mean((2, 3))
        return self.last(F.glu(self.head(x), dim=1))
