from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import explorer
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.recover.hold import hold
from tests.contract.nets import classification

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True, weight_decay=0.1),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.rnn, self.head = nn.LSTM(8 * 4, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x)).sigmoid()
        return self.head(self.rnn(x.permute(0, 3, 1, 2).flatten(2))[0][:, -1])


def net(device: str) -> Subject:
    torch.manual_seed(0)
    return Subject(Net().to(device), classification((1, 6, 6)), "net")


def walk(module: nn.Module, optimizer: torch.optim.Optimizer, subject: Subject, steps: int, device: str) -> None:
    inputs, targets = subject.task.batch("train", range(32))
    for _ in range(steps):
        loss = nn.functional.cross_entropy(module(inputs.to(device)), targets.to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_and_removed_units_stay_in_a_loop_of_ones_own(name: str, device: str) -> None:
    subject = net(device)
    digest = subject.digest
    recipe = (
        Recipe()
        .prune("rnn", sparsity=0.6)
        .prune("conv", granularity="unit", sparsity=0.5)
        .prune("rnn", granularity="unit", sparsity=0.25)
    )
    plan = resolve(subject, recipe)
    module = explorer.compress(subject, recipe).train()
    shapes = {key: value.shape for key, value in module.state_dict().items()}
    start = copy.deepcopy(module.state_dict())
    optimizer = OPTIMIZERS[name](module.parameters())
    walk(module, optimizer, subject, 2, device)  # its momentum pushes at the zeros from the first held step on
    masks = {key: plan.layers[key].remaining(mask) for key, mask in plan.masks.items()}
    with hold(module, plan):
        for _ in range(4):
            walk(module, optimizer, subject, 1, device)
            for key, mask in masks.items():
                assert torch.count_nonzero(module.get_parameter(key)[~mask]) == 0, key
    assert {key: value.shape for key, value in module.state_dict().items()} == shapes
    assert all(not torch.equal(module.get_parameter(key), start[key]) for key in masks)
    assert subject.digest == digest
    walk(module, optimizer, subject, 1, device)  # and without it they move, so the above says something
    assert any(torch.count_nonzero(module.get_parameter(key)[~mask]) for key, mask in masks.items())


def test_masked_units_of_the_original_shapes_stay_zero_with_all_that_follows_them(device: str) -> None:
    subject = net(device)
    plan = resolve(subject, Recipe().prune("conv", granularity="unit", sparsity=0.5))
    module = copy.deepcopy(subject.module).train()
    gone = plan.dropped["conv.weight"][0]
    with hold(module, plan):
        walk(module, torch.optim.AdamW(module.parameters(), 0.01), subject, 3, device)
    for tensor in (module.conv.weight, module.conv.bias, module.bn.weight, module.bn.bias):
        assert torch.count_nonzero(tensor[gone.to(tensor.device)]) == 0
        assert torch.count_nonzero(tensor) > 0


def test_a_loop_without_an_optimizer_calls_step(device: str) -> None:
    module = nn.Linear(6, 4).to(device)
    plan = resolve(Subject(copy.deepcopy(module), classification((6,)), "one"), Recipe().prune("weight", sparsity=0.5))
    with hold(module, plan) as held:
        module(torch.randn(3, 6, device=device)).sum().backward()
        with torch.no_grad():
            module.weight -= 0.1
        held.step()
        held.check()
    assert torch.count_nonzero(module.weight) == 12


def test_what_does_not_fit_the_plan_is_named(device: str) -> None:
    subject = net(device)
    plan = resolve(subject, Recipe().prune("conv", granularity="unit", sparsity=0.5))
    with pytest.raises(
        RecipeError, match=r"conv\.weight: shape \(3, 1, 3, 3\); accepted: \(4, 1, 3, 3\), or the original's \(8"
    ):
        module = explorer.compress(subject, Recipe().prune("conv", granularity="unit", units=[0, 1, 2, 3, 4]))
        hold(module, plan)
    with pytest.raises(RecipeError, match="no such parameter"):
        hold(nn.Linear(2, 2).to(device), plan)


def test_nothing_is_hooked_outside_of_the_block(device: str) -> None:
    module = nn.Linear(6, 4).to(device)
    plan = resolve(Subject(copy.deepcopy(module), classification((6,)), "one"), Recipe().prune("weight", sparsity=0.5))
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    with hold(module, plan):
        pass
    module(torch.ones(3, 6, device=device)).sum().backward()
    optimizer.step()
    assert torch.count_nonzero(module.weight) == 24
    assert not module._forward_pre_hooks
    with hold(module, Plan({}, {})) as held:  # a plan that prunes nothing
        assert not held.masks
