from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.compress.build import effective_weights
from explorer.core.errors import Cancelled
from explorer.core.recipe import Recipe
from explorer.core.training import Epoch, Step
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.finetune import finetune, train
from explorer.recover.loop import Training
from explorer.recover.settings import Settings
from tests.contract.nets import few
from tests.recover.small import QUICK, RECIPE, Small, same_weights, small


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_it_learns_and_the_parent_stays(optimizer: str, device: str) -> None:
    subject = small(device)
    digest, version = subject.digest, subject.version
    rng = torch.get_rng_state()
    told: list[Any] = []
    found = finetune(
        subject, RECIPE, **QUICK, optimizer=optimizer, weight_decay=0.01, device=device, events=told.append
    )
    assert (subject.digest, subject.version) == (digest, version) and not subject.history
    assert torch.equal(torch.get_rng_state(), rng)
    plan = explorer.resolve(subject, RECIPE)
    for name, mask in plan.masks.items():
        weight = found.weight(name)
        left = plan.layers[name].remaining(mask).to(weight.device)
        assert weight.shape == left.shape
        assert torch.count_nonzero(weight[~left]) == 0
    assert found.module.conv.out_channels == 6 and found.parent is subject
    epochs = [one for one in told if isinstance(one, Epoch)]
    assert [one.epoch for one in epochs] == [0, 1, 2, 3]
    losses = [one.loss for one in epochs if one.loss is not None]
    assert losses[-1] < losses[0]
    entry = found.history[-1]
    assert (
        entry.curve == tuple(epochs) and entry.complete and entry.steps == 3 * 6
    )  # 97 samples, 16 at once; a batch of one would be no batch
    assert (
        entry.digest == digest
        and entry.recipe == RECIPE
        and entry.evaluations == 5
        and entry.settings["optimizer"] == optimizer
    )
    assert entry.before["accuracy"].value == explorer.evaluate(subject, device=device).metrics["accuracy"]
    assert entry.damaged["accuracy"].value == pytest.approx(
        explorer.evaluate(subject, RECIPE, device=device).metrics["accuracy"], abs=0.02
    )
    assert entry.after["accuracy"].value == explorer.evaluate(found, device=device).metrics["accuracy"]
    best = [one for one in epochs if one.best][-1]
    assert best.figures == entry.after and all(one.figure.value <= best.figure.value for one in epochs)


def test_the_results_recipe_says_what_it_is_and_changes_no_bit(device: str) -> None:
    subject = small(device)
    for recipe in (
        RECIPE,
        Recipe().prune("*", sparsity=0.5).quantize("*", bits=3, quantizer="kmeans-linear"),
        Recipe().quantize("*", bits=3, quantizer="mse", scheme="affine"),
        Recipe().quantize("*", bits=2, quantizer="ternary").quantize("head", bits=1, quantizer="binary").keep("conv"),
        Recipe().prune("*", sparsity=0.5, mode="scale", factor=0.3),
    ):
        found = finetune(subject, recipe, epochs=1, batch=32, device=device)
        plan = explorer.resolve(found, found.recipe)
        for name, weight in effective_weights(found, plan).items():
            assert torch.equal(weight + 0, found.weight(name) + 0), name
        for name, codes in explorer.resolve(subject, recipe).codes.items():
            assert plan.codes[name].bits == codes.bits
            for row in codes.slices.rows(found.weight(name)):
                assert len(row.unique()) <= 2**codes.bits + 1
        again = finetune(found, found.recipe, epochs=1, batch=32, device=device)
        assert [entry.what for entry in again.history] == ["fine-tuning"] * 2 and again.parent is found
        for name in explorer.resolve(subject, recipe).masks:
            assert torch.count_nonzero(again.weight(name)[found.weight(name) == 0]) == 0


def test_activations_are_rounded_in_the_loop_and_their_ranges_are_kept(device: str) -> None:
    subject = small(device)
    recipe = Recipe().quantize("*", bits=4, what="activation").quantize("*", bits=4)
    found = finetune(subject, recipe, epochs=1, batch=32, device=device)
    assert type(found.module.head) is nn.Linear
    was, now = explorer.resolve(subject, recipe).inputs, explorer.resolve(found, found.recipe).inputs
    assert was.keys() == now.keys()
    for name, codes in was.items():
        torch.testing.assert_close(now[name].scale, codes.scale)
        assert torch.equal(now[name].zero_point, codes.zero_point)
    assert explorer.evaluate(found, found.recipe).metrics["accuracy"] == pytest.approx(
        found.history[-1].after["accuracy"].value, abs=0.02
    )


def test_the_same_seed_gives_the_same_model_and_another_one_another() -> None:
    first, second = (finetune(small(), RECIPE, **QUICK, device="cpu") for _ in range(2))
    assert same_weights(first.module, second.module)
    assert first.history[-1].after == second.history[-1].after
    assert not same_weights(first.module, finetune(small(), RECIPE, **QUICK, seed=1, device="cpu").module)


