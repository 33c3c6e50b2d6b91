from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from explorer.core.errors import SettingsError
from explorer.core.recipe import Recipe
from explorer.core.training import Step
from explorer.recover.run import Run
from explorer.recover.schedules import schedule_of
from explorer.recover.schedules.gradual import Gradual
from explorer.recover.schedules.movement import Movement
from tests.recover.schedules.nets import training, zeros


def test_sparsity_follows_the_cubic_formula_to_the_weight(device: str) -> None:
    schedule = Gradual(initial=0.1, since=0.25, until=0.75, pulses=4)  # steps 6, 9, 12, 15, 18 of 24
    work = training(schedule, Recipe().prune("*", sparsity=0.8), device=device)
    seen = {}
    for event in work.events():
        if isinstance(event, Step):
            seen[event.step] = {name: zeros(weight) for name, weight in work.run.weights.items()}
    for step, found in seen.items():
        j = max(min((step - 6) // 3, 4), -1)
        sparsity = 0.0 if j < 0 else 0.8 + (0.1 - 0.8) * (1 - j * 3 / (4 * 3)) ** 3
        for name, count in found.items():
            assert count == round(sparsity * work.run.weights[name].numel()), (step, name)


@pytest.mark.parametrize("criterion", ["l1", "random", "taylor"])
def test_what_is_pruned_stays_so_whatever_ranks(criterion: str, device: str) -> None:
    recipe = Recipe().prune("*", sparsity=0.7, scope="global", criterion=criterion)
    work = training(Gradual(until=0.8, pulses=6), recipe, device=device)
    before: dict[str, Any] = {}
    for event in work.events():
        if isinstance(event, Step):
            now = {name: weight.detach() == 0 for name, weight in work.run.weights.items()}
            assert all(bool((now[name] | ~gone).all()) for name, gone in before.items())
            before = now
    total = sum(one.numel() for one in before.values())
    assert sum(int(one.sum()) for one in before.values()) == round(0.7 * total)


@pytest.mark.parametrize("name", ["gradual", "movement"])
def test_a_threshold_asks_for_what_it_would_cut(name: str, device: str) -> None:
    recipe = Recipe().prune("fc.0", threshold=0.2).prune("fc.1", granularity="2x1", sparsity=0.5)
    work = training(name, recipe, device=device)
    expected = int((work.run.subject.weight("fc.0.weight").abs() <= 0.2).sum())
    for _ in work.events():
        pass
    found = work.subject()
    assert 0 < expected == zeros(found.weight("fc.0.weight"))
    blocks = torch.nn.functional.pad(found.weight("fc.1.weight"), (0, 0, 0, 1)).reshape(3, 2, 8).abs().sum(1)
    assert zeros(blocks) == 12  # whole blocks of two rows, half of all 24


def test_only_the_settled_model_is_kept_as_the_best(device: str) -> None:
    work = training(Gradual(until=0.7), Recipe().prune("*", sparsity=0.9), device=device)
    for _ in work.events():
        pass
    assert [one.settled for one in work.curve] == [False, False, False, True, True]
    assert not any(one.best for one in work.curve if not one.settled)
    assert work.run.best is not None


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Gradual(pulses=0), "pulses=0"),
        (lambda: Gradual(since=0.5, until=0.4), "until=0.4"),
        (lambda: Gradual(initial=1.5), "initial=1.5"),
        (lambda: Movement(every=0), "every=0"),
    ],
)
def test_settings_that_cannot_mean_anything(make: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        make()


@dataclass(frozen=True)
class Spy(Gradual):
    """Counts cuts."""

    def _cut(self, run: Run, due: int) -> None:
        run.memory["cuts"] = run.memory.get("cuts", 0) + 1
        super()._cut(run, due)


def test_each_pulse_ranks_once(device: str) -> None:
    work = training(Spy(pulses=5, until=0.9), Recipe().prune("*", sparsity=0.5), device=device)
    for _ in work.events():
        pass
    assert work.run.memory["cuts"] == 6  # at t_0 and five more
    assert schedule_of(Gradual()) == Gradual()
