"""Models whose answer to a sample depends on the others of its batch are said to be such, and others are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explorer.evaluate.evaluator import evaluate
from explorer.ui.panels.status import line
from tests.contract.nets import MLP, SAMPLES, few, tiny


class Net(nn.Module):
    """A linear layer and what is done to a batch of its values."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.norm, self.way = nn.Linear(6, 3), nn.BatchNorm1d(3), way

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.way(self.fc(x)))


WAYS: dict[str, tuple[bool, Callable[[Tensor], Tensor]]] = {
    "each by itself": (False, torch.tanh),
    "less their mean": (True, lambda x: x - x.mean(0)),
    "over the largest of all": (True, lambda x: x / x.abs().max()),
    "less each one's mean": (False, lambda x: x - x.mean(1, keepdim=True)),
    "statistics of the batch": (True, lambda x: nn.functional.batch_norm(x, None, None, training=True)),
    "in another order": (True, lambda x: x.flip(0)),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_mixes_samples_is_said(way: str, device: str) -> None:
    expected, forward = WAYS[way]
    report = evaluate(tiny(Net(forward), device=device), device=device)
    assert report.machine["mixes"] == expected
    assert ("depends on the others of its batch" in line(report)) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_no_sample_model_does(name: str, device: str) -> None:
    assert not evaluate(few(name, device=device), device=device).machine["mixes"]


def test_what_cannot_be_told_is_not_said(device: str) -> None:
    class Needy(MLP):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 2:
                raise ValueError("not by twos")
            return super().forward(x)

    assert not evaluate(tiny(Needy(), n=64, device=device), device=device).machine["mixes"]
