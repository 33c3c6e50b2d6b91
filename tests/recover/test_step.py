"""What a step does beside moving weights: clipping, half precision, frozen statistics, and the look at the zeros."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from explorer.core.errors import VerificationError
from explorer.core.recipe import Recipe
from explorer.core.training import Epoch, Step
from explorer.evaluate.queue import queue_of
from explorer.models.subject import Subject
from explorer.recover import tensorboard
from explorer.recover.finetune import finetune
from explorer.recover.hold import Hold
from explorer.recover.loop import Training
from explorer.recover.optimizers import CLIP
from explorer.recover.settings import Settings
from tests.recover.small import QUICK, RECIPE, small


def norms_of(training: Training) -> list[float]:
    """The gradient's norm as the optimizer finds it in each step."""
    found: list[float] = []

    def look(*_: Any) -> None:
        gradients = [one.grad for one in training.run.module.parameters() if one.grad is not None]
        found.append(float(torch.stack([one.norm() for one in gradients]).norm()))

    training.run.optimizer.register_step_pre_hook(look)
    for _ in training.events():
        pass
    return found


def test_gradients_of_recurrent_models_are_clipped_and_others_are_not(device: str) -> None:
    steep = Settings(epochs=1, batch=16, lr=1e-4)
    subject = small(device)
    with torch.no_grad():
        subject.module.head.weight.mul_(50)
    free = norms_of(Training(subject, Recipe(), steep.but(clip=0), device=device))
    assert max(free) > 2 * CLIP
    for settings, most in ((steep, CLIP), (steep.but(clip=0.25), 0.25)):
        assert max(norms_of(Training(subject, Recipe(), settings, device=device))) == pytest.approx(most, rel=1e-3)
    plain = Subject(nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).to(device), subject.task, "plain")
    with torch.no_grad():
        plain.module[1].weight.mul_(50)
    assert max(norms_of(Training(plain, Recipe(), steep, device=device))) > 2 * CLIP


def test_half_precision_computes_in_halves_and_keeps_whole_weights(device: str) -> None:
    """The path of a GPU, which a CPU walks as well when it is told to."""
    full = finetune(small(device), RECIPE, **QUICK, device=device).history[-1]
    training = Training(small(device), RECIPE, Settings(**QUICK), device=device)
    training.stepper.half = torch.bfloat16
    seen: list[torch.dtype] = []
    training.run.module.head.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    for _ in training.events():
        pass
    assert torch.bfloat16 in seen and torch.float32 in seen  # trained in halves, judged in full
    found = training.subject()
    assert all(one.dtype == torch.float32 for one in found.module.parameters())
    losses = [[one.loss for one in entry.curve[1:]] for entry in (found.history[-1], full)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], abs=0.1)


def test_frozen_norms_keep_their_statistics(device: str) -> None:
    subject, recipe = small(device), Recipe().prune("rnn", sparsity=0.5)
    kept, moved = (
        finetune(subject, recipe, epochs=1, batch=16, norms=norms, device=device).module.bn.running_mean
        for norms in ("frozen", "train")
    )
    assert torch.equal(kept, subject.module.bn.running_mean) and not torch.equal(moved, kept)


def test_a_zero_that_does_not_stay_is_said_in_the_step_that_lost_it(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(
        small(device), Recipe().prune("head", sparsity=0.5), Settings(**QUICK, log_every=1), device=device
    )
    told: list[Any] = []
    after = Hold.after_step

    def forget(held: Hold) -> None:
        after(held)
        if training.run.step == 4:
            held.parameters["head.weight"].data.add_(1e-3)

    monkeypatch.setattr(Hold, "after_step", forget)
    with pytest.raises(VerificationError, match=r"head\.weight: 15 weights that are pruned are not zero"):
        for event in training.events():
            told.append(event)
    assert [one.step for one in told if isinstance(one, Step)] == [1, 2, 3]


def test_others_compute_between_two_steps(device: str) -> None:
    training = Training(small(device), RECIPE, Settings(**QUICK, log_every=1), device=device)
    queue = queue_of(training.run.device)
    answered = 0
    for event in training.events():
        if isinstance(event, Step):
            with queue.request("somebody", False) as mine, queue.turn(mine):  # would wait for ever if it were held
                answered += 1
    assert answered == 18 and queue.waiting == 0


def test_event_files_hold_the_curves(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, list[tuple[float, int]]] = {}

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *_: object) -> None:
            written["closed"] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.setdefault(name, []).append((value, step))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(tensorboard, "available", lambda: True)
    events: list[Any] = []
    with tensorboard.writer(tmp_path) as tell:
        finetune(
            small(device), RECIPE, **QUICK, log_every=2, device=device, events=lambda e: (events.append(e), tell(e))
        )
    steps = [one for one in events if isinstance(one, Step)]
    epochs = [one for one in events if isinstance(one, Epoch)]
    assert written["loss/step"] == [(one.loss, one.step) for one in steps] and len(steps) == 9
    assert written["sparsity"] == [(one.sparsity, one.step) for one in steps]
    assert written["learning rate"] == [(one.lr, one.step) for one in steps]
    assert written["validation/accuracy"] == [(one.figures["accuracy"].value, one.step) for one in epochs]
    assert written["loss/train"] == [(one.loss, one.step) for one in epochs[1:]] and "closed" in written
