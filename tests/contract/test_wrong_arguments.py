"""What is no subject, no list or no name is refused with one message, whatever it is given to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import explorer
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import classification

ON_SUBJECTS: dict[str, Callable[[Any, Path], Any]] = {
    "sensitivity": lambda one, _: explorer.sensitivity(one),
    "suggest": lambda one, _: explorer.suggest(one, None, drop=0.1),
    "prune_by_error": lambda one, _: explorer.prune_by_error(one),
    "importance": lambda one, _: explorer.importance(one, "l1"),
    "gate_importance": lambda one, _: explorer.gate_importance(one),
    "joint_map": lambda one, _: explorer.joint_map(one, "0"),
    "export": lambda one, folder: explorer.export(one, Recipe(), folder / "out"),
    "finetune": lambda one, _: explorer.finetune(one),
    "distill": lambda one, _: explorer.distill(one),
    "recalibrate": lambda one, _: explorer.recalibrate(one),
}


def net(device: str) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to(device)
    return Subject(module, classification((4,), n=24), "net")


@pytest.mark.parametrize("name", ON_SUBJECTS)
def test_what_is_no_subject(name: str, tmp_path: Path, device: str) -> None:
    for wrong in (net(device).module, None):
        with pytest.raises(explorer.RecipeError, match=r"subject is (Sequential|NoneType); accepted: .*explorer\.Subject"):
            ON_SUBJECTS[name](wrong, tmp_path)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda one: explorer.sensitivity(one, sparsities=None), "no sparsity to scan"),
        (lambda one: explorer.sensitivity(one, granularity=5), "granularity=5; accepted"),
        (lambda one: explorer.sensitivity(one, split=5), "no split 5; accepted: train"),
        (lambda one: explorer.sensitivity(one, tolerance="a"), "tolerance=a; accepted"),
        (lambda one: explorer.sensitivity(one, targets=5), "targets=5; accepted"),
        (lambda one: explorer.prune_by_error(one, targets=5), "targets=5; accepted"),
        (lambda one: explorer.importance(one, 5), "unknown criterion 5"),
        (lambda one: explorer.importance(one, "l1", layers=5), "layers=5; accepted"),
        (lambda one: explorer.joint_map(one, 5), "targets=5; accepted"),
        (lambda one: explorer.joint_map(one, "0", sparsities=None), "sparsities=None; accepted"),
        (lambda one: explorer.joint_map(one, "0", bits=4), "bits=4; accepted"),
        (lambda one: explorer.joint_map(one, "0", recipe="x"), "recipe is str; accepted"),
        (lambda one: explorer.finetune(one, schedule=None), "schedule=None; accepted"),
        (lambda one: explorer.finetune(one, schedule=["one-shot"]), "schedule=.*accepted"),
        (lambda one: explorer.distill(one, features=5), "features=5; accepted"),
        (lambda one: explorer.distill(one, features=[5]), "features: 5 names no module"),
        (lambda one: explorer.recalibrate(one, steps=None), "steps=None; accepted: norms, biases"),
        (lambda one: explorer.recalibrate(one, samples=-1), "samples=-1; accepted: a whole number from 1"),
        (lambda one: explorer.recalibrate(one, samples=1.5), "samples=1.5; accepted: a whole number from 1"),
        (lambda one: explorer.hold(one.module, Recipe()), "plan is Recipe; accepted"),
        (lambda one: explorer.hold(one, explorer.resolve(one, Recipe())), "module is Subject; accepted"),
    ],
)
def test_an_argument_of_another_kind(ask: Callable[[Subject], Any], said: str, device: str) -> None:
    with pytest.raises(explorer.ExplorerError, match=said):
        ask(net(device))


def test_arrays_and_single_names_are_taken(device: str) -> None:
    subject = net(device)
    table = explorer.joint_map(subject, "0", sparsities=np.array([0, 0.5]), bits=[4], device=device)
    assert list(table["sparsity"]) == [0.0, 0.5]
    assert list(explorer.importance(subject, "l1", layers="0.weight", device=device)) == ["0.weight"]
    assert explorer.recalibrate(subject, steps=(one for one in ["biases"]), device=device).history[-1].settings["steps"] == ["biases"]
    assert explorer.recalibrate(subject, steps="biases", device=device).history[-1].settings["steps"] == ["biases"]


def test_recalibration_names_what_it_lacks_and_the_samples_at_fault(device: str) -> None:
    whole = net(device)
    validation = whole.task.splits["validation"]
    with pytest.raises(explorer.RecipeError, match="no train split to learn from"):
        explorer.recalibrate(Subject(whole.module, Task.classification(validation=validation)), device=device)
    inputs, targets = (one.clone() for one in whole.task.splits["train"].tensors)
    inputs[3] = torch.nan
    train = torch.utils.data.TensorDataset(inputs, targets)
    broken = Subject(whole.module, Task.classification(train=train, validation=validation))
    with pytest.raises(explorer.EvaluationError, match=r"NaN for train samples"):
        explorer.recalibrate(broken, Recipe().prune("0", sparsity=0.5), device=device)
