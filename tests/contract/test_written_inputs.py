"""A forward that writes into its inputs answers as one that does not, whatever asks for its answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from tests.contract.nets import classification

RECIPE = Recipe().prune("a", sparsity=0.5, granularity="unit").prune("b", sparsity=0.3)
EQUALIZE = Recipe().prepare("equalize").quantize("*", bits=4)
CORRECT = Recipe().prepare("bias-correction").quantize("*", bits=3)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def scaled(self, x: Tensor) -> Tensor:
        return x * 0.5 + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.scaled(x)).relu())


class Writes(Plain):
    def scaled(self, x: Tensor) -> Tensor:
        return x.mul_(0.5).add_(1)


def both(device: str) -> list[Subject]:
    made = []
    for kind in (Plain, Writes):
        torch.manual_seed(0)
        made.append(Subject(kind().to(device), classification((8,)), "net"))
    return made


def weights(module: nn.Module) -> list[Tensor]:
    return [one.detach() for one in module.parameters()]


@pytest.mark.parametrize(
    "make",
    [
        lambda one, device: weights(explorer.compress(one, RECIPE)),
        lambda one, device: weights(explorer.compress(one, EQUALIZE)),
        lambda one, device: weights(explorer.compress(one, CORRECT)),
        lambda one, device: weights(explorer.recalibrate(one, RECIPE, device=device).module),
        lambda one, device: weights(explorer.distill(one, RECIPE, epochs=1, batch=16, compare=False, device=device).module),
        *(
            lambda one, device, name=name: list(explorer.importance(one, name, device=device).values())
            for name in ("loss-change", "loss-slope")
        ),
    ],
    ids=["units", "equalize", "bias correction", "recalibrate", "distill", "loss-change", "loss-slope"],
)
def test_they_come_to_the_same(make: Callable[[Subject, str], list[Tensor]], device: str) -> None:
    plain, writes = (make(one, device) for one in both(device))
    for a, b in zip(plain, writes, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
