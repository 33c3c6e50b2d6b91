"""A recurrent layer with its gradients by hand: two products are seen instead of one a step, and no step is recorded by autograd.

The equations of :func:`explorer.models.steps.step`; backpropagation through time: Werbos 1990, Proc. IEEE 78(10). A step's values stay
in the core's cache, and what the gates were makes room for their gradients: so a graph of this goes backward once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from .taps import Tap

SIGMOID, TANH = torch.ops.aten.sigmoid_backward.grad_input, torch.ops.aten.tanh_backward.grad_input
Weights = dict[str, Tensor]


def run(
    taps: tuple[Tap, Tap], follow: tuple[bool, bool], mode: str, act: str, x: Tensor, state: list[Tensor], own: Weights
) -> tuple[Tensor, list[Tensor]]:
    """(output [T, N, H], [final h (and c)]) of x [T, N, I]. taps: of the products with inputs and with states; filled, as a
    :class:`Watch` fills its own, each with a dim of steps in front. own: weight_ih, weight_hh, bias_ih, bias_hh."""
    anchor = torch.zeros(
        (), requires_grad=torch.is_grad_enabled()
    )  # so that what follows is recorded, though nothing here may require it
    bias = (own.get("bias_ih"), own.get("bias_hh"))
    found = Through.apply(taps, follow, mode, act, x, anchor, own["weight_ih"], own["weight_hh"], *bias, *state)  # type: ignore[no-untyped-call]
    out, before, *final = found
    for tap, read, weight in ((taps[0], x, own["weight_ih"]), (taps[1], before, own["weight_hh"])):
        tap.inputs, tap.output, tap.steps = read.detach(), (*read.shape[:-1], len(weight)), True
    return out, final


class Through(torch.autograd.Function):
    """One direction of an nn.LSTM, nn.GRU or nn.RNN."""

    @staticmethod
    def forward(ctx: Any, taps: Any, follow: Any, mode: str, act: str, x: Tensor, _anchor: Tensor, w: Tensor, u: Tensor, b: Any, c: Any, *state: Tensor) -> Any:  # fmt: skip
        ctx.set_materialize_grads(False)
        gates = 3 if mode == "GRU" else 4 if mode == "LSTM" else 1
        size, rows = len(u) // gates, x.reshape(-1, x.shape[-1])
        added = None if b is None else b if mode == "GRU" else b + c  # a GRU's reset gate multiplies one of the two
        z = (rows @ w.T if added is None else torch.addmm(added, rows, w.T)).view(*x.shape[:2], -1)
        states = z.new_empty(len(z) + 1, *state[0].shape)  # before the first step, and after each
        states[0] = state[0]
        if mode == "LSTM":
            kept = _lstm(z, states, state[1], u, size)
        else:
            kept = _gru(z, states, u, c, size) if mode == "GRU" else _rnn(z, states, u, act)
        ctx.save_for_backward(x, w, u)
        ctx.seen, ctx.settings = (z, states, kept), (taps, follow, mode, act, size)
        out, before = states[1:], states[:-1]
        ctx.mark_non_differentiable(before)
        return out, before, states[-1].clone(), *([kept[0][-1].clone()] if mode == "LSTM" else [])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Any, _before: Any, of_last: Any, of_cell: Any = None) -> Any:  # type: ignore[override]
        (x, w, u), (z, states, kept), (taps, follow, mode, act, size) = ctx.saved_tensors, ctx.seen, ctx.settings
        del ctx.seen  # what the gates were is written over
        of_last = states.new_zeros(states.shape[1:]) if of_last is None else of_last
        back = torch.empty_like(states[:-1]) if follow[1] else None
        walk = _Back(z, states, of_out, of_last, u, back, size)
        of_cells = []
        if mode == "LSTM":
            own, dh, dc = z, *walk.lstm(kept[0], kept[1], of_cell)
            of_cells = [dc]
        elif mode == "GRU":
            own, dh = walk.gru(kept[0])
        else:
            own, dh = z, walk.rnn(act)
        wanted = ctx.needs_input_grad
        of_x = z @ w if wanted[4] else None
        taps[0].gradient, taps[1].gradient = z, own
        taps[0].back, taps[1].back = of_x if follow[0] else None, back
        rows, others = z.flatten(0, 1), own.flatten(0, 1)
        return (
            None, None, None, None, of_x, None,
            rows.T @ x.reshape(-1, x.shape[-1]) if wanted[6] else None, others.T @ states[:-1].flatten(0, 1) if wanted[7] else None,
            rows.sum(0) if wanted[8] else None, others.sum(0) if wanted[9] else None, dh, *of_cells,
        )  # fmt: skip


def _lstm(z: Tensor, states: Tensor, c: Tensor, u: Tensor, size: int) -> tuple[Tensor, ...]:
    cells, squashed = z.new_empty(len(states), *c.shape), torch.empty_like(states[1:])
    cells[0] = c
    turned = u.T
    for t, now in enumerate(z.unbind(0)):
        now.addmm_(states[t], turned)
        now[:, : 2 * size].sigmoid_()
        now[:, 2 * size : 3 * size].tanh_()
        now[:, 3 * size :].sigmoid_()
        i, f, g, o = now.chunk(4, 1)
        torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
        torch.mul(o, torch.tanh(cells[t + 1], out=squashed[t]), out=states[t + 1])
    return cells, squashed


def _gru(z: Tensor, states: Tensor, u: Tensor, bias: Tensor | None, size: int) -> tuple[Tensor, ...]:
    own, turned = z.new_empty(z.shape[1:]), u.T
    news, added = torch.empty_like(states[1:]), z.new_zeros(()) if bias is None else bias
    for t, now in enumerate(z.unbind(0)):
        torch.addmm(added, states[t], turned, out=own)
        now[:, : 2 * size].add_(own[:, : 2 * size]).sigmoid_()
        news[t] = own[:, 2 * size :]
        now[:, 2 * size :].addcmul_(now[:, :size], news[t]).tanh_()
        torch.lerp(now[:, 2 * size :], states[t], now[:, size : 2 * size], out=states[t + 1])
    return (news,)


def _rnn(z: Tensor, states: Tensor, u: Tensor, act: str) -> tuple[Tensor, ...]:
    turned = u.T
    for t, now in enumerate(z.unbind(0)):
        now.addmm_(states[t], turned)
        torch.clamp(now, min=0, out=states[t + 1]) if act == "relu" else torch.tanh(now, out=states[t + 1])
    return ()


class _Back:
    """From the last step to the first. z: what the gates were, then their gradients. back: filled, if there, with the gradients of
    states by the product alone."""

    def __init__(
        self, z: Tensor, states: Tensor, of_out: Tensor | None, dh: Tensor, u: Tensor, back: Tensor | None, size: int
    ) -> None:
        self.z, self.states, self.of_out, self.dh, self.u, self.back, self.size = (
            z,
            states,
            of_out,
            dh.clone(),
            u,
            back,
            size,
        )
        self.room = torch.empty_like(states[0])

    def _before(self, t: int, gradient: Tensor) -> Tensor:
        """What a step's gradient says to the state before it."""
        return torch.mm(gradient, self.u, out=self.room if self.back is None else self.back[t])

    def _of_step(self, t: int) -> Tensor:
        if self.of_out is not None:
            self.dh.add_(self.of_out[t])
        return self.dh

    def lstm(self, cells: Tensor, squashed: Tensor, of_cell: Tensor | None) -> tuple[Tensor, Tensor]:
        """(dL / d first h, dL / d first c)."""
        dc = torch.zeros_like(cells[0]) if of_cell is None else of_cell.clone()
        a, b, d = (torch.empty_like(dc) for _ in range(3))
        for t in reversed(range(len(self.z))):
            i, f, g, o = self.z[t].chunk(4, 1)
            dh = self._of_step(t)
            TANH(torch.mul(dh, o, out=a), squashed[t], grad_input=a)
            dc.add_(a)
            SIGMOID(torch.mul(dh, squashed[t], out=a), o, grad_input=o)
            torch.mul(dc, g, out=a), torch.mul(dc, i, out=b), torch.mul(dc, cells[t], out=d)
            dc.mul_(f)
            SIGMOID(a, i, grad_input=i), TANH(b, g, grad_input=g), SIGMOID(d, f, grad_input=f)
            dh.copy_(self._before(t, self.z[t]))
        return self.dh, dc

    def gru(self, news: Tensor) -> tuple[Tensor, Tensor]:
        """(gradients of what the state contributes to the gates [T, N, 3H], dL / d first h)."""
        own, a = torch.empty_like(self.z), torch.empty_like(self.dh)
        for t in reversed(range(len(self.z))):
            r, u, n = self.z[t].chunk(3, 1)
            dh, last = self._of_step(t), own[t][:, 2 * self.size :]
            torch.sub(self.states[t], n, out=a).mul_(dh)
            TANH(torch.addcmul(dh, dh, u, value=-1, out=self.room), n, grad_input=n)
            dh.mul_(u)
            SIGMOID(a, u, grad_input=u)
            torch.mul(n, r, out=last)
            SIGMOID(torch.mul(n, news[t], out=a), r, grad_input=r)
            own[t][:, : 2 * self.size] = self.z[t][:, : 2 * self.size]
            dh.add_(self._before(t, own[t]))
        return own, self.dh

    def rnn(self, act: str) -> Tensor:
        """dL / d first h."""
        for t in reversed(range(len(self.z))):
            dh, said = self._of_step(t), self.states[t + 1]
            torch.mul(dh, said > 0, out=self.z[t]) if act == "relu" else TANH(dh, said, grad_input=self.z[t])
            dh.copy_(self._before(t, self.z[t]))
        return self.dh
