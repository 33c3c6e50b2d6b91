from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import explorer
from explorer.core.errors import SettingsError
from explorer.core.recipe import Recipe
from explorer.recover.loop import Training
from explorer.recover.schedules.penalty import Penalty
from tests.recover.schedules.nets import subject, training


def begun(norm: str, recipe: Recipe, kind: str, device: str, **more: Any) -> Training:
    work = training(Penalty(norm, strength=0.5, **more), recipe, kind, device)
    work.schedule.begin(work.run)
    return work


def value(work: Training) -> float:
    found = work.schedule.penalty(work.run)
    assert isinstance(found, Tensor)
    return float(found.detach())


def test_l1_and_l2_equal_the_formula(device: str) -> None:
    recipe = Recipe().prune(["fc.0", "fc.1"], sparsity=0.5)
    weights = [subject().weight(f"fc.{i}.weight").double() for i in (0, 1)]
    l1 = 0.5 * sum(float(one.abs().sum()) for one in weights)
    l2 = 0.25 * sum(float(one.square().sum()) for one in weights)
    assert value(begun("l1", recipe, "mlp", device)) == pytest.approx(l1, rel=1e-5)
    assert value(begun("l2", recipe, "mlp", device)) == pytest.approx(l2, rel=1e-5)


def test_group_lasso_of_filters_equals_the_formula(device: str) -> None:
    work = begun("group", Recipe().prune("conv1", granularity="unit", sparsity=0.5), "cnn", device)
    first, second = (work.run.subject.weight(f"conv{i}.weight").double().cpu() for i in (1, 2))
    expected = 0.0
    for unit in range(6):
        mine = torch.cat([first[unit].reshape(-1), second[:, unit].reshape(-1)])
        expected += 0.5 * len(mine) ** 0.5 * float(mine.norm())
    assert value(work) == pytest.approx(expected, rel=1e-5)


def test_a_hidden_unit_of_an_lstm_is_its_intrinsic_sparse_structure(device: str) -> None:
    """Wen et al. 2018, figure 2: rows of all gates, one column of the recurrent matrix, one of what reads it."""
    work = begun("group", Recipe().prune("rnn", granularity="unit", sparsity=0.5), "lstm", device)
    ih, hh, head = (
        work.run.subject.weight(name).double().cpu() for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "head.weight")
    )
    expected = 0.0
    for unit in range(8):
        rows = [unit + 8 * gate for gate in range(4)]
        recurrent = torch.zeros(32, 8, dtype=torch.bool)
        recurrent[rows], recurrent[:, unit] = True, True
        mine = torch.cat([ih[rows].reshape(-1), hh[recurrent], head[:, unit]])
        expected += 0.5 * len(mine) ** 0.5 * float(mine.norm())
    assert value(work) == pytest.approx(expected, rel=1e-5)


def test_it_draws_whole_units_towards_zero_and_the_rest_is_trained_without_it(device: str) -> None:
    recipe = Recipe().prune("rnn", granularity="unit", sparsity=0.5)

    def spread(schedule: Any) -> tuple[Training, float]:
        work = training(schedule, recipe, "lstm", device, epochs=8, optimizer="adam", lr=0.02)
        worst = 1.0
        for _ in work.events():
            weights = work.run.weights
            if len(weights["rnn.weight_hh_l0"]) == 32:  # before units go
                hh = weights["rnn.weight_hh_l0"].detach()
                norms = hh.reshape(4, 8, 8).square().sum((0, 2)).sqrt()
                worst = min(worst, float(norms.min() / norms.max()))
        return work, worst

    drawn, weakest = spread(Penalty("group", strength=0.01, until=0.75))
    _, alone = spread(Penalty("group", strength=0.0, until=0.75))
    assert weakest < 0.5 * alone
    found = drawn.subject()
    assert found.module.rnn.hidden_size == 4
    assert [one.settled for one in drawn.curve] == [False] * 6 + [True] * 3
    assert drawn.schedule.penalty(drawn.run) is None


def test_what_it_cannot_do_is_said_before(device: str) -> None:
    with pytest.raises(SettingsError, match="norm='l0'"):
        Penalty("l0")
    linear = explorer.Subject(torch.nn.Linear(6, 3).to(device), subject().task)
    with pytest.raises(SettingsError, match="no group of units"):
        next(Training(linear, Recipe(), schedule=Penalty("group"), device=device).events())
