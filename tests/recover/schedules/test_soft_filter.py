from __future__ import annotations

import torch

import explorer
from explorer.core.recipe import Recipe
from explorer.core.training import Epoch, Step
from explorer.recover.finetune import finetune
from explorer.recover.schedules.soft_filter import SoftFilter
from tests.recover.schedules.nets import subject, training

RECIPE = Recipe().prune("conv2", granularity="unit", sparsity=0.5, criterion="l2")


def test_filters_are_zero_after_each_epoch_and_grow_back_within_it(device: str) -> None:
    work = training(SoftFilter(), RECIPE, "cnn", device, lr=0.2)
    zero: list[set[int]] = []
    back = 0
    for event in work.events():
        norms = work.run.weights["conv2.weight"].detach().flatten(1).norm(dim=1)
        if isinstance(event, Epoch) and event.epoch:
            zero.append({i for i, norm in enumerate(norms.tolist()) if norm == 0})
            assert len(zero[-1]) == 4
            bias = work.run.module.conv2.bias.detach()
            assert all(float(bias[i]) == 0 for i in zero[-1])
        elif isinstance(event, Step) and zero:
            back += int((norms[list(zero[-1])] > 0).sum())
    assert back > 0  # the same weights, held: see the next test
    found = work.subject()
    assert found.module.conv2.out_channels == 4 and found.weight("head.weight").shape == (3, 4)
    # what went are the filters that were zero in the best epoch, and with them nothing
    best = max(one.epoch for one in work.curve if one.best)
    assert found.history[-1].after["accuracy"].value == work.curve[best].figure.value


def test_hold_lets_nothing_grow_back(device: str) -> None:
    start = explorer.compress(subject("cnn"), RECIPE)
    found = finetune(subject("cnn", device), RECIPE, epochs=2, batch=8, lr=0.2, optimizer="sgd", device=device)
    assert found.module.conv2.out_channels == start.conv2.out_channels == 4


def test_a_unit_that_is_zero_says_nothing_behind_a_norm(device: str) -> None:
    recipe = Recipe().prune("conv1", granularity="unit", sparsity=0.5)
    work = training(SoftFilter(), recipe, "cnn", device, epochs=1)
    for _ in work.events():
        break
    run = work.run
    run.module.bn.running_mean.normal_()
    run.module.bn.bias.data.fill_(1.0)
    work.schedule.after_epoch(run) if run.epoch else SoftFilter()._zero(run)
    run.module.eval()
    x = torch.randn(2, 1, 7, 7, device=device)
    quiet = run.module.bn(run.module.conv1(x)).abs().amax((0, 2, 3)) == 0
    assert int(quiet.sum()) == 3
    assert bool((run.module.bn.weight != 0).all())  # or no gradient could reach the filter
