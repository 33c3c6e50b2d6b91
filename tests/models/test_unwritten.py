"""A forward that writes to its own weights would write to the module that it was given: it is refused before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import explorer


class Writes(nn.Module):
    def __init__(self, how: Callable[[nn.Linear], Any]) -> None:
        super().__init__()
        self.a, self.b, self.how = nn.Linear(8, 16), nn.Linear(16, 3), how
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.how(self.a)
            self.seen += 1
        return self.b(self.a(x).relu())


def subject_of(how: Callable[[nn.Linear], Any], device: str, answered: bool) -> explorer.Subject:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(40, 8), torch.randint(0, 3, (40,)))
    task = explorer.Task.agreement(data.tensors[0]) if answered else explorer.Task.classification(validation=data, train=data)
    return explorer.Subject(Writes(how).to(device), task, "mine")


WAYS: dict[str, Callable[[nn.Linear], Any]] = {
    "method": lambda layer: layer.weight.clamp_(-0.1, 0.1),
    "data": lambda layer: layer.weight.data.mul_(0.5),
    "part": lambda layer: layer.weight[0].zero_(),
    "place": lambda layer: layer.weight.__setitem__((0, 0), 1.0),
    "out": lambda layer: torch.clamp(layer.weight, -0.1, 0.1, out=layer.weight),
    "list": lambda layer: torch._foreach_mul_([layer.weight, layer.bias], 0.5),
    "bias": lambda layer: layer.bias.add_(1),
}
ASK: dict[str, Callable[[explorer.Subject], Any]] = {
    "layers": lambda one: one.layers,
    "evaluate": lambda one: explorer.evaluate(one),
    "importance": lambda one: explorer.importance(one, "taylor"),
    "compress": lambda one: explorer.compress(one, explorer.Recipe().prune("b", sparsity=0.5)),
}


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("how", WAYS)
def test_it_is_refused_and_nothing_is_written(how: str, answered: bool, device: str) -> None:
    subject = subject_of(WAYS[how], device, answered)
    before = {name: one.clone() for name, one in subject.module.state_dict().items()}
    with pytest.raises(explorer.UnsupportedError, match=rf"a\.{'bias' if how == 'bias' else 'weight'}: .*writes to it"):
        explorer.evaluate(subject)
    assert all(torch.equal(one, before[name]) for name, one in subject.module.state_dict().items())


@pytest.mark.parametrize("ask", ASK)
def test_whatever_is_asked_first(ask: str, device: str) -> None:
    subject = subject_of(WAYS["method"], device, False)
    before = subject.module.a.weight.clone()
    with pytest.raises(explorer.UnsupportedError, match="accepted: a forward that leaves its weights as they are"):
        ASK[ask](subject)
    assert torch.equal(subject.module.a.weight, before)


@pytest.mark.parametrize("how", [lambda _: None, lambda layer: layer.weight.clone().zero_(), lambda layer: layer.weight + 1])
def test_what_does_not_write_is_served(how: Callable[[nn.Linear], Any], device: str) -> None:
    subject = subject_of(how, device, False)
    assert [layer.name for layer in subject.layers] == ["a.weight", "b.weight"]
    assert explorer.evaluate(subject, device=device).n == 40 and float(subject.module.seen) == 0
