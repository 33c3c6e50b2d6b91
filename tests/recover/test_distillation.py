"""Losses against values computed by hand, and what is said of the gain."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.core.errors import Cancelled, SettingsError, TaskError
from explorer.core.recipe import Recipe
from explorer.core.training import Entry, Note
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.distill import distill
from explorer.recover.distillation import Distillation, soft_loss, squared_loss
from explorer.recover.finetune import finetune
from explorer.recover.loop import Training
from explorer.recover.settings import Settings
from tests.contract.nets import MLP, CharLM, batch, language, regression
from tests.recover.schedules.nets import subject
from tests.recover.small import same_weights

QUICK: dict[str, Any] = dict(epochs=2, batch=16, lr=1e-2)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(one / temperature) for one in logits]
    return [one / sum(powers) for one in powers]


def by_hand(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


STUDENT, TEACHER = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], [[2.0, 0.0, -1.0], [0.5, 1.0, 4.0]]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_soft_loss_equals_the_formula(temperature: float, device: str) -> None:
    student, teacher = torch.tensor(STUDENT, device=device), torch.tensor(TEACHER, device=device)
    assert float(soft_loss(student, teacher, temperature)) == pytest.approx(
        by_hand(STUDENT, TEACHER, temperature), rel=1e-5
    )
    # a step of a sequence counts like a sample, but for those without a token
    steps = torch.stack([student, student.flip(0)]), torch.stack([teacher, teacher])
    counted = torch.tensor([[True, False], [False, False]], device=device)
    only = by_hand(STUDENT[:1], TEACHER[:1], temperature)
    assert float(soft_loss(*steps, temperature, counted)) == pytest.approx(only, rel=1e-5)
    assert float(soft_loss(teacher, teacher, temperature)) == pytest.approx(0.0, abs=1e-6)


def test_the_squared_loss_equals_the_formula(device: str) -> None:
    student, teacher = torch.tensor(STUDENT, device=device), torch.tensor(TEACHER, device=device)
    expected = sum((a - b) ** 2 for s, t in zip(STUDENT, TEACHER, strict=True) for a, b in zip(s, t, strict=True)) / 6
    assert float(squared_loss(student, teacher)) == pytest.approx(expected, rel=1e-6)


def loss_of(work: Training, device: str, indices: list[int]) -> float:
    inputs, targets = batch(work.run.subject, len(indices), "train")
    return float(work.objective(work.run, inputs, targets, indices).detach())


def test_the_whole_loss_is_the_weighted_sum_and_features_leave_out_removed_units(device: str) -> None:
    parent = subject("cnn", device)
    recipe = Recipe().prune("conv1", granularity="unit", sparsity=0.5)
    objective = Distillation(parent, alpha=0.3, temperature=2.0, features=["conv1", "conv2"], beta=0.5)
    work = Training(parent, recipe, objective=objective, device=device)
    inputs, targets = batch(parent, 16, "train")
    kept = work.run.plan.kept["conv1"].to(device)
    student, teacher = work.run.module.eval(), parent.module
    with torch.no_grad():
        a, b = student.conv1(inputs), teacher.conv1(inputs)
        first = float((a - b[:, kept]).square().mean())
        second = float((student.conv2(student.bn(a).relu()) - teacher.conv2(teacher.bn(b).relu())).square().mean())
        mine, theirs = student(inputs), teacher(inputs)
        hard = float(F.cross_entropy(mine, targets))
    soft = by_hand(mine.tolist(), theirs.tolist(), 2.0)
    assert first > 0.0 or second > 0.0
    expected = 0.7 * hard + 0.3 * soft + 0.5 * (first + second)
    assert loss_of(work, device, list(range(16))) == pytest.approx(expected, rel=1e-4)


def test_a_language_model_learns_step_by_step_and_not_from_what_is_ignored(device: str) -> None:
    torch.manual_seed(0)
    parent = Subject(CharLM().to(device).eval(), language(ignored=3), "lm")
    work = Training(
        parent,
        Recipe().prune("*", sparsity=0.5),
        objective=Distillation(parent, alpha=1.0, temperature=1.5),
        device=device,
    )
    inputs, _ = batch(parent, 16, "train")
    with torch.no_grad():
        mine, theirs = work.run.module.eval()(inputs)[:, :-3], parent.module(inputs)[:, :-3]
    expected = by_hand(mine.reshape(-1, 11).tolist(), theirs.reshape(-1, 11).tolist(), 1.5)
    assert loss_of(work, device, list(range(16))) == pytest.approx(expected, rel=1e-4)


def test_a_regression_is_matched_by_squares_and_labels_need_not_be_there(device: str) -> None:
    torch.manual_seed(0)
    task = regression((6,))
    bare = Task(
        splits=task.splits, score=lambda outputs, targets: {"error": (outputs - targets).abs().flatten(1).sum(1)}
    )
    for one in (task, bare):
        parent = Subject(MLP((6, 8, 1)).to(device).eval(), one)
        work = Training(
            parent, Recipe().prune("*", sparsity=0.5), objective=Distillation(parent, alpha=1.0), device=device
        )
        inputs, _ = batch(parent, 16, "train")
        with torch.no_grad():
            expected = float((work.run.module(inputs) - parent.module(inputs)).square().mean())
        assert loss_of(work, device, list(range(16))) == pytest.approx(expected, rel=1e-4)
    found = distill(
        parent, Recipe().prune("*", sparsity=0.5), device=device, **QUICK
    )  # alpha is 1 by itself, and nothing to compare with
    assert found.history[-1].settings["objective"]["alpha"] == 1.0 and not found.history[-1].notes


def test_the_gain_over_plain_fine_tuning_is_told(device: str) -> None:
    parent, recipe = subject("mlp", device), Recipe().prune("*", sparsity=0.6)
    told: list[Any] = []
    done: list[tuple[int, int]] = []
    found = distill(
        parent, recipe, **QUICK, device=device, events=told.append, progress=lambda *both: done.append(both)
    )
    plain = finetune(parent, recipe, **QUICK, device=device)
    entry = found.history[-1]
    values = entry.notes[-1].values
    assert entry.what == "distillation" and told[-1] == entry.notes[-1] and isinstance(told[-1], Note)
    assert (
        values["distilled"]
        == entry.after["accuracy"].value
        == explorer.evaluate(found, device=device).metrics["accuracy"]
    )
    assert values["plain"] == plain.history[-1].after["accuracy"].value
    assert values["change"] == pytest.approx(values["distilled"] - values["plain"])
    assert values["better"] == (values["low"] > 0)
    assert done[-1] == (12, 12) and done == sorted(done)


def test_no_gain_is_said_where_there_is_none(device: str) -> None:
    parent, recipe = subject("mlp", device), Recipe().prune("*", sparsity=0.6)
    found = distill(parent, recipe, **QUICK, alpha=0.0, device=device)  # which is plain fine-tuning
    note = found.history[-1].notes[-1]
    assert "no gain" in note.text and note.values["change"] == 0 and not note.values["better"]
    assert same_weights(found.module, finetune(parent, recipe, **QUICK, device=device).module)


def test_a_smaller_student_of_ones_own(device: str) -> None:
    parent = subject("mlp", device)
    digest = parent.digest
    torch.manual_seed(1)
    found = distill(
        parent, student=MLP((6, 4, 3)).to(device), features={"fc.1": "fc.2"}, **QUICK, compare=False, device=device
    )
    assert found.module.fc[0].out_features == 4 and parent.digest == digest
    assert found.history[-1].settings["objective"]["teacher"] == parent.name
    assert found.parent is not None and found.parent.module.fc[0].out_features == 4
    other = Subject(MLP((6, 4, 3)).to(device), parent.task, "other")
    assert (
        distill(
            parent, Recipe().prune("fc.0", granularity="unit", sparsity=0.5), student=other, **QUICK, compare=False
        ).parent
        is other
    )


def test_cancelled_it_leaves_what_there_is(device: str) -> None:
    asked = 0

    def broken_off(after: int) -> Entry:
        nonlocal asked
        asked = 0

        def cancel() -> bool:
            nonlocal asked
            asked += 1
            return asked > after

        given: Any = dict(**QUICK, device=device, cancel=cancel)
        return distill(subject("mlp", device), Recipe().prune("*", sparsity=0.5), **given).history[-1]

    assert broken_off(1000).notes
    half = asked // 2  # its own training, and the one that it is compared with
    with pytest.raises(Cancelled, match="nothing was changed"):
        broken_off(0)
    assert not broken_off(half - 1).complete
    for more in (0, 1, 3):  # before its first step, and after
        found = broken_off(half + more)
        assert found.complete and not found.notes


class Uncalled(MLP):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize(
    ("more", "error", "named"),
    [
        (dict(alpha=1.5), SettingsError, "alpha=1.5"),
        (dict(temperature=0), SettingsError, "temperature=0"),
        (dict(match="kl"), SettingsError, "match='kl'"),
        (dict(teacher=MLP()), SettingsError, "teacher is MLP"),
        (dict(features=["fc9"]), SettingsError, "'fc9' names no module"),
        (dict(features="spare"), SettingsError, "'spare' is not called"),
        (dict(student=MLP((6, 4, 2))), TaskError, r"\(2, 2\).*\(2, 3\)"),
        (dict(student=MLP((6, 4, 3)), features={"fc.0": "fc.0"}), TaskError, r"fc.0: features \(2, 4\)"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(
    more: Any, error: type[Exception], named: str, device: str
) -> None:
    parent = Subject(Uncalled().to(device).eval(), subject().task, "uncalled")
    told: list[Any] = []
    with pytest.raises(error, match=named):
        distill(parent, Recipe(), Settings(epochs=1), **more, device=device, events=told.append)
    assert not told


def test_no_loss_needs_alpha_one(device: str) -> None:
    task = subject().task
    bare = Task(splits=task.splits, score=lambda outputs, targets: {"right": (outputs.argmax(1) == targets).float()})
    with pytest.raises(TaskError, match="alpha=1"):
        distill(Subject(MLP().to(device).eval(), bare), Recipe(), alpha=0.5, device=device)


def test_a_student_without_labels_is_judged_by_the_original(device: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 8)
    parent = Subject(nn.Linear(8, 3).to(device), Task.agreement(inputs, train=inputs), "parent")
    student = nn.Linear(8, 3).to(device)
    found = distill(parent, student=student, epochs=0, device=device)
    with torch.no_grad():
        answers = [one(inputs.to(device)).argmax(1) for one in (parent.module, student)]
    share = float((answers[0] == answers[1]).float().mean())
    assert share < 0.9
    assert found.history[-1].before["agreement"].value == pytest.approx(share)
    assert found.task is parent.task
