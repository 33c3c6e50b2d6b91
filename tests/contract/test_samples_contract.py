from __future__ import annotations

import random

import pytest
import torch

from explorer.compress.apply import compress
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.models.subject import Subject
from tests.contract.nets import SAMPLES, few, sample, state, tiny, unchanged


def random_recipe(rng: random.Random, subject: Subject) -> Recipe:
    """Any mixture of rules that means something for the subject."""
    names = [layer.name for layer in subject.layers]
    recipe = Recipe()
    for _ in range(rng.randint(1, 4)):
        to = rng.sample(names, rng.randint(1, min(3, len(names)))) if rng.random() < 0.7 else "*"
        kind = rng.random()
        if kind < 0.45:
            how = rng.choice(
                [
                    {"mode": "hard"},
                    {"mode": "scale", "factor": rng.random()},
                    {"mode": "shrink"},
                    {"granularity": "4x1"},
                ]
            )
            cut = {"sparsity": rng.random()} if rng.random() < 0.7 else {"threshold": rng.random() * 0.2}
            scope = rng.choice(["layer", "global"])
            recipe = recipe.prune(to, scope=scope, **cut, **how)  # type: ignore[arg-type]
        elif kind < 0.55:
            recipe = recipe.prune(to, granularity="2:4")
        elif kind < 0.7 and subject.groups:
            group = rng.choice(subject.groups)
            recipe = recipe.prune(
                group.producers[0], sparsity=rng.random(), granularity="unit", criterion=rng.choice(["l1", "random"])
            )
        elif kind < 0.9:
            recipe = recipe.quantize(
                to,
                bits=rng.randint(2, 8),
                scheme=rng.choice(["symmetric", "affine"]),
                granularity=rng.choice(["tensor", "channel"]),
            )
        else:
            recipe = recipe.keep(to) if rng.random() < 0.5 else recipe.clear(to)
    return recipe


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ("moby-lstm", "surnames-gru", "vowels-lstm", "fashion-resnet", "fashion-vit") else []) for n in SAMPLES]
)
def test_a_hundred_random_recipes_leave_the_model_as_it_was(name: str, device: str) -> None:
    whole, subject = sample(name, device), few(name, device=device)
    before, digest, training = state(whole.module), whole.digest, [m.training for m in whole.module.modules()]
    versions = [p._version for p in whole.module.parameters()]
    rng, metrics = random.Random(0), set()
    for i in range(100):
        recipe = random_recipe(rng, subject)
        report = evaluate(subject, recipe, device=device)
        metrics.add(report.metrics["loss"])
        assert 0 <= report.sparsity <= 1 and report.bytes <= report.sizes["dense"] and report.n == report.total
        if i % 10 == 0:
            module = compress(subject, recipe)
            assert sum(p.numel() for p in module.parameters()) == report.parameters
            assert sum(int(torch.count_nonzero(p)) for p in module.parameters()) == report.nonzero
    assert len(metrics) > 50
    assert unchanged(whole.module, before) and [p._version for p in whole.module.parameters()] == versions
    assert (
        Subject(whole.module, whole.task).digest == digest and [m.training for m in whole.module.modules()] == training
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in whole.module.modules())
    assert all(p.grad is None for p in whole.module.parameters())


@pytest.mark.parametrize("name", ["bikes-mlp", "vowels-rnn", "vowels-lstm"])
def test_figures_of_the_whole_split_are_those_of_the_card(name: str, device: str) -> None:
    subject = sample(name, device)
    report = evaluate(subject, device=device)
    scores = subject.card["scores"]["validation"]
    assert report.n == len(subject.task.dataset("validation"))
    for metric, value in scores.items():
        if metric in report.metrics:
            assert report.metrics[metric] == pytest.approx(value, abs=2e-3 * max(1, abs(value)))
    assert set(scores) & set(report.metrics)


def test_evaluation_on_every_device(device: str) -> None:
    """The same figures, and the same masks, wherever the model and the evaluation are."""
    recipe = Recipe().prune("fc.0", sparsity=0.5, granularity="unit").prune("*", sparsity=0.4).quantize("fc.1", bits=4)
    soft = (
        Recipe()
        .prune("fc.0", sparsity=0.5, granularity="unit", mode="scale", factor=0.5)
        .prune("*", sparsity=0.3, mode="shrink")
    )
    for one in (recipe, soft, Recipe().prune("fc.1", granularity="2:4").prune("fc.0", granularity="2x2", sparsity=0.5)):
        expected = evaluate(tiny(), one, device="cpu")
        there = evaluate(tiny(), one, device=device)
        assert there.device.startswith(device)
        moved = tiny(device=device)
        for report in (there, evaluate(moved, one, device=device), evaluate(moved, one, device="cpu")):
            assert report.metrics["accuracy"] == pytest.approx(expected.metrics["accuracy"], abs=1 / 64 + 1e-9)
            assert report.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-3)
            assert (
                report.sparsity == expected.sparsity and report.macs == expected.macs and report.bytes == expected.bytes
            )
        module = compress(moved, one)
        assert {p.device.type for p in module.parameters()} == {device}
