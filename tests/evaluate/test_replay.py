"""A replay gives to the last bit what a full evaluation in the same batches gives, and what the plain module gives to 1e-5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explorer.compress.apply import build
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate.engine import Engine
from explorer.evaluate.jobs import lend
from explorer.evaluate.tune import Tuning
from explorer.models.sites import refusal
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import MLP, SAMPLES, CharLM, classification, few, language, randomize, tiny
from tests.evaluate.awkward import Branches, Counting, Dropping, Encoder, Functional, Hiding, InPlace, Running, Twice

TUNED = Tuning(batch=16, rate=800.0, fused=True)  # looks at 32 and at the end, small batches: everything is put together somewhere


def engines(subject: Subject, device: str, tuned: Tuning = TUNED) -> tuple[Engine, Engine]:
    """One that replays, and one of the same settings that runs all of the module every time."""
    pair = tuple(Engine(subject, torch.device(device), tuned) for _ in range(2))
    whole = pair[1].jobs
    whole.job = lambda plan, split, check: whole.whole(plan)  # type: ignore[method-assign, assignment]
    return pair  # type: ignore[return-value]


def columns(run: Engine, recipe: Recipe) -> dict[str, Tensor]:
    total = run.data("validation").total
    with run.work() as work:
        return dict(run.ensure(resolve(run.subject, recipe), "validation", total, work).columns(total))


def the_same(pair: tuple[Engine, Engine], recipe: Recipe) -> None:
    found, expected = columns(pair[0], recipe), columns(pair[1], recipe)
    assert found.keys() == expected.keys()
    for key, column in expected.items():
        assert torch.equal(found[key], column), f"{key}: {(found[key] - column).abs().max()}"


def outputs(run: Engine, recipe: Recipe) -> tuple[Any, Any]:
    """(what the engine's job gives, what the compressed module gives) on a few samples."""
    plan, inputs, got = resolve(run.subject, recipe), run.data("validation").some(8), []
    with run.work() as work, torch.inference_mode():
        job = run.job(plan, "validation", work)
        job.runner.run(job.which, inputs, [(0, 8)], lambda: lend(run.replica, job), lambda a, b, out: got.append(out), None)
        return got[0], run.subject.task.forward(build(run.subject, plan).to(run.device), inputs)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layer_of_every_sample(name: str, device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device)
    assert pair[0].runner.tier == "graph", pair[0].runner.reason
    layers = [layer.name for layer in subject.layers]
    for layer in layers:
        for sparsity in (0.4, 0.7):
            the_same(pair, Recipe().prune(layer, sparsity=sparsity))
    recipe = Recipe().prune("*", sparsity=0.3).prune(layers[-1], sparsity=0.6).quantize(layers[0], bits=4)
    the_same(pair, recipe)
    found, plain = outputs(pair[0], recipe)
    assert difference(plain, found) <= 1e-5


@pytest.mark.parametrize("name", ["fashion-mlp", "fashion-resnet", "vowels-lstm", "fashion-vit"])
def test_structured_and_quantized_plans(name: str, device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device)
    base = Recipe()
    for group in [g.producers[0] for g in subject.groups][:3]:
        for sparsity in (0.25, 0.5):
            the_same(pair, base.prune(group, sparsity=sparsity, granularity="unit"))
    for bits in (3, 8):
        the_same(
            pair, base.prune("*", sparsity=0.25, granularity="unit").quantize("*", bits=bits, granularity="channel")
        )
    recipe = base.prune("*", sparsity=0.25, granularity="unit")
    found, plain = outputs(pair[0], recipe)
    assert difference(plain, found) <= 1e-5


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("fashion-mlp", ("equalize", "bias-correction")),
        ("fashion-resnet", ("fold", "equalize", "bias-correction")),
        ("vowels-lstm", ("bias-correction",)),
        ("fashion-vit", ("bias-correction",)),
    ],
)
def test_rounded_activations_and_changed_biases_and_norms(name: str, steps: tuple[Any, ...], device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device)
    layers = [layer.name for layer in subject.layers]
    for layer in {layers[1], layers[len(layers) // 2], layers[-1]}:
        for bits in (3, 8):
            recipe = Recipe().prune(layers[0], sparsity=0.3).quantize(layer, bits=bits, what="activation")
            the_same(pair, recipe)
            found, plain = outputs(pair[0], recipe)
            assert difference(plain, found) <= 1e-5, layer
    for step in steps:
        base = Recipe().quantize(layers[-1], bits=3).prepare(step) if step == "bias-correction" else Recipe().prepare(step)
        for recipe in (base, base.quantize(layers[-1], bits=4), base.quantize(layers[-1], bits=4, what="activation")):
            the_same(pair, recipe)
            found, plain = outputs(pair[0], recipe)
            assert difference(plain, found) <= 1e-5, step


@pytest.mark.parametrize("module", [Branches(), Functional(), Twice(), Encoder(), Counting()], ids=lambda m: type(m).__name__)
def test_activations_are_rounded_in_every_tier(module: nn.Module, device: str) -> None:
    torch.manual_seed(0)
    shape = (5, 3) if isinstance(module, Encoder) else (6,)
    subject = tiny(module if isinstance(module, Encoder) else randomize(module), shape, device)
    pair = engines(subject, device)
    reference = Recipe().prune("last", sparsity=0.3)
    for layer in [layer.name for layer in subject.layers if refusal(subject.module, layer.name) is None]:
        recipe = reference.quantize(layer, bits=2, what="activation")
        the_same(pair, recipe)
        found, plain = outputs(pair[0], recipe)
        assert difference(plain, found) <= 1e-5, layer
    assert difference(outputs(pair[0], reference)[0], found) > 1e-3  # it makes a difference at all


def edits(names: list[str], groups: list[str], read: list[str]) -> Any:
    """One edit: (what, target, strength). read: layers whose input can be rounded."""
    whats = st.sampled_from(["prune", "quantize", "clear", "shrink", "scale"])
    weights = st.one_of(
        *[st.tuples(whats, st.sampled_from(names), st.integers(1, 9))] * 4,
        st.tuples(st.just("activation"), st.sampled_from(read), st.integers(1, 9)),
    )
    units = st.tuples(st.just("units"), st.sampled_from(groups), st.integers(1, 9)) if groups else weights
    return st.lists(st.one_of(weights, weights, weights, units), min_size=1, max_size=50)


def edited(recipe: Recipe, what: str, target: str, strength: int) -> Recipe:
    if what == "quantize":
        return recipe.quantize(target, bits=2 + strength % 7)
    if what == "activation":
        return recipe.quantize(target, bits=2 + strength % 7, what="activation")
    if what == "clear":
        return recipe.clear(target)
    if what == "units":
        return recipe.prune(target, sparsity=strength / 20, granularity="unit")
    mode = "hard" if what == "prune" else what
    return recipe.prune(target, sparsity=strength / 10, mode=mode, factor=0.5 if what == "scale" else None)


def sequences(name: str, examples: int, device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device)
    names = [layer.name for layer in subject.layers]
    groups = [group.producers[0] for group in subject.groups if group.kind in ("neuron", "channel", "hidden")]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(edits(names, groups, [name for name in names if refusal(subject.module, name) is None]))
    def check(steps: list[tuple[str, str, int]]) -> None:
        recipe = Recipe()
        for step in steps:
            recipe = edited(recipe, *step)
            the_same(pair, recipe)

    check()


@pytest.mark.parametrize("name", ["bikes-mlp", "vowels-rnn"])
def test_random_sequences_of_edits(name: str, device: str) -> None:
    sequences(name, 3, device)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_random_sequences_of_edits_of_every_sample(name: str, device: str) -> None:
    sequences(name, 8, device)


@pytest.mark.parametrize(
    "tuned", [Tuning(batch=16, rate=800, channels_last=True), Tuning(torch.bfloat16, batch=8, rate=800)]
)
@pytest.mark.parametrize("name", ["fashion-lenet5", "fashion-resnet"])
def test_other_layouts_and_dtypes_replay_exactly_too(name: str, tuned: Tuning, device: str) -> None:
    subject = few(name, device=device)
    pair = engines(subject, device, tuned)
    assert pair[0].runner.tier == "graph", pair[0].runner.reason
    for layer in subject.layers:
        the_same(pair, Recipe().prune(layer.name, sparsity=0.5))
        the_same(pair, Recipe().prune(layer.name, sparsity=0.6))


@pytest.mark.parametrize(
    ("module", "shape", "tier"),
    [
        (Branches(), (6,), "order of calls"),
        (InPlace(True), (6,), "full"),
        (InPlace(False), (6,), "full"),
        (Twice(), (6,), "graph"),
        (Dropping(), (6,), "full"),
        (Counting(), (6,), "full"),
        (Running(), (6,), "full"),
        (Functional(), (6,), "order of calls"),
        (Hiding(), (6,), "order of calls"),
        (Encoder(), (5, 3), "graph"),
        (MLP(), (6,), "graph"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_unsafe_is_not_done_and_the_result_is_equal(
    module: nn.Module, shape: tuple[int, ...], tier: str, device: str
) -> None:
    torch.manual_seed(0)
    subject = tiny(randomize(module) if not isinstance(module, Encoder) else module, shape, device)
    pair = engines(subject, device)
    names = [layer.name for layer in subject.layers]
    chance = isinstance(module, Dropping)
    for name in [*reversed(names), *names]:
        for sparsity in (0.3, 0.6):
            recipe = Recipe().prune(name, sparsity=sparsity)
            if not chance:
                the_same(pair, recipe)
                found, plain = outputs(pair[0], recipe)
                assert difference(plain, found) <= 1e-5, name
            else:
                columns(pair[0], recipe)
    assert pair[0].runner.tier == tier, pair[0].runner.reason
    assert tier == "graph" or pair[0].runner.reason


def test_a_task_with_a_forward_of_its_own_is_replayed_by_order(device: str) -> None:
    subject = Subject(MLP().to(device), classification((6,), forward=lambda module, x: 2 * module(x + 1)), "mine")
    pair = engines(subject, device)
    assert pair[0].runner.tier == "order of calls"
    for name in ("fc.2", "fc.1", "fc.2"):
        the_same(pair, Recipe().prune(name, sparsity=0.5))
        the_same(pair, Recipe().prune(name, sparsity=0.6))


@pytest.mark.parametrize("tie", [False, True])
def test_tied_weights_run_from_their_first_use(tie: bool, device: str) -> None:
    subject = Subject(CharLM(tie=tie).to(device), language(), "lm")
    pair = engines(subject, device)
    for layer in subject.layers:
        for sparsity in (0.3, 0.6):
            the_same(pair, Recipe().prune(layer.name, sparsity=sparsity))
