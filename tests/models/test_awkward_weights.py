"""Weights without entries, without values, or with values that are no numbers."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from explorer.compress.apply import compress
from explorer.core.errors import LoadError, UnsupportedError, VerificationError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import MLP, classification, tiny


class Nothing(nn.Module):
    """A layer of no outputs, as a configuration of width 0 makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.none, self.last = nn.Linear(6, 8), nn.Linear(8, 0), nn.Linear(8, 3)
        self.empty = nn.Parameter(torch.zeros(0, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.last(torch.cat([h, self.none(h)], 1))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_weight_without_entries_is_no_layer(device: str) -> None:
    subject = Subject(Nothing().to(device), classification((6,)), "nothing")
    assert [layer.name for layer in subject.layers] == ["first.weight", "last.weight"]
    recipe = Recipe().prune("*", sparsity=0.5, granularity="2x2").quantize("*", bits=4)
    module = compress(subject, recipe)
    assert evaluate(subject, recipe, device=device).parameters == sum(p.numel() for p in module.parameters())


def test_a_module_without_values_is_refused(device: str) -> None:
    with pytest.raises(LoadError, match="fc.0.weight is on the meta device, without values; accepted"):
        Subject(MLP().to(device).to("meta"), classification((6,)), "meta")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_named(value: float, device: str) -> None:
    """They equal nothing, so that every removal would look wrong."""
    module = MLP()
    with torch.no_grad():
        module.fc[0].weight[0, 0] = value
    subject = tiny(module, device=device)
    with pytest.raises(VerificationError, match="its outputs on real inputs hold NaN or infinity"):
        compress(subject, Recipe())
    if value != value:
        with pytest.raises(UnsupportedError, match="its outputs on real inputs hold NaN or infinity"):
            compress(subject, Recipe().prune("fc.0", sparsity=0.5, granularity="unit", criterion="random"))


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_table_that_is_rescaled_by_looking_at_it_is_refused(kind: type[nn.Module], device: str) -> None:
    """It writes to its weights whenever it is called, and the module that was handed over stays as it is."""
    table = kind(9, 4, max_norm=1.0).to(device)  # type: ignore[call-arg]
    before = table.weight.detach().clone()
    data = TensorDataset(torch.randint(0, 9, (8, 5)), torch.randint(0, 4, (8, 5)))
    with pytest.raises(LoadError, match=r"table has max_norm=1.0, which rescales its weights .*; accepted: max_norm=None"):
        Subject(nn.Sequential(OrderedDict(table=table)), Task.language_model(validation=data), "rescaled")
    assert torch.equal(table.weight, before)
