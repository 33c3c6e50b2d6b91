"""Masks of large layers: the same cuts as of small ones, at one bit an entry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import explorer
from explorer.analysis.words import layer_tally
from explorer.compress import bitmask
from explorer.compress.bitmask import BitMask
from explorer.compress.masks import by_sparsity
from explorer.evaluate.costs import counts


def _subject(dtypes: list[torch.dtype], device: str, ties: bool = False) -> explorer.Subject:
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(37 + i, 29, dtype=dtype) for i, dtype in enumerate(dtypes)])
    with torch.no_grad():
        for layer in net:
            if ties:
                layer.weight.copy_((layer.weight * 30).round() / 8)
    return explorer.Subject(net.to(device), explorer.Task.weights_only(), "large")


def test_packing_restores_the_mask(device: str) -> None:
    for shape in ((3, 5), (8,), (0, 2), (7, 3, 3)):
        mask = torch.rand(shape, device=device) > 0.5
        packed = BitMask.of(mask)
        assert torch.equal(packed.unpacked(), mask) and packed.bits.numel() == -(-mask.numel() // 8)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.013, 0.5, 0.97])
def test_without_ties_the_cut_is_torchs(
    scope: str, sparsity: float, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = explorer.Recipe().prune("*", sparsity=sparsity, scope=scope)
    expected = explorer.resolve(_subject([torch.float32] * 3, device), recipe).masks
    monkeypatch.setattr(bitmask, "LARGE", 1)
    plan = explorer.resolve(_subject([torch.float32] * 3, device), recipe)
    assert all(isinstance(layer.mask, BitMask) for layer in plan.layers.values())
    assert plan.masks.keys() == expected.keys() and "0.bias" not in plan.masks
    assert all(
        torch.equal(plan.masks[name], mask) and plan.masks[name].device == mask.device
        for name, mask in expected.items()
    )


@pytest.mark.parametrize(
    "dtypes", [[torch.bfloat16] * 2, [torch.float16] * 2, [torch.bfloat16, torch.float32, torch.float16]], ids=str
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_exactly_k_go_and_the_lowest(
    dtypes: list[torch.dtype], scope: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitmask, "LARGE", 1)
    subject = _subject(dtypes, device, ties=True)
    names = [layer.name for layer in subject.layers]
    for sparsity in (0.002, 0.1, 0.35, 0.5, 0.9):
        plan = explorer.resolve(subject, explorer.Recipe().prune("*", sparsity=sparsity, scope=scope))
        for group in [names] if scope == "global" else [[name] for name in names]:
            scores = [subject.weight(name).abs().float() for name in group]
            reference = by_sparsity(scores, [None] * len(group), sparsity)
            stays = torch.cat([plan.masks[name].reshape(-1) for name in group])
            assert int(stays.sum()) == sum(int(mask.sum()) for mask in reference)
            flat = torch.cat([one.reshape(-1) for one in scores])
            assert not (~stays).any() or flat[~stays].max() <= flat[stays].min()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_threshold_prunes_as_many_as_a_file_of_it_says(dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmask, "LARGE", 1)
    subject = _subject([dtype], device)
    for threshold in (-1.0, 0.0, 0.0123, 0.1, 0.2503, 1e30):
        mask = explorer.resolve(subject, explorer.Recipe().prune("0", threshold=threshold)).masks["0.weight"]
        tally = layer_tally(subject, "0.weight")
        assert tally is not None and int((~mask).sum()) == tally.below(threshold)


def test_thresholds_and_what_follows(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = explorer.Recipe().prune("*", threshold=0.1).quantize("1", bits=4)
    first = _subject([torch.float32, torch.bfloat16], device)
    expected, plain = counts(first, explorer.resolve(first, recipe)), explorer.resolve(first, recipe)
    monkeypatch.setattr(bitmask, "LARGE", 1)
    subject = _subject([torch.float32, torch.bfloat16], device)
    plan = explorer.resolve(subject, recipe)
    assert (
        all(torch.equal(plan.masks[name], mask) for name, mask in plain.masks.items())
        and plan.masks.keys() == plain.masks.keys()
    )
    assert counts(subject, plan).layers == expected.layers and plan.digest == plain.digest
    assert plan.cut_fraction("0.weight") == plain.cut_fraction("0.weight") > 0
    a, b = explorer.compress(subject, recipe).state_dict(), explorer.compress(first, recipe).state_dict()
    assert (
        all(torch.equal(a[name], b[name]) for name in b)
        and subject.weight("0.weight").data_ptr() != a["0.weight"].data_ptr()
    )
    with torch.no_grad():
        subject.module[0].weight[0, 0] = torch.nan
    with pytest.raises(explorer.UnsupportedError, match=r"0\.weight: its weights hold NaN"):
        explorer.resolve(subject, recipe)
