from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import SettingsError, TaskError, TrainingError
from explorer.core.recipe import Recipe
from explorer.core.training import Note
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.finetune import finetune
from explorer.recover.settings import Settings
from tests.recover.small import QUICK, RECIPE, Small, small


def test_what_cannot_be_trained_is_said_before_it_starts(device: str) -> None:
    subject = small(device)
    splits = dict(subject.task.splits)
    with pytest.raises(TaskError, match="no train split"):
        finetune(Subject(Small().to(device), Task.classification(validation=splits["validation"]), "x"), RECIPE)
    with pytest.raises(TaskError, match=r"no loss.*Task\(loss=\.\.\.\)"):
        finetune(
            Subject(
                Small().to(device), Task(splits=splits, score=lambda o, t: {"hit": (o.argmax(1) == t).float()}), "x"
            ),
            RECIPE,
        )
    with pytest.raises(SettingsError, match="mixed.*cpu.*full"):
        finetune(subject, RECIPE, precision="mixed", device="cpu")
    with pytest.raises(SettingsError, match="no setting 'epoch'; did you mean epochs"):
        finetune(subject, RECIPE, epoch=3)
    with pytest.raises(explorer.RecipeError, match="unknown schedule 'gradually'"):
        finetune(subject, RECIPE, schedule="gradually")
    for bad in (
        {"epochs": -1},
        {"batch": 0},
        {"lr": float("nan")},
        {"optimizer": "adamax"},
        {"lr_schedule": "step"},
        {"regrow": 1},
        {"patience": 0},
        {"momentum": 2},
    ):
        with pytest.raises(SettingsError, match=next(iter(bad))):
            Settings(**bad)
    frozen = copy.deepcopy(subject.module)
    frozen.requires_grad_(False).head.weight.requires_grad_(True)
    only = finetune(Subject(frozen, subject.task, "frozen"), Recipe(), epochs=1, batch=32, device=device)
    assert torch.equal(only.module.conv.weight, frozen.conv.weight)


def test_a_loss_that_is_no_number_ends_it_at_once(device: str) -> None:
    subject = small(device)
    calls = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.extend([0] * outputs.requires_grad)
        return nn.functional.cross_entropy(outputs, targets) * (float("nan") if len(calls) == 3 else 1.0)

    task = Task(splits=subject.task.splits, loss=loss, score=lambda o, t: {"hit": (o.argmax(1) == t).float()})
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1, step 3, at a learning rate of .*smaller learning rate \(lr\)"):
        finetune(Subject(subject.module, task, "x"), RECIPE, **QUICK, device=device)
    assert len(calls) == 3
    with pytest.raises(TrainingError, match=r"loss is nan in the first step, on train samples \[\d+, \d+, \d+\].*finite loss"):
        never = Task(splits=subject.task.splits, loss=lambda o, t: o.sum() * (float("nan") if o.requires_grad else 1.0), score=task.score)
        finetune(Subject(subject.module, never, "x"), RECIPE, **QUICK, device=device)
    with pytest.raises(TrainingError, match="failed on train samples .*ValueError: mine"):
        bad = Task(splits=subject.task.splits, loss=_raise, score=lambda o, t: {"hit": (o.argmax(1) == t).float()})
        finetune(Subject(subject.module, bad, "x"), RECIPE, **QUICK, device=device)


def _raise(outputs: Tensor, _: Any) -> Tensor:
    if outputs.requires_grad:
        raise ValueError("mine")
    return outputs.sum()


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_gradients(device: str) -> None:
    subject = Subject(nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).to(device), small(device).task, "linear")
    plain = finetune(subject, Recipe(), epochs=1, batch=32, device=device)
    most = []

    def forward(module: nn.Module, inputs: Tensor) -> Tensor:
        most.append(len(inputs))
        if len(inputs) > 10 and module.training:
            raise torch.OutOfMemoryError("out of memory")
        return module(inputs)

    task = Task.classification(**dict(subject.task.splits), forward=forward)
    told: list[Any] = []
    halved = finetune(
        Subject(subject.module, task, "linear"), Recipe(), epochs=1, batch=32, device=device, events=told.append
    )
    for name, value in plain.module.state_dict().items():
        torch.testing.assert_close(halved.module.state_dict()[name], value, atol=1e-4, rtol=1e-3)
    assert [note.values["n"] for note in halved.history[-1].notes] == [16, 8]
    assert tuple(one for one in told if isinstance(one, Note)) == halved.history[-1].notes
    with pytest.raises(TrainingError, match="two samples do not fit"):
        task = Task.classification(
            **dict(subject.task.splits), forward=lambda m, x: _no_memory() if m.training else m(x)
        )
        finetune(Subject(subject.module, task, "linear"), Recipe(), epochs=1, batch=4, device=device)


def _no_memory() -> Tensor:
    raise torch.OutOfMemoryError("out of memory")
