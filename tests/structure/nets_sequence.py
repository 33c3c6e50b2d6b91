"""Recurrent nets of the zoo."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Stacked(nn.Module):
    """embed -> LSTM, GRU or RNN of any settings -> last step -> head."""

    def __init__(self, kind: str, layers: int, both: bool, bias: bool, batch_first: bool, proj: int) -> None:
        super().__init__()
        more = {"proj_size": proj} if proj else {}
        self.first = batch_first
        make = getattr(nn, kind)
        self.rnn = make(4, 6, layers, bias=bias, batch_first=batch_first, bidirectional=both, **more)
        self.head = nn.Linear((proj or 6) * (1 + both), 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x if self.first else x.transpose(0, 1))
        return self.head(out[:, -1] if self.first else out[-1])


class ConvLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.lstm, self.head = (
            nn.Conv1d(3, 6, 3),
            nn.BatchNorm1d(6),
            nn.LSTM(6, 5, batch_first=True),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(self.bn(self.conv(x))).transpose(1, 2)
        return self.head(self.lstm(h)[0][:, -1])


class EncoderDecoder(nn.Module):
    """The decoder starts from the encoder's state: the hidden units of both are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(4, 6, batch_first=True), nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        out, _ = self.decoder(x.flip(1), state)
        return self.head(out.mean(1))


class Cells(nn.Module):
    """A cell in a loop over time; its state starts at zeros of a size written in the forward."""

    def __init__(self, kind: str = "LSTM") -> None:
        super().__init__()
        self.kind = kind
        self.cell, self.head = getattr(nn, f"{kind}Cell")(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state, steps = None, []
        for t in range(5):
            state = self.cell(x[:, t], state)
            steps.append(state[0] if self.kind == "LSTM" else state)
        return self.head(torch.stack(steps, 1).mean(1))


class MeanOverTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.gru(x)[0]).mean(dim=1))


class FinalStates(nn.Module):
    """Reads the final states of both directions by index."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.head = nn.Linear(4, 5), nn.GRU(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(torch.sigmoid(self.embed(x)).permute(1, 0, 2))[1].squeeze(0))


class Tied(nn.Module):
    """The head's weight is the embedding's: the width goes at both ends."""

    def __init__(self, vocabulary: int = 11) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocabulary, 6), nn.LSTM(6, 8, batch_first=True)
        self.narrow, self.head = nn.Linear(8, 6), nn.Linear(6, vocabulary)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.narrow(self.lstm(self.embedding(x))[0]))


class Untied(nn.Module):
    def __init__(self, vocabulary: int = 11) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = (
            nn.Embedding(vocabulary, 6),
            nn.LSTM(6, 8, batch_first=True),
            nn.Linear(8, vocabulary),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x))[0])
