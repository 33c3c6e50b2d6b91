from __future__ import annotations

import gc

import torch

from explorer.core.recipe import Recipe
from explorer.evaluate import prefixes as module
from explorer.evaluate.engine import Engine, engine
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.prefixes import Prefixes
from explorer.evaluate.queue import leave
from explorer.evaluate.tune import Tuning
from tests.contract.nets import MLP, tiny, tuned
from tests.evaluate.test_replay import columns


def kb(n: int, device: str) -> torch.Tensor:
    return torch.zeros(n * 256, device=device)


def test_the_least_recently_used_group_goes_first(device: str) -> None:
    kept = Prefixes(10_500)
    for name in "abc":
        assert kept.put(name, 0, kb(3, device))
    assert kept.get("a", 0) is not None  # a is fresher than b now
    assert kept.put("d", 0, kb(3, device))
    assert kept.has("a") and not kept.has("b") and kept.has("c") and kept.has("d")
    assert kept.used <= kept.budget


def test_what_does_not_fit_keeps_its_first_samples(device: str) -> None:
    kept = Prefixes(10_500)
    kept.put("old", 0, kb(3, device))
    found = [kept.put("big", i, kb(3, device)) for i in range(6)]
    assert found == [True, True, True, False, False, False] and not kept.has("old")
    assert kept.get("big", 0) is not None and kept.get("big", 5) is None


def test_views_of_the_data_cost_nothing_and_shared_storage_counts_once(device: str) -> None:
    kept, data = Prefixes(1 << 20), kb(50, device)
    kept.put("a", 0, (data[:10], data[10:]), module.storages(data))
    assert kept.used < 1000
    whole = kb(10, device)
    kept.put("b", 0, [whole[:5], {"x": whole[5:]}])
    assert 10 * 1024 <= kept.used < 11 * 1024 + 1000


def test_what_nobody_else_asked_for_goes_with_its_user(device: str) -> None:
    kept = Prefixes()
    kept.put("mine", 0, kb(1, device), user="me")
    kept.put("ours", 0, kb(1, device), user="me")
    kept.get("ours", 0, user="you")
    kept.leave("me")
    assert not kept.has("mine") and kept.has("ours")
    kept.leave("you")
    assert not kept.has("ours") and kept.used == 0


def test_an_engine_takes_its_values_along(device: str) -> None:
    gc.collect()
    before = module.prefixes_of(torch.device(device)).used
    run = Engine(tiny(MLP(), device=device, n=200), torch.device(device), Tuning(batch=16, rate=800))
    columns(run, Recipe().prune("fc.2", sparsity=0.3))
    assert module.prefixes_of(torch.device(device)).used > before
    token = run.token
    del run
    gc.collect()
    kept = module.prefixes_of(torch.device(device))
    assert not any(group[0] == token for group in kept._groups) and kept.used <= before  # type: ignore[index]


def test_a_budget_too_small_costs_time_and_nothing_else(device: str) -> None:
    shared = module.prefixes_of(torch.device(device))
    subject = tiny(MLP(), device=device, n=200)
    run, reference = (Engine(subject, torch.device(device), Tuning(batch=16, rate=800)) for _ in range(2))
    budget, shared.budget = shared.budget, 500
    try:
        for sparsity in (0.2, 0.4):
            columns(run, Recipe().prune("fc.2", sparsity=sparsity))
        assert shared.used <= 500
    finally:
        shared.budget = budget
    found, expected = (columns(one, Recipe().prune("fc.2", sparsity=0.4)) for one in (run, reference))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_two_users_on_one_recipe_cost_one_evaluation_and_a_closed_tab_frees_its_values(device: str) -> None:
    subject = tuned(tiny(MLP(), device=device, n=300))
    run = engine(subject, torch.device(device))
    evaluate(subject, device=device, user="a")
    recipe = Recipe().prune("fc.2", sparsity=0.5)
    first = evaluate(subject, recipe, device=device, user="a")
    seen = run.samples
    again = evaluate(subject, recipe, device=device, user="b")
    assert run.samples == seen and run.joined >= 1 and again.metrics == first.metrics
    assert first.machine["samples"] == 300 and again.machine["samples"] == 0
    held = [group for group in module.prefixes_of(torch.device(device))._groups if group[0] == run.token]  # type: ignore[index]
    assert held
    leave("a")
    assert not [group for group in module.prefixes_of(torch.device(device))._groups if group[0] == run.token]  # type: ignore[index]
