"""Modules that round what enters their products: torch's own layers, each with a rounding in front of each weight.

Their parameters keep names and shapes; ``input_quantizers`` is all they have more. A module becomes one of these by its class
(:mod:`explorer.models.sites`), so whatever holds it, and whatever asks for an nn.Linear, does not notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from .attention import PrunedAttention
from .stack import RecurrentStack
from .steps import mode_of, step, steps


class FakeQuantize(nn.Module):
    """x -> (clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale, one scale a tensor.

    scale float32 and zero_point int32 are buffers without dimensions. Source: Jacob et al. 2018, arXiv 1712.05877, eq. 1.
    """

    def __init__(self, low: int = 0, high: int = 255) -> None:
        super().__init__()
        if type(low) is not int or type(high) is not int or not -128 <= low <= 0 < high <= 255:
            raise ValueError(f"codes {low!r} to {high!r}; accepted: whole numbers from -128 to 255 around 0")
        self.low, self.high = low, high
        self.scale: Tensor
        self.zero_point: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.element_size() >= 4 else x.float()  # half precision cannot hold x / scale
        if torch.compiler.is_exporting():  # torch.export has no place for the kernel
            codes = torch.clamp(torch.round(wide * (1.0 / self.scale)) + self.zero_point, self.low, self.high)
            return ((codes - self.zero_point) * self.scale).to(x.dtype)
        found = torch.fake_quantize_per_tensor_affine(wide, self.scale.float(), self.zero_point, self.low, self.high)
        return found.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.low} to {self.high}"


class Watcher(nn.Module):
    """Shows what passes to a function, and changes nothing."""

    def __init__(self, see: Any) -> None:
        super().__init__()
        self.see = see

    def forward(self, x: Tensor) -> Tensor:
        self.see(x)
        return x


_SAME = nn.Identity()


class QuantizedInputs(nn.Module):
    """Base of all: ``input_quantizers`` {name of a weight: module applied to what it multiplies}; weights without one are plain.

    inputs: {name of a weight: (lowest, highest code)}, to make one from scratch.
    """

    input_quantizers: nn.ModuleDict

    def __init__(self, *args: Any, inputs: Mapping[str, tuple[int, int]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.input_quantizers = nn.ModuleDict({name: FakeQuantize(*codes) for name, codes in (inputs or {}).items()})

    @property
    def inputs(self) -> dict[str, tuple[int, int]]:
        """{name of a weight: (lowest, highest code)}."""
        found = self.input_quantizers.items()
        return {name: (one.low, one.high) for name, one in found if isinstance(one, FakeQuantize)}

    def quantizer(self, name: str) -> nn.Module:
        """What is applied to the input of a weight."""
        return self.input_quantizers._modules.get(name) or _SAME


class _OneInput(QuantizedInputs):
    """A linear layer or a convolution; zeros that a convolution pads with are levels."""

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(self.quantizer("weight")(input), *args, **kwargs)  # type: ignore[misc,no-any-return]


def _watched(module: nn.Module) -> bool:
    return isinstance(module, (Watcher, nn.Identity))


class QuantizedStack(QuantizedInputs, RecurrentStack):
    """A :class:`RecurrentStack` that rounds the input sequence and the hidden state at each step.

    A layer whose hidden state is rounded runs step by step, the others in torch's kernels.
    """

    def _layer(self, x: Tensor, batches: Tensor | None, first: int, given: list[list[Tensor]]) -> Any:
        names = [f"{name}_{tag}" for tag in self.tags[first : first + self.directions] for name in self._names]
        if not any(name in self.input_quantizers for name in names):
            return super()._layer(x, batches, first, given)
        outs, states = [], []
        for direction in range(self.directions):
            one = self._flip(x, batches) if direction else x
            out, final = self._direction(one, batches, first + direction, given[direction])
            outs.append(self._flip(out, batches) if direction else out)
            states.append(final)
        return outs[0] if self.directions == 1 else torch.cat(outs, -1), states

    def _direction(
        self, x: Tensor, batches: Tensor | None, index: int, state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        tag = self.tags[index]
        qi, qh, qr = (self.quantizer(f"weight_{name}_{tag}") for name in ("ih", "hh", "hr"))
        x = qi(x)
        if _watched(qh) and isinstance(
            qr, nn.Identity
        ):  # nothing to round in between: the kernel, and its states seen afterwards
            out, final = self._kernel(x, batches, index, [one.unsqueeze(0) for one in state], False)
            qh(state[0])
            qh(out)
            return out, [one[0] for one in final]
        bias = (getattr(self, f"bias_ih_{tag}"), getattr(self, f"bias_hh_{tag}")) if self.bias else (None, None)
        gates = F.linear(x, getattr(self, f"weight_ih_{tag}"), bias[0])
        hh, hr = getattr(self, f"weight_hh_{tag}"), getattr(self, f"weight_hr_{tag}", None)
        return steps(
            self.mode, self.nonlinearity, gates, batches, 1 if self.batch_first else 0, state,
            lambda h: F.linear(qh(h), hh, bias[1]), None if hr is None else lambda h: F.linear(qr(h), hr),
        )  # fmt: skip


class _Recurrent(QuantizedInputs):
    """nn.LSTM, nn.GRU and nn.RNN: computed by a stack that borrows their parameters."""

    def flatten_parameters(self) -> None:
        """Nothing runs in a kernel over all layers."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        stack: Any = RecurrentStack.like(self)
        stack.__class__ = QuantizedStack
        stack.input_quantizers = self.input_quantizers
        return stack(input, hx)


class _Cell(QuantizedInputs):
    """nn.LSTMCell, nn.GRUCell and nn.RNNCell."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        me: Any = self
        mode = mode_of(me)
        x = input if input.dim() == 2 else input.unsqueeze(0)
        if hx is None:
            state = [x.new_zeros(len(x), me.hidden_size) for _ in range(1 + (mode == "LSTM"))]
        else:
            given = hx if mode == "LSTM" else (hx,)
            state = [one if one.dim() == 2 else one.unsqueeze(0) for one in given]
        gates = F.linear(self.quantizer("weight_ih")(x), me.weight_ih, me.bias_ih)
        own = F.linear(self.quantizer("weight_hh")(state[0]), me.weight_hh, me.bias_hh)
        new = step(mode, getattr(self, "nonlinearity", "tanh"), gates, own, state)
        found = tuple(one if input.dim() == 2 else one.squeeze(0) for one in new)
        return found if mode == "LSTM" else found[0]


class _Attention(QuantizedInputs):
    """Attention: queries, keys and values share the rounding of ``in_proj_weight``, or each has that of its own weight.

    What enters the output projection is rounded by ``out_proj``, a module of its own. Scores and their softmax are no
    product with a weight, and stay as they are.
    """

    def __init__(self, *args: Any, inputs: Mapping[str, tuple[int, int]] | None = None, **kwargs: Any) -> None:
        own = dict(inputs or {})
        out = own.pop("out_proj_weight", None)
        super().__init__(*args, inputs=own, **kwargs)
        if out is not None:
            me: Any = self
            me.out_proj.__class__ = quantized_class(type(me.out_proj))
            me.out_proj.input_quantizers = nn.ModuleDict({"weight": FakeQuantize(*out)})

    @property
    def inputs(self) -> dict[str, tuple[int, int]]:
        """{name of a weight: (lowest, highest code)}; ``out_proj_weight`` stands for that of the output projection."""
        me: Any = self
        out = me.out_proj.inputs if isinstance(me.out_proj, QuantizedInputs) else {}
        return super().inputs | {f"out_proj_{name}": codes for name, codes in out.items()}

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        if "in_proj_weight" in self.input_quantizers:
            same = key is query and value is query
            q = self.quantizer("in_proj_weight")
            query = q(query)
            key, value = (query, query) if same else (q(key), q(value))
        else:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            query, key, value = (self.quantizer(n)(x) for n, x in zip(names, (query, key, value), strict=True))
        return PrunedAttention.forward(self, query, key, value, *args, **kwargs)  # type: ignore[arg-type]


class _Borrowing(_Attention):
    """nn.MultiheadAttention: one function computes it all, so it is computed as a :class:`PrunedAttention`."""

    _projections, _project = PrunedAttention._projections, PrunedAttention._project
    _attend, _mask = PrunedAttention._attend, PrunedAttention._mask


# fmt: off
class QuantizedLinear(_OneInput, nn.Linear): ...
class QuantizedOutProjection(_OneInput, NonDynamicallyQuantizableLinear): ...
class QuantizedConv1d(_OneInput, nn.Conv1d): ...
class QuantizedConv2d(_OneInput, nn.Conv2d): ...
class QuantizedConv3d(_OneInput, nn.Conv3d): ...
class QuantizedConvTranspose1d(_OneInput, nn.ConvTranspose1d): ...
class QuantizedConvTranspose2d(_OneInput, nn.ConvTranspose2d): ...
class QuantizedConvTranspose3d(_OneInput, nn.ConvTranspose3d): ...
class QuantizedLSTM(_Recurrent, nn.LSTM): ...
class QuantizedGRU(_Recurrent, nn.GRU): ...
class QuantizedRNN(_Recurrent, nn.RNN): ...
class QuantizedLSTMCell(_Cell, nn.LSTMCell): ...
class QuantizedGRUCell(_Cell, nn.GRUCell): ...
class QuantizedRNNCell(_Cell, nn.RNNCell): ...
class QuantizedAttention(_Borrowing, nn.MultiheadAttention): ...
class QuantizedPrunedAttention(_Attention, PrunedAttention): ...
# fmt: on

QUANTIZED: dict[type[nn.Module], type[QuantizedInputs]] = {
    next(b for b in made.__mro__ if issubclass(b, nn.Module) and not issubclass(b, QuantizedInputs)): made
    for made in (
        QuantizedLinear, QuantizedOutProjection, QuantizedConv1d, QuantizedConv2d, QuantizedConv3d, QuantizedConvTranspose1d,
        QuantizedConvTranspose2d, QuantizedConvTranspose3d, QuantizedLSTM, QuantizedGRU, QuantizedRNN, QuantizedLSTMCell,
        QuantizedGRUCell, QuantizedRNNCell, QuantizedAttention, QuantizedPrunedAttention, QuantizedStack,
    )
}  # fmt: skip


_MADE: dict[type[nn.Module], type[QuantizedInputs]] = {}


def quantized_class(cls: type[nn.Module]) -> type[QuantizedInputs] | None:
    """The class that rounds inputs and else behaves as ``cls``; None where there is none.

    A subclass of one of torch's layers has one if it inherits that layer's ``forward``.
    """
    if cls in QUANTIZED:
        return QUANTIZED[cls]
    if issubclass(cls, QuantizedInputs):
        return cls
    for base, made in QUANTIZED.items():
        if issubclass(cls, base) and cls.forward is base.forward:
            if cls not in _MADE:
                _MADE[cls] = type(f"Quantized{cls.__name__}", (made.__bases__[0], cls), {"__module__": cls.__module__})
            return _MADE[cls]
    return None
