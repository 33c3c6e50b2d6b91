"""Changes on the page Recover: what is within noise is neither better nor worse, and a gain is said only where there is one."""

from __future__ import annotations

import pytest

from explorer.core.recipe import Recipe
from explorer.core.report import Figure
from explorer.evaluate.paired import Paired
from explorer.recover.jobs import Jobs
from explorer.recover.orders import Order
from explorer.recover.settings import Settings
from explorer.recover.store import Store
from explorer.ui.panels.recover_compare import said
from explorer.ui.panels.scoreboard import style_of
from tests.recover.small import same_weights, small

RECIPE = Recipe().prune("*", sparsity=0.6)


def change(value: float, half: float | None) -> Figure:
    edges = (None, None) if half is None else (value - half, value + half)
    return Figure(value, "measured", "validation", 100, *edges)


@pytest.mark.parametrize(
    ("value", "half", "lower", "css"),
    [(-0.01, 0.02, False, ""), (-0.03, 0.02, False, "x-worse"), (0.03, 0.02, False, "x-better"), (0.03, 0.02, True, "x-worse"), (-0.03, None, True, "x-better"), (0.0, None, False, "")],
)  # fmt: skip
def test_a_change_within_noise_has_no_colour(value: float, half: float | None, lower: bool, css: str) -> None:
    assert style_of(change(value, half), lower) == css


@pytest.mark.parametrize(("value", "half", "gain"), [(0.03, 0.02, True), (0.03, 0.04, False), (-0.03, 0.02, False)])
def test_a_gain_is_said_only_where_it_is_none_of_chance(value: float, half: float, gain: bool) -> None:
    text = said(Paired({"accuracy": change(0.8, None)}, {"accuracy": change(0.8 + value, None)}, {"accuracy": change(value, half)}), False)
    assert ("a gain of +3.0 pt" in text) == gain == ("x-better" in text) and ("no gain" in text) != gain
    assert "with the teacher 83.0 %, without 80.0 %" in text or value < 0


def test_the_rival_is_the_same_training_without_a_teacher(device: str, tmp_path) -> None:
    subject, recipe = small(device), RECIPE
    how = {"settings": Settings(epochs=1, batch=32, samples=32, seed=3), "schedule": {"name": "gradual", "until": 0.5}, "device": device}
    taught = Order("distillation", subject, recipe, distil={"alpha": 0.5, "features": ["conv"], "beta": 2.0}, **how)  # type: ignore[arg-type]
    again = Order.from_dict(taught.to_dict(), subject)
    assert again.key == taught.key and again.plain().key == Order("fine-tuning", subject, recipe, **how).key != taught.key  # type: ignore[arg-type]
    made = Jobs(Store(tmp_path))
    job, rival, alone = (made.submit("a" * 32, one) for one in (taught, again.plain(), Order("fine-tuning", subject, recipe, **how)))  # type: ignore[arg-type]
    assert rival is alone is not job
    while not (job.over and rival.over):
        rival._stop.wait(0.01)
    assert job.result is not None and rival.result is not None, (job.error, rival.error)
    assert not same_weights(job.result.module, rival.result.module) and job.result.history[-1].settings["objective"]["features"] == {"conv": "conv"}


def test_augmentation_is_part_of_an_order(device: str) -> None:
    subject, recipe = small(device), RECIPE
    plain, varied = Order("fine-tuning", subject, recipe), Order("fine-tuning", subject, recipe, augment={"pixels": 1, "flip": False})
    assert Order.from_dict(varied.to_dict(), subject).key == varied.key != plain.key and plain.how()["augment"] is None
    told = varied.how()["augment"]
    assert (told.pixels, told.flip) == (1, False)
    old = plain.to_dict()
    del old["augment"]  # as it stands on disk from before there was any
    assert Order.from_dict(old, subject).key == plain.key
