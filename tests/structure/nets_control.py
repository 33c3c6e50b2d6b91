"""Nets of the zoo whose Python depends on sizes, on data or on how they are called: torch.fx cannot trace them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.structure.nets_transformer import Attention


class BySize(nn.Module):
    """One way for short sequences, another for long ones."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc, self.head = (
            nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True),
            nn.Linear(12, 5),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(x)
        h = h.mean(1) if x.shape[1] > 10 else h[:, -1]
        return self.head(torch.sigmoid(self.fc(h)))


class LoopedCell(nn.Module):
    """A loop as long as the sequence, from a state of zeros."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell, self.head = getattr(nn, f"{kind}Cell")(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), self.cell.hidden_size, device=x.device)
        c, total = torch.zeros_like(h), 0
        for t in range(x.shape[1]):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(x[:, t], (h, c))
            else:
                h = self.cell(x[:, t], h)
            total = total + h
        return self.head(total / x.shape[1])


class ByData(nn.Module):
    """Two ways, by the data: each with a layer of its own between the same two."""

    def __init__(self, how: str = "two layers") -> None:
        super().__init__()
        self.how, self.a, self.left, self.right = how, nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(8, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.a(x))
        if self.how == "softmax" and x.sum() > 0:  # mixes its units on one of the ways
            return self.head(torch.tanh(self.left(h)).softmax(-1)) + self.head(self.right(h))
        if self.how == "item":
            x_max = x.abs().max().item()
            h = h / x_max
            if x_max * 2 > 1e6:  # none of the samples comes here
                h = h + h.flip(-1)
        if self.how == "float" and float(x.mean()) > 1e6:
            h = h + h.flip(-1)
        if self.how == "units" and (h > 0.5).all():
            h = h * 2
        if self.how == "rare" and x.max() > 1e6:
            h = h.view(-1, 8) * 2
        if self.how == "checked":
            if not torch.isfinite(x).all():
                raise ValueError("inputs must be finite")
            assert x.ndim == 2
        return self.head(torch.tanh(self.left(h) if x.sum() > 0 else self.right(h)))


class Unused(nn.Module):
    """Long sequences, of which there are none, read what is removed with a layer of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head, self.long = nn.Linear(4, 6), FeedForward(6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.block(torch.sigmoid(self.embed(x)))
        return self.long(h.amax(1)) if x.shape[1] > 100 else self.head(h.mean(1))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 7), nn.Linear(7, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(F.gelu(self.fc1(x)))


class EarlyExit(nn.Module):
    """Transformer blocks, one hand-written and one of torch, of which the second runs only where the data ask for it."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(4, width), nn.Parameter(torch.zeros(20, width))
        self.norm, self.attn, self.fc1, self.fc2 = (
            nn.LayerNorm(width),
            Attention("matmul", width),
            nn.Linear(width, 10),
            nn.Linear(10, width),
        )
        self.block = nn.TransformerEncoderLayer(width, 3, 9, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) > len(self.position):
            raise ValueError(f"{x.size(1)} positions, of at most {len(self.position)}")
        h = self.embed(x) + self.position[: x.shape[1]]
        h = h + self.attn(self.norm(h))
        h = h + self.fc2(torch.sigmoid(self.fc1(h)))
        if x.std() > 0.9:
            h = self.block(h)
        return self.head(h.mean(1))


class Packed(nn.Module):
    """Called by keywords: sequences of different lengths, and maybe a state to start from."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.gru, self.start, self.head = (
            nn.GRU(width, 6, batch_first=True, bidirectional=True),
            nn.Linear(width, 12),
            nn.Linear(12, 3),
        )

    def forward(self, *, sequences: Tensor, lengths: Tensor, context: Tensor | None = None) -> dict[str, Tensor]:
        state = None
        if context is not None:
            state = torch.stack(self.start(context).chunk(2, dim=-1))
        packed = pack_padded_sequence(sequences, lengths.tolist(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.gru(packed, state)[0], batch_first=True)
        scale = 1 / math.sqrt(out.shape[1]) if out.shape[1] > 2 else 1.0
        return {"logits": self.head(out.sum(1) * scale)}
