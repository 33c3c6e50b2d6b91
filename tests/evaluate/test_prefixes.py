from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from explorer.core.recipe import Recipe
from explorer.evaluate import column_major
from explorer.evaluate import engine as engines
from explorer.evaluate import prefixes as module
from explorer.evaluate.engine import Engine, engine
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.prefixes import Prefixes
from explorer.evaluate.queue import leave
from explorer.evaluate.tune import Tuning
from tests.contract.nets import MLP, tiny, tuned
from tests.evaluate.test_replay import columns

FIRST = (0, 32)  # of a group's samples


def kb(n: int, device: str) -> torch.Tensor:
    return torch.zeros(n * 256, device=device)


def test_the_least_recently_used_group_goes_first(device: str) -> None:
    kept = Prefixes(10_500)
    for name in "abc":
        assert kept.put(name, FIRST, kb(3, device))
    assert kept.get("a", FIRST) is not None  # a is fresher than b now
    assert kept.put("d", FIRST, kb(3, device))
    assert kept.extent("a") and not kept.extent("b") and kept.extent("c") and kept.extent("d")
    assert kept.used <= kept.budget


def test_what_does_not_fit_keeps_its_first_samples(device: str) -> None:
    kept = Prefixes(10_500)
    kept.put("old", FIRST, kb(3, device))
    found = [kept.put("big", (i, i + 1), kb(3, device)) for i in range(6)]
    assert found == [True, True, True, False, False, False] and not kept.extent("old")
    assert kept.get("big", (0, 1)) is not None and kept.get("big", (5, 6)) is None and kept.extent("big") == 3


def test_views_of_the_data_cost_nothing_and_shared_storage_counts_once(device: str) -> None:
    kept, data = Prefixes(1 << 20), kb(50, device)
    kept.put("a", FIRST, (data[:10], data[10:]), module.storages(data))
    assert kept.used < 1000
    whole = kb(10, device)
    kept.put("b", FIRST, [whole[:5], {"x": whole[5:]}])
    assert 10 * 1024 <= kept.used < 11 * 1024 + 1000


def test_what_nobody_else_asked_for_goes_with_its_user(device: str) -> None:
    kept = Prefixes()
    kept.put("mine", FIRST, kb(1, device), user="me")
    kept.put("ours", FIRST, kb(1, device), user="me")
    kept.get("ours", FIRST, user="you")
    kept.leave("me")
    assert not kept.extent("mine") and kept.extent("ours")
    kept.leave("you")
    assert not kept.extent("ours") and kept.used == 0


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


def test_several_looks_at_kept_values_are_one_chunk_with_the_same_bits(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = tiny(MLP(), device=device, n=200)
    run, reference = (Engine(subject, torch.device(device), Tuning(batch=16, rate=800)) for _ in range(2))
    looks = len(run.data("validation").looks)
    assert looks > 2
    chunks, found = [], []
    for one, moment in ((run, 1e9), (reference, 0.0)):
        monkeypatch.setattr(engines, "MOMENT", moment)
        for sparsity in (0.2, 0.4, 0.6):
            before = one.chunks
            found.append(columns(one, Recipe().prune("fc.2", sparsity=sparsity)))
            chunks.append(one.chunks - before)
    assert chunks == [
        looks,
        2,
        1,
        looks,
        looks,
        looks,
    ]  # the first keeps the values in front, the second learns the pace
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found[:3], found[3:], strict=True) for key in a)


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


class Wide(nn.Module):
    """Values of 8 kB a sample in front of its last layer. asks: whether nothing can trace it."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.first, self.second, self.last, self.asks = nn.Linear(6, 8), nn.Linear(8, 2048), nn.Linear(2048, 3), asks

    def forward(self, x: Tensor) -> Tensor:
        if self.asks and float(x.sum()) > 1e9:
            return self.last(self.second(self.first(x)))
        return self.last(self.second(self.first(x)))


@pytest.mark.parametrize(("asks", "tier"), [(False, "graph"), (True, "order of calls")])
def test_values_that_are_too_many_to_be_kept_are_not_held_either(
    asks: bool, tier: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_major, "FEW", 1)  # else no module is called
    subject, alive, most = tiny(Wide(asks), device=device, n=200), [], []
    run = Engine(subject, torch.device(device), Tuning(batch=16, rate=3000))

    def watch(_: nn.Module, __: object, out: Tensor) -> None:
        alive.append(weakref.ref(out))
        most.append(sum(one() is not None for one in alive))

    columns(run, Recipe().prune("last", sparsity=0.3))
    assert run.runner.tier == tier
    run.replica.module.second.register_forward_hook(watch)  # type: ignore[union-attr, operator]
    held, found = [], []
    for room in (1 << 20, 40_000):
        run.prefixes.drop(run.token)
        run.runner.room, used = room, run.prefixes.used
        found.append(columns(run, Recipe().prune("last", sparsity=0.5 + room / (1 << 23))))
        held.append((max(most), run.prefixes.used > used))
        alive.clear()
        most.clear()
    assert held[0][0] >= 4 and held[0][1] and held[1][0] <= 2 and not held[1][1]
    expected = columns(
        Engine(subject, torch.device(device), Tuning(batch=16, rate=3000)),
        Recipe().prune("last", sparsity=0.5 + 40_000 / (1 << 23)),
    )
    assert all(torch.equal(found[1][key], expected[key]) for key in expected)
