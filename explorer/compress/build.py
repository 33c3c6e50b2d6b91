"""Plan + Subject -> the tensors that change, and a new module of them. Not verified: that is apply's."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..models.removal import remove
from ..models.sites import attach
from ..models.subject import Subject
from .lazy import Lazy
from .plan import Plan

KEPT = 32 << 20  # bytes of a weight up to which it is kept once it was made


def effective_weights(subject: Subject, plan: Plan) -> Mapping[str, Tensor]:
    """{FQN: tensor of the *original* shape} that the compressed model computes with; removed entries of layers are zero.

    Layers, and biases and norms where they change. Each is made when it is looked up; large ones are not kept.
    """

    version = subject.version  # once: it looks at every tensor of the module

    def one(name: str) -> Tensor:
        if name in plan.tensors:
            return plan.tensors[name]
        mine, weight = plan.layers[name], subject.weight(name)
        if not mine.changes_weight:
            return weight
        if weight.numel() * weight.element_size() > KEPT:
            return mine.apply(weight)
        return subject.memo.get(("weight", version, name, mine.digest), lambda: mine.apply(weight))

    return Lazy([*plan.layers, *plan.tensors], one)


def _empty(parameter: nn.Parameter) -> nn.Parameter:
    """One of its type and place, without entries."""
    return nn.Parameter(parameter.detach().new_empty(0), requires_grad=parameter.requires_grad)


@torch.no_grad()
def build(subject: Subject, plan: Plan) -> nn.Module:
    """A new module of the plan, in eval mode: same names and shapes unless units go, and same classes.

    Where activations are rounded a module's class is a subclass that does it (:mod:`explorer.models.quantized`).
    """
    weights = effective_weights(subject, plan)
    # what is replaced is never copied: a new module costs one copy of the weights, while it is made as well as afterwards
    empty = {id(p): _empty(p) for name, p in subject.module.named_parameters() if name in weights}
    module = copy.deepcopy(subject.module, empty).eval()
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name, weight in weights.items():
        held[name].data = weight.detach() + 0  # a copy, without the negative zeros that masking leaves
    if plan.dropped:
        remove(module, {name: dict(dims) for name, dims in plan.dropped.items()})
    if plan.inputs:
        device = next(module.parameters()).device
        attach(module, {name: one.to(device) for name, one in plan.roundings().items()})
    return module
