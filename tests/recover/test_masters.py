"""Half precision is trained in float32 beside the model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from explorer.core.recipe import Recipe
from explorer.core.training import Step
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.finetune import finetune, train
from explorer.recover.loop import Training
from explorer.recover.masters import MASTER
from explorer.recover.optimizers import optimizer_of
from explorer.recover.settings import OPTIMIZERS, Settings
from tests.recover.small import QUICK, RECIPE, Small, learnable, same_weights

HALVES = [torch.float16, torch.bfloat16]


def half(dtype: torch.dtype, device: str) -> Subject:
    torch.manual_seed(0)
    splits = {name: learnable(n, seed).tensors for name, n, seed in (("train", 97, 1), ("validation", 60, 2))}
    task = Task.classification(**{name: TensorDataset(x.to(dtype), y) for name, (x, y) in splits.items()})
    return Subject(Small().to(device, dtype).eval(), task, "half")


def squares(module: nn.Module, x: Tensor) -> Tensor:
    return module(x).float().square().mean()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_is_that_of_float32_rounded(name: str, dtype: torch.dtype, device: str) -> None:
    torch.manual_seed(1)
    mine = nn.Linear(6, 4).to(device, dtype)
    other, wide = copy.deepcopy(mine), copy.deepcopy(mine).float()
    settings = Settings(optimizer=name, lr=1e-3, weight_decay=0.1, momentum=0.9)
    ours, plain = optimizer_of(mine, settings), optimizer_of(wide, settings)
    x = torch.randn(30, 8, 6).to(device, dtype)
    for batch in x:
        squares(mine, batch).backward()
        ours.step()
        ours.zero_grad()
        squares(other, batch).backward()  # by hand: gradients of the half, steps of the float32, which the half is rounded from
        for low, high in zip(other.parameters(), wide.parameters(), strict=True):
            high.grad = low.grad.float()
        plain.step()
        other.zero_grad()
        for low, high in zip(other.parameters(), wide.parameters(), strict=True):
            low.data.copy_(high.data)
        assert same_weights(mine, other)
    assert all(torch.equal(ours.state[one][MASTER], high) for one, high in zip(mine.parameters(), wide.parameters(), strict=True))
    assert all(one.dtype == dtype and one.grad is None for one in mine.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_too_small_for_the_type_add_up(momentum: float, device: str) -> None:
    layer = nn.Linear(1, 1, bias=False).to(device, torch.bfloat16)
    layer.weight.data.fill_(1.0)
    optimizer = optimizer_of(layer, Settings(optimizer="sgd", lr=1e-3, momentum=momentum, weight_decay=0.0))
    for _ in range(100):
        layer.weight.grad = torch.ones_like(layer.weight) * (1 - momentum)
        optimizer.step()
    assert layer.weight.item() == pytest.approx(0.9, abs=0.02)


def test_what_is_written_between_two_steps_holds(device: str) -> None:
    layer = nn.Linear(3, 1).to(device, torch.float16)
    optimizer = optimizer_of(layer, Settings(optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1e-5))
    for value in (0.0, 0.25):
        layer.weight.grad, layer.bias.grad = torch.ones_like(layer.weight), None
        before = layer.bias.detach().clone()
        optimizer.step()
        layer.weight.data.fill_(value)
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
        assert (layer.weight == value).all() and torch.equal(layer.bias, before)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_model_of_half_precision_learns_and_keeps_its_type_and_zeros(dtype: torch.dtype, device: str) -> None:
    subject = half(dtype, device)
    recipe = Recipe().prune("*", sparsity=0.5)
    found = finetune(subject, recipe, **QUICK, device=device)
    entry = found.history[-1]
    assert entry.after["accuracy"].value > entry.damaged["accuracy"].value + 0.15
    assert {one.dtype for one in found.module.parameters()} == {dtype}
    assert evaluate(found, device=device).metrics["accuracy"] == entry.after["accuracy"].value
    for name, mask in ((layer.name, subject.weight(layer.name)) for layer in subject.layers):
        assert int((found.weight(name) == 0).sum()) >= mask.numel() // 2


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_training_of_half_precision_goes_on_as_if_it_had_not_stopped(dtype: torch.dtype, tmp_path: Path) -> None:
    settings = Settings(epochs=2, batch=16, lr=1e-3, checkpoint_seconds=0.0, log_every=1)
    whole = finetune(half(dtype, "cpu"), RECIPE, settings, device="cpu")
    file = tmp_path / "half.pt"
    for event in Training(half(dtype, "cpu"), RECIPE, settings, device="cpu", checkpoint=file).events():
        if isinstance(event, Step) and event.step > 8:
            break
    again = train(Training(half(dtype, "cpu"), RECIPE, settings, device="cpu", checkpoint=file))
    assert same_weights(whole.module, again.module) and whole.history[-1].after == again.history[-1].after
