"""Recurrent layers computed step by step, and attention projection by projection, so that every product can be watched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import PrunedAttention
from .device import place
from .layout import to_channels_last
from .replica import share
from .stack import RecurrentStack
from .steps import mode_of, recurrence, step

IMAGES = (nn.Conv2d, nn.ConvTranspose2d)  # not what derives from these: it may look at its weight as it likes
CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class Unrolled(RecurrentStack):
    """A nn.LSTM, nn.GRU or nn.RNN in plain operations: the same outputs (to rounding), parameters and names.

    Each step's recurrent product is one F.linear; the inputs of all steps are one F.linear. Differentiable twice on
    every device, in eval mode too, which fused kernels are not.
    """

    def _kernel(self, x: Tensor, batches: Tensor | None, first: int, states: list[Tensor], both: bool) -> Any:
        outputs, finals = [], []
        for d in range(1 + both):
            read = self._flip(x, batches) if d else x
            out, final = self._steps(read, batches, self.tags[first + d], [one[d] for one in states])
            outputs.append(self._flip(out, batches) if d else out)
            finals.append(final)
        states = [torch.stack(column) for column in zip(*finals, strict=True)]
        if both:
            return torch.cat(outputs, -1), states
        last = first + 1 == len(self.tags)  # what the caller gets is no view: it may write to it
        return outputs[0].clone(memory_format=torch.contiguous_format) if last else outputs[0], states

    def _steps(self, x: Tensor, batches: Tensor | None, tag: str, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(output of x's layout, final state [[N, H] a kind]) of one direction."""
        own = {name: getattr(self, f"{name}_{tag}") for name in self._names}
        return recurrence(self.mode, self.nonlinearity, x, batches, 1 if self.batch_first else 0, state, own)  # type: ignore[no-any-return]


class UnrolledCell(nn.Module):
    """A nn.LSTMCell, nn.GRUCell or nn.RNNCell in plain operations."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.weight_ih: Tensor
        self.weight_hh: Tensor
        self.bias_ih: Tensor | None
        self.bias_hh: Tensor | None
        self.mode, self.hidden_size, self.input_size = mode_of(cell), cell.hidden_size, cell.input_size
        self.nonlinearity = getattr(cell, "nonlinearity", "tanh")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            self.register_parameter(name, getattr(cell, name))

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        gates = F.linear(input, self.weight_ih, self.bias_ih)
        if hx is None:
            zeros = input.new_zeros(*input.shape[:-1], self.hidden_size)
            hx = (zeros, zeros) if self.mode == "LSTM" else zeros
        state = list(hx) if self.mode == "LSTM" else [hx]
        new = step(self.mode, self.nonlinearity, gates, F.linear(state[0], self.weight_hh, self.bias_hh), state)
        return tuple(new) if self.mode == "LSTM" else new[0]


class WatchedAttention(PrunedAttention):
    """A nn.MultiheadAttention whose projections multiply by whole parameters, so that their gradients are seen."""

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj_weight is None:
            return super()._project(query, key, value)
        if query is key is value:
            return list(F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        parts = enumerate((query, key, value))
        return [F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)[i] for i, x in parts]


def _plain(module: nn.Module) -> nn.Module | None:
    """What stands in for a module whose products happen inside one kernel; None where nothing has to."""
    if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, RecurrentStack)):
        return Unrolled.like(module)
    if isinstance(module, CELLS):
        return UnrolledCell(module)
    if isinstance(module, PrunedAttention) or (
        type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
    ):
        return WatchedAttention.like(module)
    return None


def unrolled(module: nn.Module) -> nn.Module:
    """A structural copy in eval mode that shares the weights (see :func:`share`), in plain operations."""
    copied = share(module)
    replaced = {id(old): new for old in copied.modules() if (new := _plain(old)) is not None}
    if id(copied) in replaced:
        return replaced[id(copied)].eval()
    for parent in list(copied.modules()):
        for name, child in parent._modules.items():
            if child is not None and id(child) in replaced:
                parent._modules[name] = replaced[id(child)]
    return copied.eval()


def ready(module: nn.Module, device: torch.device, last: bool = False) -> nn.Module:
    """:func:`unrolled` on a device, with weights that autograd can save, none of which requires a gradient. last: plain convolutions of
    images take and give them with channels last, in which a CPU goes backward twice as fast."""
    copied = unrolled(module)
    for parameter in copied.parameters():
        if parameter.is_inference():
            parameter.data = parameter.data.clone()
    copied = copied._apply(lambda tensor: place(tensor, device))
    for child in copied.modules() if last else ():
        if type(child) in IMAGES:
            child.weight.data = to_channels_last(child.weight.data)  # type: ignore[union-attr,arg-type]
    return copied
