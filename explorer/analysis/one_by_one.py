"""Squared gradients of single samples by one backward pass each: slow, for weights whose products cannot be watched."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.subject import Subject
from ..models.unrolled import ready
from .look import Look, chunks, exact, loss_of


def squared_gradients(subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
    """{layer: mean over samples of (dL_n/dw)^2}. Cached."""

    def find() -> dict[str, Tensor]:
        with torch.inference_mode(False), torch.enable_grad(), exact(look.where):
            module = ready(subject.module, look.where)
            parameters = dict(module.named_parameters())
            chosen = [parameters[name].requires_grad_(True) for name in names]
            dtype = chosen[0].dtype
            total = [torch.zeros_like(one) for one in chosen]
            count = 0
            for inputs, targets, n in chunks(subject, look, 1, dtype):
                loss = loss_of(subject, subject.task.forward(module, inputs), targets)
                found = torch.autograd.grad(loss, chosen, allow_unused=True)
                total = [t if g is None else t + g.square() for t, g in zip(total, found, strict=True)]
                count += n
            return {name: (t / count).detach() for name, t in zip(names, total, strict=True)}

    return subject.memo.get(("one by one", subject.version, tuple(names), look.key), find)