@pytest.mark.parametrize("at", [1, 6, 7, 17])
def test_cancel_at_any_step_leaves_a_usable_subject(at: int, device: str) -> None:
    subject = small(device)
    going = Training(subject, RECIPE, Settings(**QUICK), device=device, cancel=lambda: going.run.step == at)
    found = train(going)
    entry = found.history[-1]
    assert not entry.complete and entry.steps == at
    report = explorer.evaluate(found, found.recipe, device=device)
    assert report.metrics["accuracy"] == entry.after["accuracy"].value >= entry.damaged["accuracy"].value
    for name, mask in explorer.resolve(subject, RECIPE).masks.items():
        left = explorer.resolve(subject, RECIPE).layers[name].remaining(mask)
        assert torch.count_nonzero(found.weight(name)[~left.to(found.weight(name).device)]) == 0


@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_cancelled_before_its_first_step_it_ends_at_the_next_batch(at: int, device: str) -> None:
    subject, asked = small(device), []

    def cancel() -> bool:
        asked.append(0)
        return len(asked) > at

    going = Training(subject, RECIPE, Settings(**QUICK), device=device, cancel=cancel)
    ran: list[int] = []
    going.run.scorer.batch = 30  # of 60
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, _in, _out: ran.extend([0] * isinstance(module, Small))
    )
    try:
        with pytest.raises(Cancelled, match="before the first step; nothing was changed"):
            list(going.events())
    finally:
        hook.remove()
    assert len(ran) == at and going.run.step == 0


@pytest.mark.parametrize(("at", "passes"), [(59, 2), (60, 3)])  # of 60 samples to judge by
def test_what_little_was_learned_since_is_not_judged(at: int, passes: int, device: str) -> None:
    settings = Settings(batch=1, epochs=1)
    going = Training(small(device), RECIPE, settings, device=device, cancel=lambda: going.run.step == at)
    entry = train(going).history[-1]
    assert going.run.scorer.passes == passes and entry.after and not entry.complete


def test_regrow_shows_why_one_holds(device: str) -> None:
    subject, recipe = small(device), Recipe().prune("*", sparsity=0.6)
    held, grown = (
        finetune(subject, recipe, epochs=1, batch=16, lr=2e-2, device=device, regrow=regrow) for regrow in (False, True)
    )
    assert explorer.evaluate(held).sparsity == pytest.approx(0.6, abs=0.01)
    assert explorer.evaluate(grown).sparsity < 0.05


def test_patience_ends_it_and_the_best_epoch_is_kept(device: str) -> None:
    subject = small(device)
    found = finetune(subject, Recipe(), epochs=50, batch=16, lr=0.3, optimizer="sgd", clip=0, patience=2, device=device)
    curve = found.history[-1].curve
    assert len(curve) < 51 and not any(one.best for one in curve[-2:])
    assert max(one.figure.value for one in curve) == found.history[-1].after["accuracy"].value


@pytest.mark.parametrize("name", ["bikes-mlp", "moby-lstm", "fashion-vit", "surnames-gru"])
def test_every_kind_of_task_is_trained(name: str, device: str) -> None:
    subject = few(name, 24, device)
    recipe = Recipe().prune("*", sparsity=0.3)
    found = finetune(subject, recipe, epochs=2, batch=8, lr=1e-3, device=device)
    losses = [one.loss for one in found.history[-1].curve[1:]]
    assert losses[1] < losses[0]
    main = found.history[-1].metric
    assert main == explorer.evaluate(subject, device=device).main


def test_a_task_of_ones_own_and_inputs_of_several_parts(device: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return self.left(a), self.right(b)

    generator = torch.Generator().manual_seed(0)
    data = [
        ((torch.randn(3, generator=generator), torch.randn(4, generator=generator)), torch.ones(2)) for _ in range(20)
    ]
    task = Task(
        splits={"train": data, "validation": data}, lower_is_better=["error"],
        loss=lambda outputs, y: sum((one - y).square().mean() for one in outputs),
        score=lambda outputs, y: {"error": (outputs[0] - y).square().mean(1)},
    )  # fmt: skip
    found = finetune(
        Subject(Two().to(device), task, "two"),
        Recipe().prune("left", sparsity=0.5),
        epochs=4,
        batch=4,
        lr=0.05,
        device=device,
    )
    assert found.history[-1].after["error"].value < found.history[-1].damaged["error"].value


def test_learning_rates_follow_their_formulas(device: str) -> None:
    assert [Settings(lr_schedule="linear").factor(i, 4) for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [round(Settings(lr_schedule="cosine").factor(i, 4), 4) for i in range(5)] == [1.0, 0.8536, 0.5, 0.1464, 0.0]
    assert [Settings(lr_schedule="constant", warmup=0.5).factor(i, 8) for i in range(6)] == [
        0.25,
        0.5,
        0.75,
        1.0,
        1.0,
        1.0,
    ]
    steps: list[Any] = []
    finetune(
        small(device),
        Recipe(),
        epochs=2,
        batch=32,
        lr=0.01,
        lr_schedule="linear",
        log_every=1,
        device=device,
        events=steps.append,
    )
    rates = [one.lr for one in steps if isinstance(one, Step)]
    assert rates == pytest.approx([0.01 * (1 - i / 6) for i in range(6)])


def test_a_training_gives_its_subject_whenever_it_is_asked(device: str) -> None:
    training = Training(small(device), RECIPE, Settings(**QUICK), device=device)
    for event in training.events():
        if isinstance(event, Epoch) and event.epoch == 1:
            break
    found = training.subject()
    assert found is training.subject()
    assert explorer.evaluate(found).metrics["accuracy"] == found.history[-1].after["accuracy"].value
