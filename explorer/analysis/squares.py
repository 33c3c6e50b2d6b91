"""Squared gradients of single samples, for weights of which the fused pass does not have them: exact, and slower."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.device import exact
from ..models.subject import Subject
from ..models.unrolled import ready
from . import per_sample
from .look import CHUNK, Look, chunks, loss_of
from .probe import probe
from .taps import Watch


def squared_gradients(subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
    """{layer: mean over samples of (dL_n/dw)^2}. Cached.

    One pass over batches for products that could be watched; one backward pass a sample for what could not, and for models in
    whose batches samples cannot be told apart.
    """
    known = probe(subject)
    fast = [name for name in names if known.splits and name in known.watched and known.kinds[name] != "embedding"]
    slow = [name for name in names if name not in fast]
    found: dict[str, Tensor] = {}
    for chosen, run in ((fast, _by_batch), (slow, _one_by_one)):
        if chosen:
            key = ("squares", subject.version, tuple(chosen), look.key)
            found |= subject.memo.get(key, lambda run=run, chosen=chosen: run(subject, chosen, look))  # type: ignore[misc]
    return found


def _by_batch(subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
    known, total, count = probe(subject), dict[str, Tensor](), 0
    with torch.inference_mode(False), torch.enable_grad(), exact(look.where):
        module = ready(subject.module, look.where, known.last and look.where.type == "cpu")
        parameters = dict(module.named_parameters())
        for inputs, targets, n in chunks(subject, look, CHUNK, parameters[names[0]].dtype):
            with Watch({id(parameters[name]): name for name in names}) as watch:
                outputs = subject.task.forward(module, inputs)
            loss_of(subject, outputs, targets).backward()  # type: ignore[no-untyped-call]
            for name in names:
                shape = parameters[name].shape
                pairs = [
                    per_sample.matrices(tap, shape, known.batch[name])
                    for tap in watch.of(name)
                    if tap.gradient is not None
                ]
                if pairs:
                    rows, columns = (torch.cat(part, 2) for part in zip(*pairs, strict=True))
                    found = per_sample.squares(rows, columns).reshape(shape) * (n * n)  # of L_n, not of their mean
                    total[name] = total[name] + found if name in total else found
            count += n
    return {name: found / count for name, found in total.items()}


def _one_by_one(subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
    with torch.inference_mode(False), torch.enable_grad(), exact(look.where):
        module = ready(subject.module, look.where)
        parameters = dict(module.named_parameters())
        chosen = [parameters[name].requires_grad_(True) for name in names]
        total, count = [torch.zeros_like(one) for one in chosen], 0
        for inputs, targets, n in chunks(subject, look, 1, chosen[0].dtype):
            loss = loss_of(subject, subject.task.forward(module, inputs), targets)
            found = torch.autograd.grad(loss, chosen, allow_unused=True)
            total = [t if g is None else t + g.square() for t, g in zip(total, found, strict=True)]
            count += n
    return {name: (t / count).detach() for name, t in zip(names, total, strict=True)}
