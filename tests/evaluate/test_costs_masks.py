"""Counts of what a mask leaves, without a look at the weight where that is needless."""

from __future__ import annotations

import pytest
import torch

from explorer.compress.apply import compress
from explorer.compress.masks import count_nonzero
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate import costs
from explorer.evaluate.costs import counts
from tests.contract.nets import MLP, tiny


@pytest.mark.parametrize("zeros", [0, 7])
def test_a_mask_tells_what_is_left_where_the_original_has_no_zeros(zeros: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = MLP()
    with torch.no_grad():
        module.fc[1].weight.view(-1)[:zeros] = 0.0
    subject = tiny(module, device=device)
    for recipe in (Recipe().prune("fc.1", sparsity=0.5), Recipe().prune("fc.1", threshold=0.0), Recipe().prune("fc.1", granularity="unit", sparsity=0.4)):
        counted = counts(subject, resolve(subject, recipe))
        made = compress(subject, recipe)
        left = {name: int((p != 0).sum()) for name, p in made.named_parameters()}
        assert counted.layers["fc.1.weight"].nonzero == left["fc.1.weight"] and counted.nonzero == sum(left.values())
        assert counted.parameters == sum(p.numel() for p in made.parameters())
    looked: list[int] = []
    monkeypatch.setattr(costs, "count_nonzero", lambda one: looked.append(one.dtype.itemsize) or count_nonzero(one))
    counts(subject, resolve(subject, Recipe().prune("fc.1", sparsity=0.3)))
    assert looked == [4 if zeros else 1]  # the weight, or its mask
