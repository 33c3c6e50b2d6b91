"""Two models, sample by sample: what one was right about and the other was not, counted by hand."""

from __future__ import annotations

import pytest
import torch

import explorer
from explorer.core.errors import TaskError
from explorer.core.recipe import Recipe
from explorer.evaluate.paired import paired
from explorer.models.subject import Subject
from tests.recover.small import small


def right(subject: Subject, device: str) -> torch.Tensor:
    """Of each validation sample, in the order of the split, whether the answer is right."""
    data = subject.task.dataset("validation")
    inputs, targets = zip(*(data[i] for i in range(len(data))), strict=True)
    with torch.no_grad():
        return subject.module(torch.stack(inputs).to(device)).argmax(1).cpu() == torch.as_tensor([int(t) for t in targets])


def test_a_change_is_that_of_the_same_samples(device: str) -> None:
    first = small(device)
    second = first.derive(explorer.compress(first, Recipe().prune("*", sparsity=0.9)))
    found = paired(first, second, device=device)
    was, now = right(first, device), right(second, device)
    assert found.main == "accuracy" and found.before["accuracy"].value == pytest.approx(float(was.float().mean()))
    assert found.after["accuracy"].value == pytest.approx(float(now.float().mean()))
    change, lost, won = found.changes["accuracy"], int((was & ~now).sum()), int((~was & now).sum())
    assert lost and won and lost != won and change.value == pytest.approx((won - lost) / len(was)) and change.low < change.value < change.high  # type: ignore[operator]
    # the same plan as a recipe on the first: the same flips, hence the same interval
    report = explorer.evaluate(first, Recipe().prune("*", sparsity=0.9), device=device).change("accuracy")
    assert (change.low, change.high) == pytest.approx((report.low, report.high))


def test_models_of_two_tasks_are_refused(device: str) -> None:
    with pytest.raises(TaskError, match="judged on different tasks; accepted: two models of one"):
        paired(small(device), small(device), device=device)
