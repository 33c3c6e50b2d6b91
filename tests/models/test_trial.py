"""Trial removals of many groups and branches at once: how many forwards they take, and that a wrong one among right ones shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from explorer.models import blocks, groups, trial
from explorer.models.structure import Cut
from explorer.models.subject import Subject
from explorer.models.trial import Trials
from explorer.models.trial_blocks import BlockTrials
from tests.contract.nets import randomize, tiny


def deep(layers: int, width: int = 6, bias: bool = True) -> nn.Module:
    inner = [part for _ in range(layers) for part in (nn.Linear(6, width, bias), nn.Linear(width, 6, bias), nn.Tanh())]
    return randomize(nn.Sequential(*inner, nn.Linear(6, 3)))


class Runs:
    """The task's forward on real inputs, counted."""

    def __init__(self, subject: Subject) -> None:
        self.count, self.inner = 0, Trials(subject).runs[0]

    def __call__(self, module: nn.Module) -> object:
        self.count += 1
        return self.inner(module)


def shifted(cut: Cut) -> Cut:
    """The cut with its readers' columns one unit off: shapes fit, values do not."""
    slices = [replace(s, index=s.index.roll(1, 0)) if s.role == "consumer" else s for s in cut.slices]
    return replace(cut, slices=tuple(slices))


@pytest.mark.parametrize("layers", [8, 32])
def test_forwards_grow_with_the_logarithm_of_the_groups(layers: int, device: str) -> None:
    subject = tiny(deep(layers), device=device)
    cuts, _ = groups.propose(subject)
    runs = Runs(subject)
    assert Trials(subject, [runs]).reasons(cuts) == [None] * len(cuts) and len(cuts) == 2 * layers
    places = (len(cuts) - 1).bit_length()
    assert runs.count == 1 + 2 * 2 * places  # the original; a masked and a smaller model a round


@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_wrong_group_among_right_ones_is_the_one_that_is_refused(at: int, monkeypatch, device: str) -> None:
    subject = tiny(deep(10), device=device)
    propose = groups.propose
    names = [cut.group.name for cut in propose(subject)[0]]

    def wrong(*given):  # type: ignore[no-untyped-def]
        cuts, refused = propose(*given)
        return [shifted(cut) if i == at else cut for i, cut in enumerate(cuts)], refused

    monkeypatch.setattr(groups, "propose", wrong)
    found = subject.structure
    assert list(found.cuts) == [name for i, name in enumerate(names) if i != at] and len(names) == 20
    assert "not the same as masking them" in found.refused[f"{names[at]}.weight"]
    assert [name for name, why in found.refused.items() if "not the same" in why] == [f"{names[at]}.weight"]


class Sums(nn.Module):
    """Stages that add two layers: their units can only go together."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.ModuleList(nn.Linear(6, 6) for _ in range(stages)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for a, b, c in zip(self.a, self.b, self.c, strict=True):
            x = torch.tanh(c(torch.tanh(a(x) + b(x))))
        return x


@pytest.mark.parametrize("same", [False, True])
def test_groups_that_belong_together_do_not_cover_up_for_each_other(same: bool, monkeypatch, device: str) -> None:
    if same:  # units of the same numbers everywhere: then it is the rounds that tell them apart
        monkeypatch.setattr(trial, "_drawn", lambda units, group, place: torch.arange(place % 2, units, 2))
    subject = tiny(randomize(Sums(6)), device=device)
    cuts, _ = groups.propose(subject)
    sums = [cut for cut in cuts if cut.group.kind == "neuron" and len(cut.group.producers) == 2]
    assert len(sums) == 6 and Trials(subject).reasons(cuts) == [None] * len(cuts)
    torn = []
    for cut in sums:
        for name in cut.group.producers:
            owner = name.rpartition(".")[0]
            own = tuple(s for s in cut.slices if s.role == "consumer" or s.tensor.startswith(f"{owner}."))
            torn.append(replace(cut, group=replace(cut.group, name=owner, producers=(name,)), slices=own))
    found = Trials(subject).reasons(torn)
    assert all(why is not None and "fails" in why for why in found) and len(found) == 12


def test_a_round_that_leaves_nothing_alive_is_doubted(device: str) -> None:
    inner = [part for _ in range(6) for part in (nn.Linear(6, 6, False), nn.ReLU())]
    net = nn.Sequential(nn.Sigmoid(), *inner, nn.Linear(6, 3, False))
    with torch.no_grad():
        for layer in net[1::2]:
            layer.weight.abs_()
    subject = tiny(net, device=device)
    cuts, _ = groups.propose(subject)
    trials = Trials(subject)
    pairs = [(cut, torch.arange(0, 6, 2)) for cut in cuts]
    assert trials._together(pairs)
    subject.module[5].weight.data[:, ::2] = 0  # what stays of the layer in front is not read: behind it all is silent
    assert not Trials(subject)._together(pairs) and Trials(subject).reasons(cuts) == [None] * len(cuts)


class Branches(nn.Module):
    """Residual branches, one of which does not vanish with its layers."""

    def __init__(self, n: int, gate: int) -> None:
        super().__init__()
        self.gate, self.layers, self.head = gate, nn.ModuleList(nn.Linear(6, 6) for _ in range(n)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = x + (torch.sigmoid(layer(x)) if i == self.gate else torch.tanh(layer(x)))
        return self.head(x)


@pytest.mark.parametrize("gate", [0, 6])
def test_a_wrong_branch_among_right_ones_is_the_one_that_is_refused(gate: int, monkeypatch, device: str) -> None:
    count = [0]
    gap = BlockTrials._gap
    monkeypatch.setattr(BlockTrials, "_gap", lambda self, some: count.__setitem__(0, count[0] + 1) or gap(self, some))
    subject = tiny(randomize(Branches(12, gate)), device=device)
    assert list(subject.depth.blocks) == [f"layers.{i}" for i in range(12) if i != gate]
    assert "not the same as leaving it out" in subject.depth.refused[f"layers.{gate}.weight"]
    good = tiny(randomize(Branches(12, -1)), device=device)
    count[0] = 0
    assert len(good.depth.blocks) == 12 and count[0] == 1 + 2 * 4  # the first of the kind, then rounds


def test_the_structure_of_a_deep_model_is_the_one_that_single_trials_find(device: str) -> None:
    subject = tiny(deep(6), device=device)
    proposed, _ = groups.propose(subject)
    trials = Trials(subject)
    assert [trials.alone(cut) for cut in proposed] == trials.reasons(proposed)
    assert list(blocks.find_blocks(subject).blocks) == []
