"""What a step of a recurrent layer does between its matrix products, forward and back, in place.

The equations of :func:`explorer.models.steps.step` and their derivatives. z [N, G * H]: what goes into the gates, then the gates, then the gradients
of what went into them.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMOID, TANH = torch.ops.aten.sigmoid_backward.grad_input, torch.ops.aten.tanh_backward.grad_input


def lstm_cell(z: Tensor, added: Tensor, before: Tensor, now: Tensor, h: Tensor) -> None:
    """z: what inputs and states contribute, becomes the gates; added [4H]: to these. now = f before + i g, h = o tanh(now), [N, H]."""
    z.add_(added)
    i, f, g, o = z.chunk(4, 1)
    i.sigmoid_(), f.sigmoid_(), g.tanh_(), o.sigmoid_()
    torch.mul(f, before, out=now).addcmul_(i, g)
    torch.mul(o, now.tanh(), out=h)


def lstm_back(z: Tensor, later: Tensor, own: Tensor, start: int, dc: Tensor, before: Tensor, now: Tensor) -> None:
    """later, and the columns of own from start on: dL / d h, by later steps and by the output. dc: dL / d c of this step's c by later steps, then of
    the one before."""
    i, f, g, o = z.chunk(4, 1)
    dh, squashed = later + own[:, start : start + i.shape[1]], now.tanh()
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
