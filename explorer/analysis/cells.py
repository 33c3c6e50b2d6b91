"""What a step of a recurrent layer does between its matrix products, forward and back, in place.

The equations of :func:`explorer.models.steps.step` and their derivatives. z [N, G * H]: what goes into the gates, then the gates, then the gradients
of what went into them. A sigmoid is (1 + tanh(x / 2)) / 2, so that one tanh of all that lies together in memory serves four gates.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMOID, TANH = torch.ops.aten.sigmoid_backward.grad_input, torch.ops.aten.tanh_backward.grad_input


def halved(rows: Tensor) -> Tensor:
    """Of an LSTM's weights or bias [4H, ...]: what makes one tanh serve all gates."""
    factors = rows.new_tensor([0.5, 0.5, 1.0, 0.5]).repeat_interleave(len(rows) // 4)
    return rows * factors.view(-1, *(1 for _ in rows.shape[1:]))


def lstm_cell(z: Tensor, before: Tensor, now: Tensor) -> None:
    """z: tanh, with halved arguments of i, f and o; becomes the gates. now = f before + i g, cells [N, H]."""
    i, f, g, o = z.chunk(4, 1)
    for gate in (i, f, o):
        gate.add_(1).mul_(0.5)
    torch.mul(f, before, out=now).addcmul_(i, g)


def lstm_said(z: Tensor, squashed: Tensor, h: Tensor) -> None:
    """h = o tanh(c); squashed: tanh(c)."""
    torch.mul(z.chunk(4, 1)[3], squashed, out=h)


def lstm_back(z: Tensor, dh: Tensor, dc: Tensor, before: Tensor, squashed: Tensor) -> None:
    """Of dL / d h; dc: dL / d c of this step's c by later steps, then of the one before."""
    i, f, g, o = z.chunk(4, 1)
    dc.add_(TANH(dh * o, squashed, grad_input=torch.empty_like(dh)))
    SIGMOID(dh * squashed, o, grad_input=o)
    of_i, of_g, of_f = dc * g, dc * i, dc * before
    dc.mul_(f)
    SIGMOID(of_i, i, grad_input=i), TANH(of_g, g, grad_input=g), SIGMOID(of_f, f, grad_input=f)


def gru_back(z: Tensor, own: Tensor, dh: Tensor, before: Tensor, news: Tensor) -> None:
    """own: filled with the gradients of what the state contributes; news: what it contributes to n. dh: then what goes past the gates."""
    (r, u, n), last = z.chunk(3, 1), own.chunk(3, 1)[2]
    of_u = (before - n) * dh
    TANH(dh - dh * u, n, grad_input=n)
    dh.mul_(u)
    SIGMOID(of_u, u, grad_input=u)
    torch.mul(n, r, out=last)
    SIGMOID(n * news, r, grad_input=r)
    own[:, : 2 * r.shape[1]] = z[:, : 2 * r.shape[1]]
