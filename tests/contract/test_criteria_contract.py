from __future__ import annotations

import re

import pytest
import torch

from explorer.analysis.criteria import criteria, registry
from explorer.analysis.importance import importance
from explorer.compress.resolve import resolve
from explorer.core.errors import UnsupportedError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from tests.contract.nets import MLP, SAMPLES, few, state, tiny, unchanged

CRITERIA = criteria()
DIVIDED = ("taylor/mac", "l1/byte", "l2/ms")
SMALL = ("vowels-rnn", "bikes-mlp")  # on which also those are looked at that take a pass a unit
WORDS = {"magnitude", "gradient", "second order", "activation", "structure", "reference"}


def compatible(subject: Subject, criterion: str) -> list[str]:
    entry = registry[criterion]()
    return [layer.name for layer in subject.layers if entry.is_compatible(subject, layer.name) is None]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_help_has_a_title_a_formula_and_a_source(criterion: str) -> None:
    text = registry.help(criterion)
    entry = registry[criterion]
    assert len(text) >= 200 and entry.title and entry.family in WORDS and (entry.of_weights or entry.of_units)
    assert re.search(r"Source: .*\d{4}", text, re.S) and "score" in text.lower() and text.splitlines()[0].endswith(".")
    assert entry.needs <= {"data", "loss", "gradients", "activations"} and ("train" in text or not entry.needs)


def matrix() -> list[object]:
    """Every criterion, every sample; those that take a pass a unit on the small ones, the others when there is time."""
    cases = []
    for criterion in (*CRITERIA, *DIVIDED):
        for name in SAMPLES:
            rare = (registry[criterion].slow or criterion.endswith("/ms")) and name not in SMALL
            cases.append(pytest.param(criterion, name, marks=[pytest.mark.slow] if rare else []))
    return cases


@pytest.mark.parametrize(("criterion", "name"), matrix())
def test_scores_are_finite_and_of_the_documented_shape_or_refused_with_the_reason(
    criterion: str, name: str, device: str
) -> None:
    subject = few(name, device=device)
    before, training = state(subject.module), subject.module.training
    wants = [parameter.requires_grad for parameter in subject.module.parameters()]
    entry = registry[criterion]()
    for granularity, places in (
        ("weight", {layer.name: tuple(layer.shape) for layer in subject.layers}),
        ("unit", {group.name: (group.units,) for group in subject.groups}),
    ):
        reasons = {place: entry.is_compatible(subject, place) for place in places}
        able = [place for place, why in reasons.items() if why is None]
        for place in (place for place in places if reasons[place] is not None):
            with pytest.raises(UnsupportedError, match=re.escape(str(reasons[place]))):
                importance(subject, criterion, granularity=granularity, layers=[place], samples=16)  # type: ignore[arg-type]
        found = importance(subject, criterion, granularity=granularity, layers=able, samples=16)  # type: ignore[arg-type]
        for place, scores in found.items():
            assert scores.shape == places[place] and scores.dtype in (torch.float32, torch.float64)
            assert torch.isfinite(scores).all() and not scores.requires_grad
            assert granularity == "weight" or len(scores.unique()) > 1, place
            if granularity == "weight":
                assert scores.data_ptr() != subject.weight(place).data_ptr()
    assert unchanged(subject.module, before) and subject.module.training == training
    assert all(parameter.grad is None for parameter in subject.module.parameters())
    assert wants == [parameter.requires_grad for parameter in subject.module.parameters()]


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if not registry[c].slow])
def test_what_applies_everywhere_is_refused_nowhere(criterion: str, device: str) -> None:
    """A criterion that refuses the common cases would pass the test above without scoring anything."""
    for name in ("fashion-resnet", "vowels-lstm", "fashion-vit"):
        subject, entry = few(name, device=device), registry[criterion]()
        able = [layer.name for layer in subject.layers if entry.is_compatible(subject, layer.name) is None]
        units = [group.name for group in subject.groups if entry.is_compatible(subject, group.name) is None]
        assert len(able) >= len(subject.layers) - 1 or not entry.of_weights
        if criterion in ("apoz", "bn-scale"):
            assert bool(units) == (name == "fashion-resnet")
        else:
            assert len(units) == len(subject.groups) or not entry.of_units


@pytest.mark.parametrize("criterion", [*CRITERIA, "taylor/mac"])
def test_scores_repeat(criterion: str, device: str) -> None:
    """A new subject of the same weights has the same scores: nothing depends on the run, only on the seed."""
    pairs = [tiny(MLP((6, 8, 5, 3)), device=device) for _ in range(2)]
    for granularity in ("weight", "unit"):
        if getattr(registry[criterion], f"of_{granularity}s") and criterion != "bn-scale":
            first, second = (importance(one, criterion, granularity=granularity, samples=32) for one in pairs)  # type: ignore[arg-type]
            assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_criterion_can_prune(criterion: str, device: str) -> None:
    subject = tiny(device=device)
    names = compatible(subject, criterion)
    for scope in ("layer", "global") if names else ():
        plan = resolve(subject, Recipe().prune(names, sparsity=0.5, criterion=criterion, scope=scope))
        total = sum(mask.numel() for mask in plan.masks.values())
        gone = sum(int((~mask).sum()) for mask in plan.masks.values())
        assert gone == (
            round(total / 2) if scope == "global" else sum(round(m.numel() / 2) for m in plan.masks.values())
        )
    if registry[criterion]().is_compatible(subject, "fc.0") is not None:
        assert criterion == "bn-scale"
        return
    units = resolve(subject, Recipe().prune("*", sparsity=0.5, criterion=criterion, granularity="unit"))
    assert {name: len(kept) for name, kept in units.kept.items()} == {"fc.0": 4, "fc.1": 3}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_that_were_there_stay(criterion: str, device: str) -> None:
    subject = tiny(device=device)
    subject.module.train()
    for parameter in subject.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    for granularity, names in (("weight", compatible(subject, criterion)), ("unit", ["fc.0"])):
        if registry[criterion]().is_compatible(subject, (names or ["fc.0.weight"])[0]) is None:
            importance(subject, criterion, granularity=granularity, layers=names, samples=32)  # type: ignore[arg-type]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in subject.module.parameters()) and subject.module.training


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_follow_the_weights_to_their_device(criterion: str, device: str) -> None:
    subject, moved = tiny(device=device), tiny(device=device)
    expected = importance(subject, criterion, layers=compatible(subject, criterion), samples=32)
    found = importance(moved, criterion, layers=compatible(moved, criterion), samples=32)
    for name, scores in found.items():
        assert scores.device.type == device and torch.allclose(scores.cpu(), expected[name], rtol=1e-4, atol=1e-6)
