"""More networks around recurrent layers: what people do with outputs and states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

H = 6


class Use(nn.Module):
    """One or two recurrent layers and a head; ``how`` names what happens between them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        both = how in ("directions", "chunked", "summed", "joined")
        self.how, self.first = how, nn.Linear(5, H if how == "residual" else 5)
        width = H if how == "residual" else 5
        self.rnn = nn.GRU(
            width, H, 2 if how in ("shared", "carried", "sliced", "returned") else 1, True, True, 0.0, both
        )
        self.next = nn.GRU(4 if how == "turned" else 5, H, batch_first=True)
        self.join = nn.Linear(2 * H, H)
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Any:
        if self.how == "shared":  # called twice, once on what another layer computes
            return self.head(self.rnn(self.first(x))[0][:, -1] + self.rnn(x)[0][:, -1])
        if self.how == "residual":
            x = self.first(x)
            return self.head((x + self.rnn(x)[0]).amax(1))
        if self.how == "carried":  # truncated back-propagation: the state goes from one call to the next
            _, state = self.rnn(x[:, :2])
            return self.head(self.rnn(x[:, 2:], state)[0][:, -1])
        out, h = self.rnn(x)
        if self.how == "directions":
            return self.head(h[0] + h[1])
        if self.how == "chunked":
            ahead, back = out.chunk(2, -1)
            return self.head((ahead + back)[:, -1])
        if self.how == "summed":
            return self.head(h.sum(0))
        if self.how == "joined":  # both directions start a decoder of one
            start = torch.tanh(self.join(torch.cat([h[0], h[1]], 1))).unsqueeze(0)
            return self.head(self.next(x, start)[0][:, -1])
        if self.how == "sliced":
            return self.head(self.next(x, h[-1:])[0][:, -1])
        if self.how == "flipped":  # unit k starts unit H - 1 - k
            return self.head(self.next(x, h.flip(-1))[0][:, -1])
        if self.how == "turned":  # units become time
            return self.head(self.next(out.transpose(1, 2))[0][:, -1])
        if self.how == "dot":
            weights = torch.softmax(torch.bmm(out, h[-1].unsqueeze(2)), 1)
            return self.head((weights * out).sum(1))
        if self.how == "written":
            return self.head(out.reshape(-1, 4, H)[:, -1])
        return self.head(out[:, -1]), h[-1]


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(7, H), nn.Linear(H, 7)
        self.rnn: Any = nn.LSTM(H, H, batch_first=True)
        self.out.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0]).mean(1)


class Data(nn.Module):
    """Reads the data of a packed sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(7, 4), nn.GRU(4, H, batch_first=True), nn.Linear(H, 3)

    def forward(self, ids: Tensor) -> Tensor:
        out, h = self.rnn(pack_padded_sequence(self.embed(ids), (ids != 0).sum(1), True, enforce_sorted=False))
        return self.head(h[-1]) + self.head(out.data.mean(0))
