from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from explorer.core.errors import TaskError
from explorer.models.task import Task, call, to_device
from explorer.models.trial import difference, tensors


def data(device: str, n: int = 10) -> TensorDataset:
    """A data set may lie on a device as a whole."""
    return TensorDataset(torch.randn(n, 4).to(device), torch.randint(0, 3, (n,)).to(device))


def test_splits_and_their_names(device: str) -> None:
    task = Task.classification(train=data(device), validation=data(device, 5))
    assert set(task.splits) == {"train", "validation"} and len(task.dataset("validation")) == 5
    with pytest.raises(TaskError, match="did you mean train"):
        task.dataset("trian")
    with pytest.raises(TypeError):
        task.splits["validation"] = data(device)  # type: ignore[index]


def test_examples_repeat_a_small_split_and_come_from_train(device: str) -> None:
    train = data(device, 3)
    task = Task.classification(train=train, validation=data(device, 5))
    found = task.example(7)
    assert found.shape == (7, 4) and torch.equal(found[3], train.tensors[0][0])
    assert Task.classification(validation=train).example(2).shape == (2, 4)


def test_bulk_reading_is_used_where_there_is_one(device: str) -> None:
    class Bulk(TensorDataset):
        asked: list[list[int]] = []

        def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, ...]]:
            self.asked.append(indices)
            return [self[i] for i in indices]

    bulk = Bulk(*data(device).tensors)
    x, y = Task.classification(validation=bulk).batch("validation", [4, 2])
    assert (
        bulk.asked == [[4, 2]] and torch.equal(x, bulk.tensors[0][[4, 2]]) and torch.equal(y, bulk.tensors[1][[4, 2]])
    )


def test_inputs_become_arguments(device: str) -> None:
    add = type("Add", (nn.Module,), {"forward": lambda self, a, b=0: a - b})()
    assert call(add, torch.tensor(3, device=device)) == 3
    assert (
        call(add, (torch.tensor(3, device=device), torch.tensor(1, device=device)))
        == call(add, [torch.tensor(3, device=device), torch.tensor(1, device=device)])
        == 2
    )
    assert call(add, {"b": torch.tensor(1, device=device), "a": torch.tensor(3, device=device)}) == 2


def test_moving_keeps_the_form_and_casts_floats_only(device: str) -> None:
    value = {"a": (torch.ones(2), [torch.ones(2, dtype=torch.int64), "text"]), "b": 3}
    moved = to_device(value, device, torch.bfloat16)
    assert moved["a"][0].dtype == torch.bfloat16 and moved["a"][1][0].dtype == torch.int64
    assert moved["a"][0].device.type == device and moved["a"][1][1] == "text" and moved["b"] == 3
    assert isinstance(moved["a"], tuple) and isinstance(moved["a"][1], list)


def test_lower_is_better(device: str) -> None:
    assert {"loss", "perplexity", "rmse"} <= Task.regression(validation=data(device)).lower_is_better
    custom = Task(splits={"validation": data(device)}, score=lambda o, t: {}, lower_is_better=["wer"])
    assert custom.lower_is_better == {"wer", "loss"}


def test_the_difference_is_relative_above_one_and_absolute_below(device: str) -> None:
    a = torch.tensor([1000.0, 1.0], device=device)
    assert difference(a, a + torch.tensor([0.0, 0.5], device=device)) == pytest.approx(0.0005)
    assert difference(a / 1e4, a / 1e4 + 0.25) == pytest.approx(0.25)
    assert difference((a, {"b": a}), (a, {"b": a})) == 0
    assert (
        difference(a, a[:1])
        == difference((a,), (a, a))
        == difference(a, torch.full((2,), torch.nan, device=device))
        == float("inf")
    )
    assert difference(None, None) == float("inf")
    assert len(tensors({"a": (a, [a, 3]), "b": torch.ones(2, dtype=torch.int64)})) == 3
    assert difference(torch.tensor([3, 4], device=device), torch.tensor([3, 5], device=device)) == pytest.approx(
        0.25
    )  # class indices count too
