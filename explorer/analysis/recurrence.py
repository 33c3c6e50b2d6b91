"""A recurrent layer with its gradients by hand: two products are seen instead of one a step, and no step is recorded by autograd.

The equations of :func:`explorer.models.steps.step`; backpropagation through time: Werbos 1990, Proc. IEEE 78(10). A step's values stay
in the core's cache, and what the gates were makes room for their gradients: so a graph of this goes backward once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import cells as plain
from .reductions import looks_once
from .room import Room

if TYPE_CHECKING:
    from .taps import Tap

Weights = dict[str, Tensor]
Reads = Iterator[tuple[int, Tensor]]


def run(
    taps: tuple[Tap, Tap],
    follow: tuple[bool, bool, bool],
    room: Room,
    mode: str,
    act: str,
    x: Tensor,
    state: list[Tensor],
    own: Weights,
) -> tuple[Tensor, list[Tensor]]:
    """(output [T, N, H], [final h (and c)]) of x [T, N, I]. taps: of the products with inputs and with states; filled, as a
    :class:`Watch` fills its own, each with a dim of steps in front; their gradients lie in the room. follow: whether what goes back to the inputs is
    wanted, to the states, and of that only ``met``. own: weight_ih, weight_hh, bias_ih, bias_hh."""
    x = x.contiguous()  # once, for all that look at it
    # so that what follows is recorded, though nothing here may require it
    anchor = torch.zeros((), requires_grad=torch.is_grad_enabled())
    bias = (own.get("bias_ih"), own.get("bias_hh"))
    found = Through.apply(taps, follow, room, mode, act, x, anchor, own["weight_ih"], own["weight_hh"], *bias, *state)  # type: ignore[no-untyped-call]
    out, before, *final = found
    for tap, read, weight in ((taps[0], x, own["weight_ih"]), (taps[1], before, own["weight_hh"])):
        tap.inputs, tap.output, tap.steps = read.detach(), (*read.shape[:-1], len(weight)), True
    return out, final


class Through(torch.autograd.Function):
    """One direction of an nn.LSTM, nn.GRU or nn.RNN."""

    @staticmethod
    def forward(ctx: Any, taps: Any, follow: Any, room: Room, mode: str, act: str, x: Tensor, _anchor: Tensor, w: Tensor, u: Tensor, b: Any, c: Any, *state: Tensor) -> Any:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w, u)
        size = len(u) // {"LSTM": 4, "GRU": 3}.get(mode, 1)
        none = x.new_zeros(())
        added = none if b is None else b if mode == "GRU" else b + c  # a GRU's reset gate multiplies one of the two
        z, states = room.take(x, *x.shape[:2], len(u)), room.take(x, len(x) + 1, *state[0].shape)
        states[0] = state[0]  # before the first step, and after each
        reads = _reads(x, w.T.contiguous(), None if mode == "LSTM" else added, z)
        if mode == "LSTM":
            kept = _lstm(
                reads, room, z, states, state[1], u.T.contiguous(), added if added.ndim else x.new_zeros(len(u))
            )
        elif mode == "GRU":
            kept = _gru(reads, room, z, states, u.T.contiguous(), none if c is None else c, size)
        else:
            kept = _rnn(reads, states, u.T.contiguous(), act)
        ctx.seen, ctx.settings = (z, states, kept), (taps, follow, room, mode, act)
        out, before = states[1:], states[:-1]
        ctx.mark_non_differentiable(before)
        return out, before, states[-1].clone(), *([kept[0][-1].clone()] if mode == "LSTM" else [])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Any, _before: Any, of_last: Any, of_cell: Any = None) -> Any:  # type: ignore[override]
        (x, w, u), (z, states, kept), (taps, follow, room, mode, act) = ctx.saved_tensors, ctx.seen, ctx.settings
        del ctx.seen  # what the gates were is written over
        of_last = states.new_zeros(states.shape[1:]) if of_last is None else of_last
        back = room.take(z, *states[:-1].shape) if follow[1] and not follow[2] else None
        met = torch.zeros_like(states[0]) if follow[2] else None
        wanted = ctx.needs_input_grad
        of_x = room.take(z, *x.shape) if wanted[5] else None
        walk = _Back(z, states, of_out, of_last, w, u, of_x, back, met)
        of_cells = []
        if mode == "LSTM":
            own, dh, dc = z, *walk.lstm(kept[0], of_cell)
            of_cells = [dc]
        elif mode == "GRU":
            own, dh = walk.gru(kept[0], room.take(z, *z.shape))
        else:
            own, dh = z, walk.rnn(act)
        taps[0].gradient, taps[1].gradient = z, own
        taps[0].back, taps[1].back, taps[1].met = of_x if follow[0] else None, back, met
        rows, others = z.flatten(0, 1), own.flatten(0, 1)
        return (
            None, None, None, None, None, of_x, None,
            rows.T @ x.reshape(-1, x.shape[-1]) if wanted[7] else None, others.T @ states[:-1].flatten(0, 1) if wanted[8] else None,
            rows.sum(0) if wanted[9] else None, others.sum(0) if wanted[10] else None, dh, *of_cells,
        )  # fmt: skip


def _fastest(z: Tensor) -> tuple[ModuleType, Callable[[Tensor], Any]]:
    """(what does a step best, what it takes a tensor as)."""
    if not looks_once(z):
        return plain, Tensor.detach
    from . import cell_loops  # numba takes a moment to import

    return cell_loops, Tensor.numpy


def _reads(x: Tensor, w: Tensor, added: Tensor | None, z: Tensor) -> Reads:
    """(step, what its input contributes to its gates, there in z): one after the other, so that the step finds them in the cache."""
    for t, (read, now) in enumerate(zip(x.unbind(0), z.unbind(0), strict=True)):
        yield t, torch.mm(read, w, out=now) if added is None else torch.addmm(added, read, w, out=now)


def _lstm(
    reads: Reads, room: Room, z: Tensor, states: Tensor, c: Tensor, u: Tensor, added: Tensor
) -> tuple[Tensor, ...]:
    cells = room.take(z, len(states), *c.shape)
    cells[0] = c
    does, of = _fastest(z)
    gates, memory, said, bias = of(z), of(cells), of(states), of(added)
    for t, now in reads:
        now.addmm_(states[t], u)
        does.lstm_cell(gates[t], bias, memory[t], memory[t + 1], said[t + 1])
    return (cells,)


def _gru(
    reads: Reads, room: Room, z: Tensor, states: Tensor, u: Tensor, added: Tensor, size: int
) -> tuple[Tensor, ...]:
    own, news = z.new_empty(z.shape[1:]), room.take(z, *states[1:].shape)
    for t, now in reads:
        torch.addmm(added, states[t], u, out=own)
        now[:, : 2 * size].add_(own[:, : 2 * size]).sigmoid_()
        news[t] = own[:, 2 * size :]
        now[:, 2 * size :].addcmul_(now[:, :size], news[t]).tanh_()
        torch.lerp(now[:, 2 * size :], states[t], now[:, size : 2 * size], out=states[t + 1])
    return (news,)


def _rnn(reads: Reads, states: Tensor, u: Tensor, act: str) -> tuple[Tensor, ...]:
    for t, now in reads:
        now.addmm_(states[t], u)
        torch.clamp(now, min=0, out=states[t + 1]) if act == "relu" else torch.tanh(now, out=states[t + 1])
    return ()


class _Back:
    """From the last step to the first. z: what the gates were, then their gradients. of_out: dL / d output; dh: dL / d the last state. of_x: filled, if there,
    with dL / d input; back: with the gradients of states by the product alone; met: with these times the states, summed over steps."""

    def __init__(
        self,
        z: Tensor,
        states: Tensor,
        of_out: Tensor | None,
        dh: Tensor,
        w: Tensor,
        u: Tensor,
        of_x: Tensor | None,
        back: Tensor | None,
        met: Tensor | None,
    ) -> None:
        self.z, self.states, self.w, self.u, self.of_out, self.met = z, states, w, u, of_out, met
        self.dh, self.room = dh.clone(memory_format=torch.contiguous_format), torch.empty_like(states[0])
        self.does, self.of = _fastest(z)
        self.steps = z.unbind(0)
        self.of_xs, self.backs = (None if one is None else one.unbind(0) for one in (of_x, back))

    def _before(self, t: int, gradient: Tensor) -> Tensor:
        """What a step's gradient says to the state before it; it is in the cache now, and the input's turn, too."""
        found = torch.mm(gradient, self.u, out=self.room if self.backs is None else self.backs[t])
        if self.met is not None:
            self.met.addcmul_(found, self.states[t])
        if self.of_xs is not None:
            torch.mm(self.steps[t], self.w, out=self.of_xs[t])
        return found

    def _of_step(self, t: int, later: Tensor) -> Tensor:
        """dL / d the state after a step, of what later ones say to it: always the same memory."""
        if self.of_out is not None:
            return torch.add(later, self.of_out[t], out=self.dh)
        return self.dh if later is self.dh else self.dh.copy_(later)

    def _own(self) -> Callable[[int], tuple[Any, int]]:
        """dL / d output of a step: (rows, one a sample, and where in these it begins), so that an output with samples first needs no copy."""
        if self.of_out is None:
            none = self.of(torch.zeros_like(self.dh))
            return lambda t: (none, 0)
        by_sample, size = self.of_out.transpose(0, 1), self.dh.shape[1]
        if by_sample.is_contiguous():
            rows = self.of(by_sample.flatten(1))
            return lambda t: (rows, t * size)
        steps = self.of(self.of_out.contiguous())
        return lambda t: (steps[t], 0)

    def lstm(self, cells: Tensor, of_cell: Tensor | None) -> tuple[Tensor, Tensor]:
        """(dL / d first h, dL / d first c)."""
        dc = torch.zeros_like(cells[0]) if of_cell is None else of_cell.clone(memory_format=torch.contiguous_format)
        gates, memory, of_c = (self.of(one) for one in (self.z, cells, dc))
        later, own = self.dh, self._own()
        for t in reversed(range(len(self.z))):
            self.does.lstm_back(gates[t], self.of(later), *own(t), of_c, memory[t], memory[t + 1])
            later = self._before(t, self.steps[t])
        return later.clone(), dc

    def gru(self, news: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """(own: gradients of what the state contributes to the gates [T, N, 3H], dL / d first h)."""
        gates, others, said, added, dh = (self.of(one) for one in (self.z, own, self.states, news, self.dh))
        for t in reversed(range(len(self.z))):
            self._of_step(t, self.dh)
            self.does.gru_back(gates[t], others[t], dh, said[t], added[t])
            self.dh.add_(self._before(t, own[t]))
        return own, self.dh

    def rnn(self, act: str) -> Tensor:
        """dL / d first h."""
        later = self.dh
        for t in reversed(range(len(self.z))):
            dh, said = self._of_step(t, later), self.states[t + 1]
            torch.mul(dh, said > 0, out=self.z[t]) if act == "relu" else plain.TANH(dh, said, grad_input=self.z[t])
            later = self._before(t, self.steps[t])
        return later.clone()
