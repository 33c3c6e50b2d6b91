"""Plan + Subject -> the tensors that change, and a new module of them. Not verified: that is apply's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..models.removal import remove
from ..models.sites import attach
from ..models.subject import Subject
from .plan import Plan


def effective_weights(subject: Subject, plan: Plan) -> dict[str, Tensor]:
    """{FQN: tensor of the *original* shape} that the compressed model computes with; removed entries of layers are zero.

    Layers, and biases and norms where they change.
    """

    version = subject.version  # once: it looks at every tensor of the module

    def one(name: str) -> Tensor:
        mine = plan.layers[name]
        if not mine.changes_weight:
            return subject.weight(name)
        return subject.memo.get(("weight", version, name, mine.digest), lambda: mine.apply(subject.weight(name)))

    return {name: one(name) for name in plan.layers} | dict(plan.tensors)


@torch.no_grad()
def build(subject: Subject, plan: Plan) -> nn.Module:
    """A new module of the plan, in eval mode: same names and shapes unless units go, and same classes.

    Where activations are rounded a module's class is a subclass that does it (:mod:`explorer.models.quantized`).
    """
    module = copy.deepcopy(subject.module).eval()
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name, weight in effective_weights(subject, plan).items():
        held[name].data = weight.detach() + 0  # a copy, without the negative zeros that masking leaves
    if plan.dropped:
        remove(module, {name: dict(dims) for name, dims in plan.dropped.items()})
    if plan.inputs:
        device = next(module.parameters()).device
        attach(module, {name: one.to(device) for name, one in plan.roundings().items()})
    return module
