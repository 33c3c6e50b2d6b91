"""Batches as a task's data: a generator, a DataLoader, trees of tensors; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import explorer
from explorer.core.errors import TaskError
from explorer.models import batches
from explorer.models.batches import Batches
from explorer.models.subject import Subject
from explorer.models.task import Task


def pairs(device: str = "cpu") -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(
        torch.randn(23, 5, generator=generator).to(device), torch.randint(0, 3, (23,), generator=generator).to(device)
    )


def test_a_loader_and_a_generator_give_the_figures_of_their_samples(device: str) -> None:
    torch.manual_seed(0)
    module = nn.Linear(5, 3).to(device).eval()
    data = pairs(device)
    plain = explorer.evaluate(Subject(module, Task.classification(validation=data), "plain"), device=device)
    for given in (DataLoader(data, batch_size=8), (batch for batch in DataLoader(data, batch_size=8))):
        found = explorer.evaluate(Subject(module, Task.classification(validation=given), "batches"), device=device)
        assert found.n == 23 and dict(found.metrics) == dict(plain.metrics)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 2)

    def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"wide": self.linear(x) * scale[:, None], "sum": x.sum(1)}


def test_named_inputs_and_several_outputs_in_batches(device: str) -> None:
    module = Two().to(device).eval()

    def made() -> Iterator[Any]:
        for n in (4, 1, 6):
            x = torch.randn(n, 5, device=device)
            yield {"x": x, "scale": torch.ones(n, device=device)}, {"wide": torch.zeros(n, 2, device=device)}

    task = Task(splits={"validation": made()}, score=lambda o, t: {"near": -(o["wide"] - t["wide"]).abs().sum(1)})
    report = explorer.evaluate(
        Subject(module, task, "two"), explorer.Recipe().prune("linear", sparsity=0.5), device=device
    )
    assert report.n == 11 and report.main == "near"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([torch.zeros(3)], "batch 0 is Tensor; accepted: .inputs, targets."),
        (
            [(torch.zeros(3), torch.zeros(3)), (torch.zeros(3), torch.zeros(2))],
            r"batch 1 has tensors of \[2, 3\] samples",
        ),
        ([(torch.zeros(()), torch.zeros(3))], "first dim of every tensor"),
        ([], "split 'validation' is empty"),
    ],
)
def test_what_is_no_batch_is_named(given: list[Any], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        Task.classification(validation=iter(given))


def test_a_generator_that_raises_or_never_ends(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    def broken() -> Iterator[Any]:
        yield torch.zeros(2, 5, device=device), torch.zeros(2, device=device)
        raise ValueError("the file is gone")

    with pytest.raises(TaskError, match="batch 1 raised ValueError: the file is gone"):
        Batches(broken())
    monkeypatch.setattr(batches, "MOST", 100)
    endless = iter(lambda: (torch.zeros(8, 5, device=device), torch.zeros(8, device=device)), None)
    with pytest.raises(TaskError, match="more than 100 samples; accepted: a generator with an end"):
        Batches(endless)
