"""Importance over what a weight or unit costs."""

from __future__ import annotations

import pytest
import torch

import explorer
from explorer.analysis.costs import registry as costs
from explorer.compress.apply import build
from explorer.compress.plan import Plan
from explorer.compress.resolve import resolve
from explorer.core.errors import UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts
from explorer.models.removal import gone
from explorer.models.subject import Subject
from tests.contract.nets import few


def without(one: Subject, group: str, unit: int) -> Plan:
    cut = one.structure.cuts[group]
    kept = torch.tensor([u for u in range(cut.group.units) if u != unit])
    return Plan({}, {group: kept}, gone([(cut, kept)]))


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("fashion-mlp", "fc1"),
        ("fashion-lenet5", "conv2"),
        ("fashion-resnet", "b1.conv1"),
        ("fashion-vit", "blocks.0.fc1"),
    ],
)
def test_macs_and_bytes_of_a_unit_are_what_its_removal_saves(name: str, group: str, device: str) -> None:
    one = few(name, device=device)
    cut, plan = one.structure.cuts[group], without(one, group, 1)
    before, after = counts(one, Plan({}, {})), counts(one, plan)
    assert before.macs and after.macs
    assert costs["mac"]().of_unit(one, cut) == before.macs - after.macs
    tensors = [*build(one, plan).parameters(), *(b for b in build(one, plan).buffers() if b.ndim)]
    whole = [*one.module.parameters(), *(b for b in one.module.buffers() if b.ndim)]
    saved = sum(t.numel() * t.element_size() for t in whole) - sum(t.numel() * t.element_size() for t in tensors)
    assert costs["byte"]().of_unit(one, cut) == saved


def test_a_score_is_divided(device: str) -> None:
    one = few("fashion-lenet5", device=device)
    plain, per = (
        explorer.importance(one, "l1", granularity="unit"),
        explorer.importance(one, "l1/mac", granularity="unit"),
    )
    for group, cut in one.structure.cuts.items():
        assert torch.allclose(per[group] * costs["mac"]().of_unit(one, cut), plain[group], rtol=1e-4)
    weights = explorer.importance(one, "l1/mac")
    assert torch.allclose(weights["conv1.weight"] * 576, one.weight("conv1.weight").abs())
    assert torch.equal(weights["fc1.weight"], one.weight("fc1.weight").abs())
    with pytest.raises(UnsupportedError, match="multiplies nothing that could be counted"):
        explorer.importance(few("surnames-gru", device=device), "l1/mac", layers=["embedding.weight"])


def test_expensive_weights_go_first_in_a_global_ranking(device: str) -> None:
    one = few("fashion-lenet5", device=device)
    plain, per = (
        resolve(one, Recipe().prune("*", sparsity=0.5, scope="global", criterion=c)).masks for c in ("l1", "l1/mac")
    )
    assert float(per["conv1.weight"].float().mean()) < 0.1 < float(plain["conv1.weight"].float().mean())
    assert explorer.Recipe.from_json(Recipe().prune("*", sparsity=0.5, criterion="l1/mac").to_json())


def test_milliseconds_are_measured_once_and_only_of_units(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    one = few("bikes-mlp", 47, device=device)
    runs: list[float] = []

    def run(subject: Subject, module: torch.nn.Module, inputs: object) -> float:
        runs.append(sum(p.numel() for p in module.parameters()) / 1000)
        return runs[-1]

    monkeypatch.setattr("explorer.analysis.costs.ms._run", run)
    group = one.groups[0]
    found = explorer.importance(one, "l1/ms", granularity="unit", layers=[group.name])[group.name]
    whole, smaller = max(runs), min(runs)
    expected = explorer.importance(one, "l1", granularity="unit")[group.name] / ((whole - smaller) / (group.units // 2))
    assert torch.allclose(found, expected) and len(runs) == 22
    explorer.importance(one, "l2/ms", granularity="unit", layers=[group.name])
    assert len(runs) == 22
    with pytest.raises(UnsupportedError, match="a zero among the weights of a dense layer saves no time"):
        explorer.importance(one, "l1/ms")
