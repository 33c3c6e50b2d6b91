"""Recurrent layers of different sizes behind the interface of one nn.LSTM, nn.GRU or nn.RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class RecurrentStack(nn.Module):
    """One nn.LSTM, nn.GRU or nn.RNN whose layers and directions have hidden sizes of their own.

    Parameters carry the names of the original (``weight_ih_l0``, ``bias_hh_l1_reverse`` ...). forward(input) takes
    [N, T, I] (or [T, N, I] with batch_first False) and returns (output, state) as the original does; where sizes differ the
    states are tuples with one tensor [N, H] a layer and direction, so that ``state[-1]`` still is the last layer's. An initial
    state cannot be passed in. Dropout between layers is kept.
    """

    def __init__(
        self, mode: str, input_size: int, hidden_sizes: Sequence[int], bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, nonlinearity: str = "tanh",
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode, self.input_size, self.hidden_sizes = mode, input_size, tuple(hidden_sizes)
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.nonlinearity = bidirectional, nonlinearity
        self.directions = 2 if bidirectional else 1
        self.num_layers = len(self.hidden_sizes) // self.directions
        gates, width = GATES[mode], input_size
        for layer in range(self.num_layers):
            sizes = self.hidden_sizes[layer * self.directions : (layer + 1) * self.directions]
            for size, suffix in zip(sizes, ("", "_reverse"), strict=False):
                tag = f"l{layer}{suffix}"
                self.register_parameter(f"weight_ih_{tag}", nn.Parameter(torch.zeros(gates * size, width)))
                self.register_parameter(f"weight_hh_{tag}", nn.Parameter(torch.zeros(gates * size, size)))
                if bias:
                    self.register_parameter(f"bias_ih_{tag}", nn.Parameter(torch.zeros(gates * size)))
                    self.register_parameter(f"bias_hh_{tag}", nn.Parameter(torch.zeros(gates * size)))
            width = sum(sizes)

    @classmethod
    def like(cls, module: Any) -> RecurrentStack:
        """A stack that takes over the (already cut) tensors of a recurrent module."""
        mode = "RNN" if isinstance(module, nn.RNN) else type(module).__name__
        tags = [f"l{i}{s}" for i in range(module.num_layers) for s in ("", "_reverse")[: 1 + module.bidirectional]]
        sizes = [getattr(module, f"weight_hh_{tag}").shape[1] for tag in tags]
        made = cls(
            mode, module.weight_ih_l0.shape[1], sizes, module.bias, module.batch_first, module.dropout,
            module.bidirectional, getattr(module, "nonlinearity", "tanh"),
        )  # fmt: skip
        for name, parameter in module.named_parameters():
            setattr(made, name, parameter)
        return made.train(module.training)

    def _run(self, x: Tensor, tag: str, size: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        weights = [getattr(self, f"{name}_{tag}") for name in names]
        batch = x.shape[0] if self.batch_first else x.shape[1]
        h = x.new_zeros(1, batch, size)
        settings = (weights, self.bias, 1, 0.0, self.training, False, self.batch_first)
        if self.mode == "LSTM":
            out, h_n, c_n = torch.lstm(x, (h, h), *settings)  # type: ignore[attr-defined]
            return out, (h_n, c_n)
        run = torch.gru if self.mode == "GRU" else torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu  # type: ignore[attr-defined]
        out, h_n = run(x, h, *settings)
        return out, (h_n,)

    def forward(self, input: Tensor) -> tuple[Tensor, Any]:
        x, states = input, []
        time = 1 if self.batch_first else 0
        for layer in range(self.num_layers):
            outputs = []
            for d in range(self.directions):
                size = self.hidden_sizes[layer * self.directions + d]
                if d:
                    out, state = self._run(x.flip(time), f"l{layer}_reverse", size)
                    out = out.flip(time)
                else:
                    out, state = self._run(x, f"l{layer}", size)
                outputs.append(out)
                states.append(state)
            x = torch.cat(outputs, -1) if self.directions == 2 else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        finals = tuple(tuple(state[i].squeeze(0) for state in states) for i in range(len(states[0])))
        return x, finals if self.mode == "LSTM" else finals[0]

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.input_size}, hidden_sizes={self.hidden_sizes}, bidirectional={self.bidirectional}"
