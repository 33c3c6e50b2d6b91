"""A training that was broken off anywhere goes on from its file, and ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.core.errors import TrainingError
from explorer.core.recipe import Recipe
from explorer.core.training import Epoch, Step
from explorer.models.subject import Subject
from explorer.recover.checkpoint import stand
from explorer.recover.finetune import finetune, train
from explorer.recover.loop import Training
from explorer.recover.settings import Settings
from tests.recover.small import RECIPE, same_weights, small

SETTINGS = Settings(epochs=3, batch=16, lr=2e-2, checkpoint_seconds=0.0, log_every=1)
RECIPES = {
    "units and levels": RECIPE,
    "codebook": Recipe().prune("*", sparsity=0.5).quantize("*", bits=3, quantizer="kmeans-linear"),
    "searched ranges": Recipe().prune("*", sparsity=0.3).quantize("*", bits=3, quantizer="mse", granularity="channel"),
}


def begin(file: Path, recipe: Recipe, settings: Settings = SETTINGS) -> Training:
    return Training(small(), recipe, settings, device="cpu", checkpoint=file)


@pytest.mark.parametrize("name", [*RECIPES])
@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow), 6, 8])
def test_a_training_that_stops_anywhere_goes_on_as_if_it_had_not(name: str, at: int, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    whole = finetune(small(), recipe, SETTINGS, device="cpu")
    file = tmp_path / "checkpoint.pt"
    for event in begin(file, recipe).events():
        if isinstance(event, Step) and event.step > at:
            break  # as a crash: nothing is done any more
    torch.randn(5)  # whatever else draws random numbers
    told: list[Any] = []
    again = train(begin(file, recipe), events=told.append)
    assert [one.step for one in told if isinstance(one, Step)] == list(range(at + 1, 19))
    assert same_weights(whole.module, again.module)
    mine, other = whole.history[-1], again.history[-1]
    assert (mine.after, mine.before, mine.damaged, mine.steps) == (
        other.after,
        other.before,
        other.damaged,
        other.steps,
    )
    assert [one.loss for one in mine.curve] == [one.loss for one in other.curve]
    assert [one.figures for one in mine.curve] == [one.figures for one in other.curve]
    assert not file.exists()


def test_a_file_that_is_not_this_trainings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    for event in begin(file, RECIPE).events():
        if isinstance(event, Step) and event.step > 2:
            break
    for other in (
        begin(file, Recipe()),
        begin(file, RECIPE, SETTINGS.but(lr=1.0)),
        begin(file, RECIPE, SETTINGS.but(seed=5)),
    ):
        with pytest.raises(TrainingError, match="another subject, recipe or settings"):
            next(other.events())
    written = file.read_bytes()
    for bad in (b"", b"nothing", written[: len(written) // 2]):
        file.write_bytes(bad)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt: no checkpoint of a training .*delete it"):
            next(begin(file, RECIPE).events())
    other = small()
    with torch.no_grad():
        other.module.head.bias += 1
    file.write_bytes(written)
    with pytest.raises(TrainingError, match="another subject"):
        next(Training(Subject(other.module, other.task, "x"), RECIPE, SETTINGS, device="cpu", checkpoint=file).events())


def test_a_file_says_how_far_its_training_was(tmp_path: Path) -> None:
    file, seen = tmp_path / "checkpoint.pt", []
    assert stand(file) is None
    for event in begin(file, RECIPE).events():
        seen.append(event)
        if isinstance(event, Step) and event.step == 9:
            break
    found = stand(file)
    assert found is not None and (found.epoch, found.epochs, found.step, found.steps) == (2, 3, 8, 18)
    assert [one.figures for one in found.curve] == [one.figures for one in seen if isinstance(one, Epoch)] and found.curve[-1].epoch == 1
    file.write_bytes(file.read_bytes()[:500])
    assert stand(file) is None


def test_what_goes_on_without_steps_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    training = Training(small(), RECIPE, SETTINGS, device="cpu", doing=lambda *one: told.append(one))
    total, steps = training.run.scorer.data.total, []
    for event in training.events():
        if isinstance(event, Step):
            steps.append(len(told))
    whats = list(dict.fromkeys(what for what, _, _ in told))
    before = ["evaluating the original", "evaluating the damaged model", "preparing the schedule", "taking the first steps"]
    assert whats == [*before, "evaluating epoch 1", "evaluating epoch 2", "evaluating epoch 3"]
    for what in (*before[:2], *whats[4:]):
        assert (what, 0, 0) in told and (what, total, total) in told
    assert steps[0] == steps[5] and told[steps[0] - 1] == ("taking the first steps", 0, 0)  # nothing between the steps of an epoch


def test_a_cancelled_training_keeps_its_file_and_can_go_on(tmp_path: Path) -> None:
    file, asked, whole = tmp_path / "checkpoint.pt", [], finetune(small(), RECIPE, SETTINGS, device="cpu")
    training = Training(
        small(), RECIPE, SETTINGS, device="cpu", checkpoint=file, cancel=lambda: asked.append(0) or len(asked) > 10
    )
    part = train(training)
    assert 0 < part.history[-1].steps < whole.history[-1].steps and file.exists()
    assert same_weights(train(begin(file, RECIPE)).module, whole.module)
