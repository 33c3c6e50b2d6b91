"""A recurrent layer with its gradients by hand: one product is seen instead of one a step, and no step is recorded by autograd.

The same equations as :func:`explorer.models.steps.step`; backpropagation through time after Werbos 1990, Proc. IEEE 78(10). Whatever
does not depend on the state that comes back is computed for all steps at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from .taps import Tap


def run(
    tap: Tap, follow: bool, mode: str, act: str, gates: Tensor, state: list[Tensor], weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """(output [T, N, H], [final h (and c)]) of gates [T, N, G * H]; fills ``tap``: inputs [T, N, H], gradient and, with ``follow``, back."""
    c = state[1] if mode == "LSTM" else None
    if (
        torch.is_grad_enabled() and not gates.requires_grad
    ):  # so that what follows is recorded; weights need not require a gradient
        gates = gates.detach().requires_grad_()
    out, *final = Through.apply(tap, follow, mode, act, gates, state[0], c, weight, bias)  # type: ignore[no-untyped-call]
    tap.inputs = torch.cat([state[0].detach()[None], out.detach()[:-1]])
    tap.output = tuple(gates.shape)
    return out, final


class Through(torch.autograd.Function):
    """One direction of an nn.LSTM, nn.GRU or nn.RNN behind the product with its inputs."""

    @staticmethod
    def forward(ctx: Any, tap: Tap, follow: bool, mode: str, act: str, gates: Tensor, h: Tensor, c: Tensor | None, weight: Tensor, bias: Tensor | None) -> Any:  # fmt: skip
        ctx.tap, ctx.follow, ctx.mode, ctx.act = tap, follow, mode, act
        ctx.set_materialize_grads(False)
        if mode == "LSTM":
            assert c is not None
            out, kept, final = _lstm(gates, h, c, weight, bias)
        elif mode == "GRU":
            out, kept, final = _gru(gates, h, weight, bias)
        else:
            out, kept, final = _rnn(gates, h, weight, bias, act)
        ctx.save_for_backward(h, c, weight, out, *kept)
        return (out, *final)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *wanted: Tensor | None) -> Any:  # type: ignore[override]
        h, c, weight, out, *kept = ctx.saved_tensors
        given = torch.zeros_like(out) if wanted[0] is None else wanted[0].contiguous()
        if wanted[1] is not None:  # of the final h, which is the last output
            given = given.clone()
            given[-1] += wanted[1]
        before = torch.cat([h[None], out[:-1]])
        if ctx.mode == "LSTM":
            last = torch.zeros_like(c) if wanted[2] is None else wanted[2].clone()
            of_gates, own, back, dh, dc = _lstm_back(given, last, c, weight, kept)
        else:
            dc = None
            of_gates, own, back, dh = (
                _gru_back(given, before, weight, kept) if ctx.mode == "GRU" else _rnn_back(given, out, weight, ctx.act)
            )
        ctx.tap.gradient = own
        if ctx.follow:
            ctx.tap.back = back
        rows = own.flatten(0, 1)
        of_weight = rows.T @ before.flatten(0, 1) if ctx.needs_input_grad[7] else None
        of_bias = rows.sum(0) if ctx.needs_input_grad[8] else None
        return None, None, None, None, of_gates, dh, dc, of_weight, of_bias


Kept = tuple[Tensor, ...]


def _lstm(
    gates: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Kept, list[Tensor]]:
    z = gates.contiguous() + bias if bias is not None else gates.clone(memory_format=torch.contiguous_format)
    size, turned = h.shape[-1], weight.T
    out, cells, squashed = (z.new_empty(len(z), *h.shape) for _ in range(3))
    for t, now in enumerate(z.unbind(0)):
        now.addmm_(h, turned)
        now[:, : 2 * size].sigmoid_()
        now[:, 2 * size : 3 * size].tanh_()
        now[:, 3 * size :].sigmoid_()
        i, f, g, o = now.chunk(4, 1)
        c = torch.mul(f, c, out=cells[t]).addcmul_(i, g)
        h = torch.mul(o, torch.tanh(c, out=squashed[t]), out=out[t])
    return out, (z, cells, squashed), [h.clone(), c.clone()]


def _lstm_back(
    given: Tensor, last: Tensor, c: Tensor, weight: Tensor, kept: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    z, cells, squashed = kept
    i, f, g, o = z.chunk(4, 2)
    ready = torch.empty_like(z)  # what each gate's gradient is over that of c, and for the output gate over that of h
    for part, value in zip(
        ready.chunk(4, 2), (g * (i - i * i), torch.cat([c[None], cells[:-1]]) * (f - f * f), i * (1 - g * g), squashed * (o - o * o)), strict=True
    ):  # fmt: skip
        part.copy_(value)
    through = o * (1 - squashed * squashed)
    back, size = torch.empty_like(given), given.shape[2]
    dh, dc = given[-1], last
    for t in reversed(range(len(z))):
        now = ready[t]
        dc.addcmul_(dh, through[t])
        now[:, : 3 * size].unflatten(1, (3, size)).mul_(dc[:, None])
        now[:, 3 * size :].mul_(dh)
        dc.mul_(f[t])
        torch.mm(now, weight, out=back[t])
        dh = back[t] + given[t - 1] if t else back[t]
    return ready, ready, back, dh, dc


def _gru(gates: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Kept, list[Tensor]]:
    size, turned = h.shape[-1], weight.T
    z = gates.clone(memory_format=torch.contiguous_format)
    own, out = torch.empty_like(z), z.new_empty(len(z), *h.shape)
    for t, now in enumerate(z.unbind(0)):
        if bias is None:
            torch.mm(h, turned, out=own[t])
        else:
            torch.addmm(bias, h, turned, out=own[t])
        reset_update, new = now[:, : 2 * size], now[:, 2 * size :]
        reset_update.add_(own[t][:, : 2 * size]).sigmoid_()
        new.addcmul_(now[:, :size], own[t][:, 2 * size :]).tanh_()
        h = torch.lerp(new, h, now[:, size : 2 * size], out=out[t])
    return out, (z, own), [h.clone()]


def _gru_back(given: Tensor, before: Tensor, weight: Tensor, kept: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (z, own), size = kept, given.shape[2]
    r, u, n = z.chunk(3, 2)
    of_new = (1 - u) * (1 - n * n)  # the gradient of what the new gate sums up, over that of h
    ready = torch.cat([of_new * own[..., 2 * size :] * (r - r * r), (before - n) * (u - u * u), of_new * r], 2)
    back, seen = torch.empty_like(given), torch.empty_like(given)
    dh = given[-1]
    for t in reversed(range(len(z))):
        seen[t] = dh
        ready[t].unflatten(1, (3, size)).mul_(dh[:, None])
        torch.mm(ready[t], weight, out=back[t])
        dh = torch.addcmul(back[t], dh, u[t])
        if t:
            dh.add_(given[t - 1])
    return torch.cat([ready[..., : 2 * size], of_new.mul_(seen)], 2), ready, back, dh


def _rnn(gates: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None, act: str) -> tuple[Tensor, Kept, list[Tensor]]:
    out = gates.contiguous() + bias if bias is not None else gates.clone(memory_format=torch.contiguous_format)
    turned = weight.T
    for now in out.unbind(0):
        now.addmm_(h, turned)
        h = now.relu_() if act == "relu" else now.tanh_()
    return out, (), [h.clone()]


def _rnn_back(given: Tensor, out: Tensor, weight: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ready = (out > 0).to(out.dtype) if act == "relu" else 1 - out * out
    back = torch.empty_like(given)
    dh = given[-1]
    for t in reversed(range(len(out))):
        ready[t].mul_(dh)
        torch.mm(ready[t], weight, out=back[t])
        dh = back[t] + given[t - 1] if t else back[t]
    return ready, ready, back, dh
