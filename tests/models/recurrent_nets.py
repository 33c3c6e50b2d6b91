"""Small networks around recurrent layers, for the tests of removal and export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

H = 6


class Last(nn.Module):
    """A recurrent layer whose last output is read; ``use`` says what else of it."""

    def __init__(
        self, kind: type[nn.Module], use: str = "last", layers: int = 2, both: bool = False, **more: Any
    ) -> None:
        super().__init__()
        self.use = use
        self.rnn: Any = kind(5, H, num_layers=layers, bidirectional=both, **{"batch_first": True, **more})
        width = (more.get("proj_size") or H) * (1 + both)
        wide = {"pair": 2 * width // (1 + both), "all": layers * (1 + both) * (width // (1 + both)), "cell": H}
        single = width // (1 + both)
        self.head = nn.Linear({**wide, "final": single}.get(use, width), 3)

    def forward(self, x: Tensor) -> Any:
        out, state = self.rnn(x)
        h = state[0] if self.rnn.mode == "LSTM" else state
        if self.use == "final":
            return self.head(h[-1])
        if self.use == "cell":
            return self.head(state[1][-1])
        if self.use == "pair":
            return self.head(torch.cat([h[-2], h[-1]], 1))
        if self.use == "all":
            return self.head(h.transpose(0, 1).reshape(x.shape[0], -1))
        if self.use == "returned":
            return self.head(out[:, -1]), state
        return self.head(out[:, -1] if self.rnn.batch_first else out[-1])


class Packed(nn.Module):
    """Embedding -> packed recurrent layers -> padded outputs or final states; 0 is padding."""

    def __init__(self, kind: type[nn.Module], both: bool = False, final: bool = False, layers: int = 2) -> None:
        super().__init__()
        self.embed, self.final = nn.Embedding(7, 4, padding_idx=0), final
        self.rnn: Any = kind(4, H, num_layers=layers, bidirectional=both, batch_first=True)
        self.head = nn.Linear(H * (1 + (both and not final)), 3)

    def forward(self, ids: Tensor) -> Any:
        lengths = (ids != 0).sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        out, state = self.rnn(packed)
        if self.final:
            return self.head((state[0] if self.rnn.mode == "LSTM" else state)[-1])
        padded, _ = pad_packed_sequence(out, batch_first=True)
        return self.head(padded).mean(1)


class Started(nn.Module):
    """Initial states: learned ones, zeros of the module's own or of a written size, or a computed one."""

    def __init__(self, kind: type[nn.Module], start: str, layers: int = 2) -> None:
        super().__init__()
        self.start, self.layers = start, layers
        self.rnn: Any = kind(5, H, num_layers=layers, batch_first=True)
        self.first = nn.Linear(5, H)
        self.h0 = nn.Parameter(torch.randn(layers, 1, H))
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        if self.start == "learned":
            h = self.h0.expand(-1, n, -1).contiguous()
        elif self.start == "own":
            h = torch.zeros(self.layers, n, self.rnn.hidden_size, dtype=x.dtype, device=x.device)
        elif self.start == "written":
            h = torch.zeros(self.layers, n, H, dtype=x.dtype, device=x.device)
        elif self.start == "input":
            h = torch.cat([x[:, 0], x[:, 1, :1]], 1).expand(self.layers, n, H).contiguous()
        else:
            h = torch.stack([torch.tanh(self.first(x[:, 0]))] * self.layers)
        state = (h, torch.zeros_like(h)) if self.rnn.mode == "LSTM" else h
        return self.head(self.rnn(x, state)[0][:, -1])


class Pair(nn.Module):
    """An encoder whose final state starts a decoder."""

    def __init__(self, kind: type[nn.Module], layers: int = 1) -> None:
        super().__init__()
        self.encoder: Any = kind(5, H, num_layers=layers, batch_first=True)
        self.decoder: Any = kind(5, H, num_layers=layers, batch_first=True)
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        out, _ = self.decoder(x.flip(1), state)
        return self.head(out).mean(1)


class Cells(nn.Module):
    """A cell unrolled over time, from the zeros that the cell itself makes or from written ones."""

    def __init__(self, kind: type[nn.Module], start: str = "none") -> None:
        super().__init__()
        self.cell: Any = kind(5, H)
        self.start, self.head = start, nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        if self.start != "none":
            h = x.new_zeros(x.shape[0], H if self.start == "written" else self.cell.hidden_size)
            state = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        for t in range(4):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(self.cell, nn.LSTMCell) else state)
