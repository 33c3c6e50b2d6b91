"""Attention nets of the zoo."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Hand-written self-attention of width 12 with 3 heads (6 query heads on 3 for "grouped"), in the usual spellings."""

    def __init__(self, how: str, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.how, self.num_heads, self.head_dim = how, heads, width // heads
        if how in ("unbind", "chunk"):
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        if how == "grouped":
            self.q = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width if how == "grouped" else width, width)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], -1, self.head_dim).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        if self.how == "unbind":
            q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        elif self.how == "chunk":
            q, k, v = (self.heads(one) for one in self.qkv(x).chunk(3, dim=-1))
        else:
            q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        if self.how == "grouped":
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        if self.how in ("matmul", "masked"):
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            if self.how == "masked":
                scores = scores.masked_fill(torch.ones(n, n, device=x.device).triu(1).bool(), float("-inf"))
            h = scores.softmax(dim=-1) @ v
        else:
            h = F.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).reshape(b, n, -1))


class Encoder(nn.Module):
    """Pre-norm blocks around hand-written attention."""

    def __init__(self, how: str, width: int = 12) -> None:
        super().__init__()
        self.embed, self.norm1, self.attn = nn.Linear(4, width), nn.LayerNorm(width), Attention(how, width)
        self.norm2, self.fc1, self.fc2, self.head = (
            nn.LayerNorm(width),
            nn.Linear(width, 10),
            nn.Linear(10, width),
            nn.Linear(width, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.attn(self.norm1(x))
        return self.head((x + self.fc2(F.gelu(self.fc1(self.norm2(x))))).mean(1))


class ModuleEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 12)
        self.encoder = nn.TransformerEncoderLayer(12, 3, 10, dropout=0.0, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class CrossDecoder(nn.Module):
    """Self-attention, then attention on a memory, hand-written."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed, self.memory, self.norm = nn.Linear(4, width), nn.Linear(4, 8), nn.LayerNorm(width)
        self.attn = Attention("matmul", width)
        self.cross = Cross(width)
        self.fc1, self.fc2, self.head = nn.Linear(width, 10), nn.Linear(10, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        memory = torch.sigmoid(self.memory(x))
        h = self.embed(x[:, :3])
        h = h + self.attn(self.norm(h))
        h = h + self.cross(self.norm(h), memory)
        return self.head((h + self.fc2(torch.sigmoid(self.fc1(self.norm(h))))).mean(1))


class Cross(nn.Module):
    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads = heads
        self.q, self.k, self.v = nn.Linear(width, 12), nn.Linear(8, 12), nn.Linear(8, 12)
        self.out = nn.Linear(12, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            f(a).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for f, a in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EqualHeads(nn.Module):
    """Two layers of attention, computed in one place by one number of heads."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads, self.embed, self.head = heads, nn.Linear(4, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    **{name: nn.Linear(width, width) for name in "qkv"},
                    "out": nn.Linear(width, width),
                    "norm": nn.LayerNorm(width),
                }
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for layer in self.layers:
            inputs = layer["norm"](h)
            q, k, v = (layer[name](inputs).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for name in "qkv")
            h = h + layer["out"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.head(h.mean(1))
