"""Masked and removed agree in training mode, too: outputs, what BatchNorm learns from the batch, and every gradient.

Dropout is off, since it draws one number for each entry, whichever remain. BatchNorm takes its statistics a channel at a time, so those of the
channels that stay are the same; LayerNorm, RMSNorm and GroupNorm take theirs over the survivors in both modes.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from explorer.compress.apply import build
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.models.norms import over_survivors
from explorer.models.removal import select
from explorer.models.subject import Subject
from explorer.models.task import to_device
from explorer.models.trial import Double, difference, tensors
from tests.contract.nets import SAMPLES, few
from tests.structure.test_zoo import CHOSEN
from tests.structure.zoo import CASES, RECURRENT, UNTRACEABLE, Case


def without_dropout(module: nn.Module) -> nn.Module:
    """In training mode and float64; dropout of every kind at zero."""
    for child in module.modules():
        if isinstance(child, nn.modules.dropout._DropoutNd):
            child.p = 0.0
        if isinstance(getattr(child, "dropout", None), float):  # of recurrent and attention modules
            child.dropout = 0.0
    return module.cpu().double().train()


def state_after(subject: Subject, module: nn.Module) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs of one step of training, and {name: gradient, or buffer as it is afterwards}."""
    inputs = to_device(subject.example(6), "cpu", torch.float64)
    module.requires_grad_(True)
    with Double():
        outputs = tensors(subject.task.forward(module, inputs))
    generator = torch.Generator().manual_seed(0)
    loss = sum((one * torch.randn(one.shape, generator=generator, dtype=torch.float64)).sum() for one in outputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return [one.detach() for one in outputs], found | dict(module.named_buffers())


def agree(subject: Subject) -> None:
    plan = resolve(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"))
    assert plan.kept
    masked = without_dropout(build(subject, Plan(plan.layers, plan.kept, {}, plan.protected)))
    removed = without_dropout(build(subject, plan))
    with over_survivors(masked, plan.norms):
        wanted, left = state_after(subject, masked)
    found, remaining = state_after(subject, removed)
    assert difference(wanted, found) <= 1e-9
    assert len(remaining) >= 2 and remaining.keys() <= left.keys()
    for name, tensor in remaining.items():
        dims = {dim: index for dim, index in plan.dropped.get(name, {}).items() if dim >= 0}
        assert difference([select(left[name].detach(), dims)], [tensor.detach()]) <= 1e-9, name


@pytest.mark.parametrize(
    "case", [c for c in [*CASES, *CHOSEN, *UNTRACEABLE] if c.groups != {}], ids=lambda case: case.name
)
def test_every_architecture(case: Case, device: str) -> None:
    agree(case.subject(device))


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in RECURRENT if c not in CHOSEN], ids=lambda case: case.name)
def test_every_recurrent_layer(case: Case, device: str) -> None:
    agree(case.subject(device))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample(name: str, device: str) -> None:
    subject = few(name, device=device)
    before = copy.deepcopy(subject.module.state_dict())
    agree(subject)
    assert all(torch.equal(before[key], value) for key, value in subject.module.state_dict().items())
