"""Exact loss changes against really removing the unit, and against zeroing the weights by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from explorer.analysis.importance import importance
from explorer.analysis.look import order
from explorer.core.errors import Cancelled
from explorer.models.removal import gone, remove
from tests.analysis.nets import looked, subject
from tests.contract.nets import few

SAMPLES = 16


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("fashion-mlp", "fc2"),
        ("fashion-resnet", "stem"),
        ("fashion-vit", "blocks.2.attn"),
        ("vowels-rnn", "rnn.l0"),
        ("surnames-gru", "gru.l0"),
        ("fashion-vit", "patches"),
    ],
)
def test_units_left_out_are_units_removed(name: str, group: str, device: str) -> None:
    one = few(name, device=device)
    cut = one.structure.cuts[group]
    found = importance(one, "loss-change", granularity="unit", layers=[group], samples=SAMPLES, device=device)[
        group
    ].cpu()
    slopes = importance(one, "loss-slope", granularity="unit", layers=[group], samples=SAMPLES, device=device)[
        group
    ].cpu()
    inputs, targets = looked(one, order(one, SAMPLES, 0))
    assert one.task.loss is not None
    with torch.no_grad():
        base = one.task.loss(one.copy()(inputs), targets)
        for unit in (0, 1, cut.group.units - 1):
            others = torch.arange(cut.group.units)
            smaller = copy.deepcopy(one.module).eval()
            remove(smaller, gone([(cut, others[others != unit])]))
            change = (one.task.loss(smaller(inputs), targets) - base).abs()
            assert float(found[unit]) == pytest.approx(float(change), abs=2e-5, rel=1e-3)
            size = sum(
                float(one.weight(p.tensor).index_select(p.dim, p.index[unit]).square().sum())
                for p in cut.slices
                if p.role == "producer"
            )
            assert float(slopes[unit]) == pytest.approx(float(found[unit]) / size**0.5, rel=1e-4)


def test_single_weights_of_a_small_layer(device: str) -> None:
    one = subject("mlp", device)
    found = importance(one, "loss-change", layers=["fc.1.weight"], samples=SAMPLES)["fc.1.weight"]
    slopes = importance(one, "loss-slope", layers=["fc.1.weight"], samples=SAMPLES)["fc.1.weight"]
    inputs, targets = looked(one, order(one, SAMPLES, 0))
    module = copy.deepcopy(one.module)
    assert one.task.loss is not None
    with torch.no_grad():
        base = one.task.loss(module(inputs), targets)
        for place in ((0, 0), (2, 5), (4, 7)):
            kept = module.fc[1].weight[place].clone()
            module.fc[1].weight[place] = 0
            change = (one.task.loss(module(inputs), targets) - base).abs()
            module.fc[1].weight[place] = kept
            assert float(found[place]) == pytest.approx(float(change), abs=1e-6)
            assert float(slopes[place]) == pytest.approx(float(change / kept.abs()), rel=1e-3, abs=1e-5)


def test_larger_layers_are_left_out_in_runs(device: str) -> None:
    one = few("vowels-lstm", device=device)
    name = "head.weight"  # 9 x 64: runs of three weights
    found = importance(one, "loss-change", layers=[name], samples=4)[name].flatten()
    assert len(found) == 576 and torch.equal(found[0:3], found[:1].expand(3)) and len(found.unique()) > 150
    inputs, targets = looked(one, order(one, 4, 0))
    module = copy.deepcopy(one.module).eval()
    assert one.task.loss is not None
    with torch.no_grad():
        base = one.task.loss(module(inputs), targets)
        module.head.weight.view(-1)[3:6] = 0
        change = (one.task.loss(module(inputs), targets) - base).abs()
    assert float(found[3]) == pytest.approx(float(change) / 3, abs=1e-7)


def test_progress_and_cancel(device: str) -> None:
    one = subject("mlp", device)
    told: list[tuple[int, int]] = []
    importance(
        one,
        "loss-change",
        layers=["fc.0.weight"],
        samples=SAMPLES,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told) and {total for _, total in told} == {48}
    with pytest.raises(Cancelled, match="cancelled after"):
        importance(one, "loss-change", layers=["fc.1.weight"], samples=SAMPLES, cancel=lambda: True)
    with pytest.raises(Cancelled):
        importance(one, "snip", samples=7, cancel=lambda: True)
    assert importance(one, "snip", samples=7)  # what was cancelled is not kept
