from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.analysis.bins import Bins
from explorer.compress.masks import lowest
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from tests.contract.nets import tiny

VALUES = st.lists(
    st.one_of(st.floats(-4, 4, width=32), st.sampled_from([0.0, -0.0, 1.0, 1e-40, -1e-40, 3e38])),
    min_size=1,
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.floats(-5, 5, width=32), st.data())
def test_counts_and_ranks_are_exact(device: str, values: list[float], threshold: float, data: st.DataObject) -> None:
    scores = torch.tensor(values, dtype=torch.float32).to(device)
    bins = Bins(scores)
    for t in (threshold, values[0], 0.0):
        assert bins.below(t, scores) == int((scores <= t).sum())
    k = data.draw(st.integers(1, len(values)))
    assert bins.kth(k, scores) == float(scores.kthvalue(k).values)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.data())
def test_a_cut_is_there_where_no_other_ties_with_it(device: str, values: list[float], data: st.DataObject) -> None:
    scores = torch.tensor(values, dtype=torch.float32).to(device)
    k = data.draw(st.integers(1, len(values)))
    value = float(scores.kthvalue(k).values)
    wanted = value if int((scores <= value).sum()) == k else None
    sorted_too, counted = Bins(scores), Bins(scores)
    counted.ranked = None  # as of scores that are too many to be sorted
    assert sorted_too.cut(k, scores) == counted.cut(k, scores) == wanted
    assert counted.kth(k, scores) == value


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.3, 0.5, 0.77, 1.0])
def test_a_plan_of_a_sparsity_is_topks_choice(ties: bool, sparsity: float, device: str) -> None:
    subject = tiny(device=device)
    weight = subject.module.fc[0].weight
    with torch.no_grad():
        weight.copy_(torch.randint(-3, 4, weight.shape).float() if ties else torch.randn(weight.shape))
    plan = resolve(subject, Recipe().prune("fc.0", sparsity=min(sparsity, 0.99)))
    k = round(min(sparsity, 0.99) * weight.numel())
    assert torch.equal(plan.masks["fc.0.weight"], ~lowest(weight.detach().abs(), k))
