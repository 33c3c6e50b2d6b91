"""Recurrent layers of different sizes behind the interface of one nn.LSTM, nn.GRU or nn.RNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
KERNELS = {"LSTM": "lstm", "GRU": "gru", "tanh": "rnn_tanh", "relu": "rnn_relu"}


def _one(sizes: Sequence[int]) -> Any:
    """The size where all are the same, else all of them."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


class RecurrentStack(nn.Module):
    """One nn.LSTM, nn.GRU or nn.RNN whose layers and directions have hidden sizes of their own.

    hidden_sizes (and proj_sizes, of an LSTM with projections): one int a layer and direction, in the order l0, l0_reverse,
    l1 ... Parameters carry the names of the original (``weight_ih_l0``, ``bias_hh_l1_reverse`` ...).

    forward(input, hx=None) takes [N, T, I] ([T, N, I] with batch_first False, [T, I] unbatched) or a PackedSequence, and
    returns (output, state) as the original does. A state (h, for an LSTM also c) is a tensor [layers * directions, N, H]
    where its sizes are equal, else a tuple with one tensor [N, H] a layer and direction, so that ``h_n[-1]`` still is the
    last one's; hx is taken in either form. Dropout between layers is kept. Equations: torch.nn.LSTM, GRU, RNN, whose
    kernels run each layer. Raises ValueError where sizes and layers do not fit, or the input has neither 2 nor 3 dims.
    """

    def __init__(
        self, mode: str, input_size: int, hidden_sizes: Sequence[int], bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, nonlinearity: str = "tanh", proj_sizes: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode, self.input_size, self.hidden_sizes = mode, input_size, tuple(hidden_sizes)
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.nonlinearity, self.proj_sizes = bidirectional, nonlinearity, tuple(proj_sizes)
        self.directions = 2 if bidirectional else 1
        self.num_layers = len(self.hidden_sizes) // self.directions
        if mode not in GATES or nonlinearity not in KERNELS or not self.num_layers:
            raise ValueError(f"mode {mode!r}, nonlinearity {nonlinearity!r}, {len(self.hidden_sizes)} hidden sizes")
        if len(self.hidden_sizes) % self.directions or len(self.proj_sizes) not in (0, len(self.hidden_sizes)):
            raise ValueError(
                f"hidden_sizes {self.hidden_sizes}, proj_sizes {self.proj_sizes}: one a layer and direction"
            )
        if self.proj_sizes and mode != "LSTM":
            raise ValueError(f"proj_sizes of {mode}; accepted: of LSTM only")
        self.tags = [f"l{i}{s}" for i in range(self.num_layers) for s in ("", "_reverse")[: self.directions]]
        self.emitted_sizes = self.proj_sizes or self.hidden_sizes
        gates = GATES[mode]
        for index, (tag, size) in enumerate(zip(self.tags, self.hidden_sizes, strict=True)):
            below = index - index % self.directions  # the layer that reads is made of the directions of the one below
            width = sum(self.emitted_sizes[below - self.directions : below]) if below else input_size
            shapes = {"weight_ih": (gates * size, width), "weight_hh": (gates * size, self.emitted_sizes[index])}
            if bias:
                shapes |= {"bias_ih": (gates * size,), "bias_hh": (gates * size,)}  # type: ignore[dict-item]
            if self.proj_sizes:
                shapes["weight_hr"] = (self.proj_sizes[index], size)
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_{tag}", nn.Parameter(torch.zeros(shape)))
        self._names = list(shapes)  # in the order of the kernels

    @classmethod
    def like(cls, module: Any) -> RecurrentStack:
        """A stack that takes over the (already cut) tensors of a recurrent module or stack."""
        mode = getattr(module, "mode", "")
        mode = "RNN" if mode.startswith("RNN") else mode  # nn.RNN says RNN_TANH or RNN_RELU
        tags = [f"l{i}{s}" for i in range(module.num_layers) for s in ("", "_reverse")[: 1 + module.bidirectional]]
        sizes = [getattr(module, f"weight_hh_{tag}").shape[0] // GATES[mode] for tag in tags]
        projected = [len(getattr(module, f"weight_hr_{tag}")) for tag in tags if hasattr(module, f"weight_hr_{tag}")]
        with torch.device("meta"):
            made = cls(
                mode, module.weight_ih_l0.shape[1], sizes, module.bias, module.batch_first, module.dropout,
                module.bidirectional, getattr(module, "nonlinearity", "tanh"), projected,
            )  # fmt: skip
        for name, parameter in module.named_parameters():
            setattr(made, name, parameter)
        return made.train(module.training)

    @property
    def hidden_size(self) -> Any:
        """The hidden size, or the tuple of all where they differ."""
        return _one(self.hidden_sizes)

    @property
    def proj_size(self) -> Any:
        """The size of the projections, 0 without, or the tuple of all where they differ."""
        return _one(self.proj_sizes) if self.proj_sizes else 0

    def flatten_parameters(self) -> None:
        """For code written for nn.LSTM; each layer is a kernel call of its own, so there is nothing to lay out."""

    def _kernel(self, x: Tensor, batches: Tensor | None, first: int, states: list[Tensor], both: bool) -> Any:
        """One layer: a direction, or both in one call. states: h and, for an LSTM, c, each [directions, N, H]."""
        tags = self.tags[first : first + 1 + both]
        weights = [getattr(self, f"{name}_{tag}") for tag in tags for name in self._names]
        run = getattr(torch, KERNELS[self.nonlinearity if self.mode == "RNN" else self.mode])
        alike = bool(self.proj_sizes) and self.proj_sizes[first] == self.hidden_sizes[first]
        if alike:  # the kernels tell a projection by sizes that differ: a unit without weights, whose state stays zero
            weights = [
                _wider(w, self.hidden_sizes[first], n == "weight_hr")
                for w, n in zip(weights, self._names * (1 + both), strict=True)
            ]
            states = [states[0], nn.functional.pad(states[1], (0, 1))]
        hx = tuple(states) if self.mode == "LSTM" else states[0]
        if batches is not None:
            out, *final = run(x, batches, hx, weights, self.bias, 1, 0.0, self.training, both)
        else:
            out, *final = run(x, hx, weights, self.bias, 1, 0.0, self.training, both, self.batch_first)
        return out, [final[0], final[1][..., :-1]] if alike else final

    def _layer(self, x: Tensor, batches: Tensor | None, first: int, given: list[list[Tensor]]) -> Any:
        """(output, [[state] a direction]) of one layer; given: the states of each of its directions, [N, H] each."""
        kinds = range(len(given[0]))
        last = first + self.directions
        if self.directions == 1 or len({*zip(self.hidden_sizes[first:last], self.emitted_sizes[first:last])}) == 1:  # noqa: B905
            stacked = [torch.stack([one[k] for one in given]) for k in kinds]
            out, final = self._kernel(x, batches, first, stacked, self.directions == 2)
            return out, [[final[k][d] for k in kinds] for d in range(self.directions)]
        ahead, states = self._kernel(x, batches, first, [one.unsqueeze(0) for one in given[0]], False)
        back, others = self._kernel(
            self._flip(x, batches), batches, first + 1, [one.unsqueeze(0) for one in given[1]], False
        )
        return torch.cat([ahead, self._flip(back, batches)], -1), [[s[0] for s in states], [s[0] for s in others]]

    def _flip(self, x: Tensor, batches: Tensor | None) -> Tensor:
        """Time reversed; in packed data [sum of lengths, F] each sequence within its own length."""
        return x.flip(1 if self.batch_first else 0) if batches is None else x[backwards(batches).to(x.device)]

    def _initial(self, hx: Any, x: Tensor, batch: Any, order: Tensor | None, single: bool) -> list[list[Tensor]]:
        """States [N, H] of each layer and direction: given ones in any accepted form, else zeros."""
        kinds = (self.emitted_sizes, self.hidden_sizes) if self.mode == "LSTM" else (self.hidden_sizes,)
        if hx is None:
            return [[x.new_zeros(batch, sizes[i]) for sizes in kinds] for i in range(len(self.tags))]
        columns = []
        for given, sizes in zip(hx if self.mode == "LSTM" else (hx,), kinds, strict=True):
            column = list(given.unbind(0) if isinstance(given, Tensor) else given)
            column = [one.unsqueeze(0) for one in column] if single else column
            shapes = [tuple(one.shape) for one in column]
            if shapes != [(batch, size) for size in sizes]:
                raise RuntimeError(f"initial states of shapes {shapes}; expected: [{batch}, H] with H in {sizes}")
            columns.append(column if order is None else [one.index_select(0, order) for one in column])
        return [list(row) for row in zip(*columns, strict=True)]

    def _final(self, states: list[list[Tensor]], order: Tensor | None, single: bool) -> Any:
        """h, or (h, c) of an LSTM, in the original's form."""
        found: list[Any] = []
        for column in zip(*states, strict=True):
            own = [one if order is None else one.index_select(0, order) for one in column]
            own = [one.squeeze(0) for one in own] if single else own
            found.append(torch.stack(own) if len({one.shape[-1] for one in own}) == 1 else tuple(own))
        return tuple(found) if self.mode == "LSTM" else found[0]

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        if isinstance(input, PackedSequence):
            x, batches, order, back = input
            batch: Any = batches[0]  # stays a tensor: the older ONNX exporter would write an int into the file
            single = False
        else:
            x, batches, order, back = input, None, None, None
            single = input.dim() == 2
            if input.dim() not in (2, 3):
                raise ValueError(f"input with {input.dim()} dims; accepted: 3, or 2 without a batch")
            x = x.unsqueeze(0 if self.batch_first else 1) if single else x
            batch = x.shape[0 if self.batch_first else 1]
        given = self._initial(hx, x, batch, order, single)
        states: list[list[Tensor]] = []
        for first in range(0, len(self.tags), self.directions):
            if first and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            x, final = self._layer(x, batches, first, given[first : first + self.directions])
            states += final
        if batches is not None:
            return PackedSequence(x, batches, order, back), self._final(states, back, single)
        return x.squeeze(0 if self.batch_first else 1) if single else x, self._final(states, None, single)

    def extra_repr(self) -> str:
        projected = f", proj_sizes={self.proj_sizes}" if self.proj_sizes else ""
        return f"{self.mode}, {self.input_size}, hidden_sizes={self.hidden_sizes}{projected}, bidirectional={self.bidirectional}"


def _wider(weight: Tensor, hidden: int, projection: bool) -> Tensor:
    """An LSTM's weight with a unit more, all zeros: rows [4 * H, .] of every gate, columns of a projection [P, H]."""
    if projection:
        return nn.functional.pad(weight, (0, 1))
    gates = weight.unflatten(0, (4, hidden))
    return nn.functional.pad(gates, (0, 0) * (weight.ndim - 1) + (0, 1)).flatten(0, 1)


def backwards(batches: Tensor) -> Tensor:
    """Where each entry of packed data stands once every sequence is reversed within its length; its own inverse.

    batches: int64 [T] on the CPU, how many sequences are alive at each step (PackedSequence.batch_sizes).
    """
    start = batches.cumsum(0) - batches
    steps = torch.arange(len(batches)).repeat_interleave(batches)
    rows = torch.arange(len(steps)) - start[steps]
    lengths = (batches[None, :] > torch.arange(int(batches[0]))[:, None]).sum(1)
    return start[lengths[rows] - 1 - steps] + rows
