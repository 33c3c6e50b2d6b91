"""Criteria that torch-pruning defines too give its numbers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.analysis.importance import importance
from explorer.analysis.look import order
from explorer.models.subject import Subject
from tests.analysis.nets import looked
from tests.contract.nets import classification, randomize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b, self.head = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.bn(self.a(x))))).mean((2, 3)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("l1", tp.importance.MagnitudeImportance(p=1, group_reduction="first", normalizer=None)),
        ("l2", tp.importance.MagnitudeImportance(p=2, group_reduction="first", normalizer=None)),
        ("lamp", tp.importance.LAMPImportance(p=2, group_reduction="first")),
        ("fpgm", tp.importance.FPGMImportance(p=1, group_reduction="first", normalizer=None)),
        ("bn-scale", tp.importance.BNScaleImportance(group_reduction="first", normalizer=None)),
        ("taylor", tp.importance.GroupTaylorImportance(group_reduction="first", normalizer=None, multivariable=True)),
        ("snip", tp.importance.GroupTaylorImportance(group_reduction="first", normalizer=None, multivariable=False)),
    ],
)
def test_the_same_units_have_the_same_scores(ours: str, theirs: object, device: str) -> None:
    one = Subject(randomize(Net()).to(device), classification((2, 7, 7), n=32))
    if ours == "fpgm":
        one.module.a.weight.data.abs_()  # theirs takes distances of |w|
    module = copy.deepcopy(one.module).eval()
    inputs, targets = looked(one, order(one, 32, 0))
    F.cross_entropy(module(inputs), targets).backward()
    graph = tp.DependencyGraph().build_dependency(module, inputs[:2])
    group = graph.get_pruning_group(module.a, tp.prune_conv_out_channels, idxs=list(range(8)))
    expected = theirs(group)  # type: ignore[operator]
    found = importance(one, ours, granularity="unit", layers=["a"], samples=32)["a"]
    if ours == "l2":
        expected = expected.sqrt()  # theirs is the sum of squares
    if ours == "taylor":
        found = found.sqrt()  # theirs is |sum of w g|, ours its square
    assert torch.allclose(found, expected.to(found), rtol=1e-3), (found, expected)
