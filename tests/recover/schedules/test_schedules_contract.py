"""What every schedule keeps to, on every kind of small model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import explorer
from explorer.core.errors import Cancelled, SettingsError
from explorer.core.recipe import Recipe
from explorer.core.training import Step
from explorer.recover.finetune import train
from explorer.recover.loop import Training
from explorer.recover.schedules import registry, schedule_of
from explorer.recover.settings import Settings
from tests.recover.schedules.nets import NETS, subject, training
from tests.recover.small import same_weights

EVERYTHING = Recipe().prune("*", sparsity=0.4).prune("*", granularity="unit", sparsity=0.25)
RECIPES = {"cnn": EVERYTHING.keep("head"), "mlp": EVERYTHING.keep("fc.2"), "lstm": EVERYTHING.keep("head")}
CASES = [(name, kind) for name in registry for kind in NETS]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_reaches_what_was_asked_and_the_parent_stays(name: str, kind: str, device: str) -> None:
    work = training(name, RECIPES[kind], kind, device)
    parent = work.run.subject
    digest = parent.digest
    found = train(work)
    assert parent.digest == digest and found.parent is parent and found.history[-1].complete
    assert found.history[-1].settings["schedule"]["name"] == name
    plan = explorer.resolve(parent, RECIPES[kind])
    for group, kept in plan.kept.items():
        units = next(one.units for one in found.groups if one.name == group)
        if name == "error-based":  # it takes no more than it may
            assert len(kept) <= units <= len(kept) + round(0.25 * units / 0.75) + 1
        else:
            assert units == len(kept)
    masks = {one: plan.layers[one].remaining(mask) for one, mask in plan.masks.items()}
    for layer, mask in masks.items():
        weight = found.weight(layer)
        if name not in ("error-based", "soft-filter"):  # whose units go after the weights
            assert weight.shape == mask.shape
            assert int((weight == 0).sum()) == int((~mask).sum())
        else:
            assert abs(float((weight == 0).float().mean()) - float((~mask).float().mean())) < 0.2
    report = explorer.evaluate(found, found.recipe, device=device)
    assert report.metrics["accuracy"] == found.history[-1].after["accuracy"].value


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_cancelled_anywhere_it_leaves_a_subject_that_works(name: str, kind: str, device: str) -> None:
    for at in (1, 8, 22):
        asked = iter(range(1000))
        work = training(name, RECIPES[kind], kind, device, cancel=lambda at=at, asked=asked: next(asked) >= at)  # type: ignore[misc]
        try:
            found = train(work)
        except Cancelled:
            assert not work.run.step  # there is nothing to keep
            continue
        assert not found.history[-1].complete
        metrics = explorer.evaluate(found, found.recipe, device=device).metrics
        assert metrics["accuracy"] == found.history[-1].after["accuracy"].value
        assert all(bool(torch.isfinite(one).all()) for one in found.module.parameters())


@pytest.mark.parametrize("name", list(registry))
def test_the_same_seed_gives_the_same_model_also_after_a_crash(name: str, tmp_path: Path) -> None:
    settings = Settings(epochs=3, batch=8, optimizer="adam", seed=3, log_every=1, checkpoint_seconds=0.0)
    whole = train(Training(subject("cnn"), RECIPES["cnn"], settings, schedule=name, device="cpu"))
    file = tmp_path / "checkpoint.pt"
    for event in Training(
        subject("cnn"), RECIPES["cnn"], settings, schedule=name, device="cpu", checkpoint=file
    ).events():
        if isinstance(event, Step) and event.step > 14:
            break
    torch.randn(7)
    again = train(Training(subject("cnn"), RECIPES["cnn"], settings, schedule=name, device="cpu", checkpoint=file))
    assert same_weights(whole.module, again.module)
    assert whole.history[-1].after == again.history[-1].after


@pytest.mark.parametrize("name", list(registry))
def test_its_settings_are_plain_values_and_its_help_names_a_source(name: str) -> None:
    told = schedule_of(name).to_dict()
    assert told.pop("name") == name
    assert all(value is None or isinstance(value, (int, float, str, bool)) for value in told.values())
    assert "Source" in registry.help(name) and registry[name].title
    assert schedule_of({"name": name, **told}) == schedule_of(name)
    with pytest.raises(SettingsError, match="no setting 'speed'"):
        schedule_of({"name": name, "speed": 3})


def test_without_a_step_the_whole_recipe_is_cut_all_the_same(device: str) -> None:
    for name in ("gradual", "movement", "penalty", "soft-filter"):
        found = train(training(name, RECIPES["cnn"], "cnn", device, epochs=0))
        weight = found.weight("conv2.weight")
        assert weight.shape == (6, 4, 3, 3)
        assert (
            int((weight == 0).sum()) == (0 if name == "soft-filter" else round(0.4 * weight.numel()))
            or name == "soft-filter"
        )
