"""Error-based pruning: what is measured is what removal really costs, greedy in the order that it says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.data import TensorDataset

import explorer
from explorer.compress.apply import compress
from explorer.core.errors import ExplorerError, RecipeError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.studies.error_based import ErrorPruning, Terms, prune_by_error, prune_by_error_steps
from tests.contract.nets import MLP, few, state, tiny, unchanged

N = 400


def learnt(device: str, spare: int = 4) -> Subject:
    """An MLP that is its own teacher, with ``spare`` hidden units that do nothing."""
    torch.manual_seed(3)
    module = MLP((6, 10, 3))
    with torch.no_grad():
        module.fc[1].weight[:, :spare] *= 1e-3
    x = torch.randn(N, 6)
    data = TensorDataset(x, module(x).argmax(1).detach())
    return Subject(module.to(device), explorer.Task.classification(train=data, validation=data), "learnt")


def accuracy(subject: Subject, module: torch.nn.Module) -> float:
    """Of the train split, by the plain module."""
    x, y = subject.task.batch("train", range(N))
    with torch.no_grad():
        return float((module(x.to(next(module.parameters()).device)).argmax(1).cpu() == y).float().mean())


def removed(subject: Subject, units: list[int]) -> torch.nn.Module:
    """Cut by hand out of a copy: rows of the first layer, columns of the second."""
    module = copy.deepcopy(subject.module)
    stays = [u for u in range(10) if u not in units]
    with torch.no_grad():
        module.fc[0].weight = torch.nn.Parameter(module.fc[0].weight[stays])
        module.fc[0].bias = torch.nn.Parameter(module.fc[0].bias[stays])
        module.fc[1].weight = torch.nn.Parameter(module.fc[1].weight[:, stays])
    return module


def test_every_cost_is_that_of_really_removing_the_unit(device: str) -> None:
    subject = learnt(device)
    before_all = state(subject.module)
    found = prune_by_error(subject, allowance=0.02, total=0.1, device=device)
    assert found.complete and found.n == N and {0, 1, 2, 3} <= set(found.removed["fc.0"])
    gone: list[int] = []
    whole = accuracy(subject, subject.module)
    for trial in found.trace:
        before, after = (accuracy(subject, removed(subject, units)) for units in (gone, [*gone, trial.unit]))
        assert trial.cost == pytest.approx(before - after, abs=1e-6) and trial.total == pytest.approx(
            whole - after, abs=1e-6
        )
        assert trial.low <= trial.cost <= trial.high
        assert trial.removed == (trial.cost < 0.02 and trial.total <= 0.1) and trial.reason.startswith(
            "goes" if trial.removed else "stays"
        )
        gone += [trial.unit] if trial.removed else []
    smaller = compress(subject, found.recipe)
    assert smaller.fc[0].weight.shape == (10 - len(gone), 6) and found.kept == {"fc.0": 10 - len(gone)}
    assert accuracy(subject, smaller) == pytest.approx(whole - found.total, abs=1e-6)
    assert unchanged(subject.module, before_all)


def test_the_cheapest_of_all_is_tried_first_and_what_is_left_is_dear(device: str) -> None:
    subject = learnt(device)
    found = prune_by_error(subject, allowance=0.01, total=1.0, device=device)
    first = found.trace[0]
    alone = {
        unit: accuracy(subject, subject.module) - accuracy(subject, removed(subject, [unit])) for unit in range(10)
    }
    assert alone[first.unit] == pytest.approx(min(alone.values()), abs=1e-6)
    gone = list(found.removed["fc.0"])
    now = accuracy(subject, removed(subject, gone))
    left = [unit for unit in range(10) if unit not in gone]
    assert len(left) == 1 or all(
        now - accuracy(subject, removed(subject, [*gone, unit])) >= 0.01 - 1e-6 for unit in left
    )


def test_one_unit_of_a_group_always_stays(device: str) -> None:
    found = prune_by_error(tiny(MLP((6, 4, 3)), n=40, device=device), allowance=2.0, total=2.0, device=device)
    assert found.kept == {"fc.0": 1} and found.complete


def test_a_cancelled_search_returns_the_best_so_far(device: str) -> None:
    subject = learnt(device)
    whole = prune_by_error(subject, allowance=0.02, total=0.1, device=device)
    fresh, told = learnt(device), []
    stop = lambda: len(told) > 3  # noqa: E731
    found = prune_by_error(
        fresh,
        allowance=0.02,
        total=0.1,
        cancel=stop,
        progress=lambda done, total: told.append((done, total)),
        device=device,
    )
    assert (
        not found.complete
        and 0 < len(found.trace) < len(whole.trace)
        and found.trace == whole.trace[: len(found.trace)]
    )
    assert told[0] == (0, 10) and told[-1][0] == len(found.removed["fc.0"])
    assert compress(fresh, found.recipe).fc[0].weight.shape[0] == found.kept["fc.0"]


def test_steps_only_grow_and_the_recipe_survives_a_file(device: str) -> None:
    subject = learnt(device)
    scored: list[tuple[int, int]] = []
    states = list(prune_by_error_steps(subject, None, Terms(0.02), device=device, progress=lambda *at: scored.append(at)))
    for before, after in zip(states, states[1:], strict=False):
        assert after.trace[: len(before.trace)] == before.trace
    last: ErrorPruning = states[-1]
    assert [one.complete for one in states] == [False] * (len(states) - 1) + [True]
    assert Recipe.from_json(last.recipe.to_json()) == last.recipe and len(last.table()) == len(last.trace)
    assert last.evaluated >= N * len(last.trace)
    assert scored[0] == (10, 10) and all(0 < done <= total for done, total in scored)  # the first round leaves out each of ten


def test_a_layer_that_is_protected_and_a_recipe_of_other_things(device: str) -> None:
    subject = few("vowels-rnn", device=device)
    groups = [group.name for group in subject.groups]
    base = Recipe().quantize("*", bits=4).keep(subject.groups[0].producers[0])
    found = prune_by_error(subject, base, allowance=0.01, device=device)
    assert groups[0] not in found.kept and set(base.rules) <= set(found.recipe.rules)


def test_bad_input(device: str) -> None:
    subject = learnt(device)
    for wrong, said in (
        (dict(allowance=-1), "allowance=-1"), (dict(total="all"), "total='all'"), (dict(samples=0), "samples=0"), (dict(targets="fc.7"), "fc.7"),
        (dict(split="nowhere"), "nowhere"), (dict(recipe=Recipe().keep("*")), "no group of units"),
        (dict(recipe=Recipe().prune("fc.0", sparsity=0.5, granularity="unit")), "removes units of it already"),
    ):  # fmt: skip
        with pytest.raises(ExplorerError, match=said):
            prune_by_error(subject, device=device, **wrong)  # type: ignore[arg-type]


def test_units_may_be_named_one_by_one(device: str) -> None:
    subject = tiny(MLP((6, 8, 3)), device=device)
    recipe = Recipe().prune("fc.0", granularity="unit", units=[5, 2, 5])
    assert recipe.rules[0].units == (2, 5) and Recipe.from_json(recipe.to_json()) == recipe  # type: ignore[union-attr]
    assert explorer.resolve(subject, recipe).kept["fc.0"].tolist() == [0, 1, 3, 4, 6, 7]
    soft = Recipe().prune("fc.0", granularity="unit", units=[1], mode="scale", factor=0.0)
    assert (
        explorer.evaluate(subject, soft, device=device).metrics
        == explorer.evaluate(subject, Recipe().prune("fc.0", granularity="unit", units=[1]), device=device).metrics
    )
    for wrong, said in (
        (dict(units=[]), "one index or more"), (dict(units=[-1]), "one index or more"), (dict(units=[True]), "one index or more"),
        (dict(units=[8]), "indices of fc.0, 0 to 7"), (dict(units=range(8)), "one at least stays|one index or more"),
        (dict(units=[1], sparsity=0.5), "fixes the cut"), (dict(units=[1], granularity="weight"), "fixes the cut"), (dict(units=[1], multiple=4), "fixes the cut"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            explorer.resolve(subject, Recipe().prune("fc.0", **{"granularity": "unit", **wrong}))  # type: ignore[arg-type]
