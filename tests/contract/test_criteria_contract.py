from __future__ import annotations

import re

import pytest
import torch

from explorer.analysis.criteria import criteria, registry
from explorer.analysis.importance import importance
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from tests.contract.nets import SAMPLES, few, state, tiny, unchanged

CRITERIA = criteria()


def compatible(subject: Subject, criterion: str) -> list[str]:
    entry = registry[criterion]()
    return [layer.name for layer in subject.layers if entry.is_compatible(subject, layer.name) is None]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_help_has_a_title_a_formula_and_a_source(criterion: str) -> None:
    text = registry.help(criterion)
    assert len(text) >= 200 and registry[criterion].title
    assert re.search(r"Source: .*\d{4}", text, re.S) and "score" in text.lower() and text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_have_the_weights_shape_are_finite_and_repeat(criterion: str, name: str, device: str) -> None:
    subject = few(name, device=device)
    before, training = state(subject.module), subject.module.training
    names = compatible(subject, criterion)
    assert names
    first = importance(subject, criterion, layers=names, samples=32)
    second = importance(subject, criterion, layers=names, samples=32)
    for layer in names:
        assert first[layer].shape == subject.weight(layer).shape and first[layer].dtype in (
            torch.float32,
            torch.float64,
        )
        assert torch.isfinite(first[layer]).all() and torch.equal(first[layer], second[layer])
        assert first[layer].data_ptr() != subject.weight(layer).data_ptr() and not first[layer].requires_grad
    assert unchanged(subject.module, before) and subject.module.training == training
    assert all(parameter.grad is None for parameter in subject.module.parameters())


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-lenet5", "fashion-resnet", "fashion-vit", "bikes-mlp"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_unit_scores_have_one_value_a_unit(criterion: str, name: str, device: str) -> None:
    subject = few(name, device=device)
    before = state(subject.module)
    first = importance(subject, criterion, granularity="unit", samples=32)
    second = importance(subject, criterion, granularity="unit", samples=32)
    assert set(first) == {group.name for group in subject.groups}
    for group in subject.groups:
        assert first[group.name].shape == (group.units,) and torch.isfinite(first[group.name]).all()
        assert torch.equal(first[group.name], second[group.name]) and len(first[group.name].unique()) > 1
    assert unchanged(subject.module, before)
    assert all(parameter.grad is None for parameter in subject.module.parameters())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_criterion_can_prune(criterion: str, device: str) -> None:
    subject = tiny(device=device)
    names = compatible(subject, criterion)
    for scope in ("layer", "global"):
        plan = resolve(subject, Recipe().prune(names, sparsity=0.5, criterion=criterion, scope=scope))
        total = sum(mask.numel() for mask in plan.masks.values())
        gone = sum(int((~mask).sum()) for mask in plan.masks.values())
        assert gone == (
            round(total / 2) if scope == "global" else sum(round(m.numel() / 2) for m in plan.masks.values())
        )
    units = resolve(subject, Recipe().prune("*", sparsity=0.5, criterion=criterion, granularity="unit"))
    assert {name: len(kept) for name, kept in units.kept.items()} == {"fc.0": 4, "fc.1": 3}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_that_were_there_stay(criterion: str, device: str) -> None:
    subject = tiny(device=device)
    subject.module.train()
    for parameter in subject.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    importance(subject, criterion, layers=compatible(subject, criterion), samples=32)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in subject.module.parameters()) and subject.module.training


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_follow_the_weights_to_their_device(criterion: str, device: str) -> None:
    subject, moved = tiny(), tiny(device=device)
    expected = importance(subject, criterion, layers=compatible(subject, criterion), samples=32)
    found = importance(moved, criterion, layers=compatible(moved, criterion), samples=32)
    for name, scores in found.items():
        assert scores.device.type == device and torch.allclose(scores.cpu(), expected[name], rtol=1e-4, atol=1e-6)
