"""Recurrent layers step by step, in plain operations: for whoever has to see, or to change, what a step multiplies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

Product = Callable[[Tensor], Tensor]


def mode_of(cell: nn.RNNCellBase) -> str:
    """Of an nn.LSTMCell, nn.GRUCell or nn.RNNCell, or a subclass."""
    return "LSTM" if isinstance(cell, nn.LSTMCell) else "GRU" if isinstance(cell, nn.GRUCell) else "RNN"


def step(mode: str, act: str, gates: Tensor, own: Tensor, state: list[Tensor]) -> list[Tensor]:
    """The next state, h (and c of an LSTM) [N, H], of a state: gates, own [N, G * H] are what input and state contribute.

    mode: LSTM, GRU or RNN, whose act is "tanh" or "relu". Equations: torch.nn.LSTM, GRU and RNN.
    """
    if mode == "LSTM":
        i, f, g, o = (gates + own).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return [o.sigmoid() * c.tanh(), c]
    if mode == "GRU":
        (r, z, n), (own_r, own_z, own_n) = gates.chunk(3, -1), own.chunk(3, -1)
        z = (z + own_z).sigmoid()
        n = (n + (r + own_r).sigmoid() * own_n).tanh()
        return [n + z * (state[0] - n)]
    return [(gates + own).relu() if act == "relu" else (gates + own).tanh()]


def steps(
    mode: str, act: str, gates: Tensor, batches: Tensor | None, time: int, state: list[Tensor], product: Product, project: Product | None = None
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """(output, final state) of one direction, along the dim ``time`` or, with ``batches``, over packed data.

    product(h): what the state contributes to the gates; project(h): what an LSTM with projections emits for its h.
    """
    parts = gates.unbind(time) if batches is None else gates.split(batches.tolist())
    outputs = []
    for part in parts:
        n = part.shape[0]  # packed sequences end one after the other, the shortest first; len() would be a constant of an exported graph
        alive = [s if n == s.shape[0] else s[:n] for s in state]
        new = step(mode, act, part, product(alive[0]), alive)
        if project is not None:
            new[0] = project(new[0])
        outputs.append(new[0])
        state = [torch.cat([a, s[n:]]) if n < s.shape[0] else a for a, s in zip(new, state, strict=True)]
    return torch.stack(outputs, time) if batches is None else torch.cat(outputs), state


def recurrence(
    mode: str, act: str, x: Tensor, batches: Tensor | None, time: int, state: list[Tensor], own: dict[str, Tensor]
) -> Any:
    """:func:`steps` of x with the weights and biases ``own`` of one direction. Without packed data and projections one operation
    to a TorchFunctionMode."""
    if batches is None and "weight_hr" not in own and has_torch_function((x,)):
        return handle_torch_function(recurrence, (x,), mode, act, x, batches, time, state, own)
    gates = F.linear(x, own["weight_ih"], own.get("bias_ih"))
    product = partial(F.linear, weight=own["weight_hh"], bias=own.get("bias_hh"))
    project = partial(F.linear, weight=own["weight_hr"]) if "weight_hr" in own else None
    return steps(mode, act, gates, batches, time, state, product, project)
