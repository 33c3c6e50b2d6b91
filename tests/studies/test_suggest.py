"""Suggestions meet their goal on the model itself, and say why."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import Cancelled, RecipeError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.studies.curves import Step, first, hull, path, worst
from explorer.studies.sensitivity import sensitivity
from explorer.studies.suggest import _decide, suggest
from tests.contract.nets import few, sample

CURVE = st.lists(st.tuples(st.floats(1, 1000), st.floats(-0.2, 1)), max_size=9).map(
    lambda pairs: [Step(None), *(Step(i / 10, drop, saved=saved) for i, (saved, drop) in enumerate(pairs, 1))]
)


@given(CURVE)
def test_a_hull_is_convex_and_lies_under_its_curve(steps: list[Step]) -> None:
    found = hull(steps)
    assert found[0].point is None and len({step.saved for step in found}) == len(found)
    moves = path({"a": steps})
    prices = [move.price for move in moves]
    assert prices == sorted(prices) and [move.step for move in moves] == found[1:]
    heights = list(itertools.accumulate([0.0, *(max(0, s.drop) for s in found[1:])], max))
    for step in steps[1:]:
        if step.saved <= found[-1].saved:
            j = next(j for j, s in enumerate(found) if s.saved >= step.saved)
            a, b = found[max(j - 1, 0)], found[j]
            t = (step.saved - a.saved) / (b.saved - a.saved) if b is not a else 0
            line = heights[max(j - 1, 0)] * (1 - t) + heights[j] * t
            rest = [s.drop for s in steps if s.saved <= step.saved]
            assert line <= max(0, *rest, step.drop) + 1e-9 if rest else True


@given(st.lists(CURVE, min_size=1, max_size=3), st.floats(0, 1))
def test_every_prefix_of_the_path_is_optimal_where_drops_add_up(curves: list[list[Step]], share: float) -> None:
    """Against all combinations: no choice of steps saves as much for less."""
    named = {str(i): hull(steps) for i, steps in enumerate(curves)}
    moves = path(dict(zip(named, curves, strict=True)))
    k = round(share * len(moves))
    chosen = {move.target: move.step for move in moves[:k]}
    mono = {}  # a step costs no less than any that saves less; of those that save as much, the cheapest counts
    for name, steps in zip(named, curves, strict=True):
        least = {saved: min(s.drop for s in steps if s.saved == saved) for saved in sorted({s.saved for s in steps})}
        heights = dict(zip(least, itertools.accumulate([max(0.0, drop) for drop in least.values()], max), strict=True))
        mono[name] = {step: heights[step.saved] for step in named[name]}
    saved, cost = sum(s.saved for s in chosen.values()), sum(mono[name][s] for name, s in chosen.items())
    for others in itertools.product(*([(name, s) for s in steps] for name, steps in named.items())):
        if sum(s.saved for _, s in others) >= saved:
            assert sum(mono[name][s] for name, s in others) >= cost - 1e-9


@given(st.integers(0, 60), st.integers(0, 70))
def test_bisection_finds_the_first(count: int, edge: int) -> None:
    asked: list[int] = []
    assert first(count, lambda k: (asked.append(k), k >= edge)[1]) == (edge if edge <= count else None)
    assert len(asked) <= count.bit_length() + 2


def test_drops_below_zero_do_not_pay_for_others() -> None:
    assert worst([-0.5, 0.25, 0.25]) == 0.5


@pytest.mark.parametrize("settings", [{}, {"granularity": "unit"}, {"by": "bits"}], ids=["weights", "units", "bits"])
@pytest.mark.parametrize("name", ["vowels-rnn", "bikes-mlp"])
def test_the_goal_is_met_by_the_model_itself(name: str, settings: dict[str, str], device: str) -> None:
    subject = sample(name, device)
    table = sensitivity(subject, device=device, **settings)  # type: ignore[arg-type]
    before = evaluate(subject, device=device)
    for goal in ({"size": 0.6 * before.bytes}, {"drop": 0.03}, {"drop": 0}, {"sparsity": 0.4}):
        if settings.get("by") == "bits" and "sparsity" in goal:
            with pytest.raises(RecipeError, match="make no zeros"):
                suggest(subject, table, device=device, **goal)
            continue
        found = suggest(subject, table, device=device, **goal)
        report = evaluate(subject, found.recipe, device=device)
        drop = before.metrics[before.main] - report.metrics[report.main]
        assert found.measured == pytest.approx(drop) and found.report.plan == report.plan
        if "size" in goal:
            assert report.bytes <= goal["size"]
        elif "drop" in goal:
            assert drop <= goal["drop"]
        else:
            assert report.sparsity >= goal["sparsity"]
        curves = set(table.group.where(table.group != "", table.layer))
        assert {decision.target for decision in found.decisions} == curves == set(found.reasons)
        assert all(found.reasons.values()) and len(found.table()) == len(curves)
        changed = {decision.target for decision in found.decisions if decision.point is not None}
        assert len(found.recipe.rules) == len(changed)
        assert found.predicted >= 0


def test_one_move_fewer_would_miss_a_size(device: str) -> None:
    subject = sample("vowels-rnn", device)
    table = sensitivity(subject, device=device)
    size = 0.7 * evaluate(subject, device=device).bytes
    found = suggest(subject, table, size=size, device=device)
    last = max((d for d in found.decisions if d.point is not None), key=lambda d: d.price)
    lower = table[(table.layer == last.target) & (table.sparsity < last.point)].sparsity.max()
    shallower = found.recipe.clear(last.target, kind="prune")
    if lower == lower:
        shallower = shallower.prune(last.target, sparsity=lower)
    assert (
        found.report.bytes
        <= size
        < evaluate(subject, found.recipe.clear(last.target, kind="prune"), device=device).bytes
    )
    assert evaluate(subject, shallower, device=device).bytes > found.report.bytes


def test_a_suggestion_keeps_what_the_recipe_did_before(device: str) -> None:
    subject = few("fashion-lenet5", device=device)
    base = Recipe().quantize("fc2.weight", bits=4).keep("conv1.weight")
    table = sensitivity(subject, base, sparsities=(0.3, 0.6), device=device)
    found = suggest(subject, table, sparsity=0.5, device=device)
    assert set(base.rules) <= set(found.recipe.rules)
    assert "conv1.weight" not in found.reasons and found.report.sparsity >= 0.5


def test_bad_goals(device: str) -> None:
    subject = few("vowels-rnn", device=device)
    table = sensitivity(subject, sparsities=(0.2,), device=device)
    for goal, said in (
        ({}, "give one goal"), ({"size": 1, "drop": 1}, "give one goal"), ({"size": 0}, "size=0"), ({"drop": -1}, "drop=-1"),
        ({"sparsity": 1}, "sparsity=1"), ({"drop": "a"}, "drop='a'"), ({"drop": float("nan")}, "drop=nan"),
        ({"size": 10}, "size=10 is out of reach"), ({"sparsity": 0.9}, "the scanned steps come to 0.2;"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            suggest(subject, table, device=device, **goal)  # type: ignore[arg-type]
    bare = table.copy()
    bare.attrs = {}
    with pytest.raises(RecipeError, match="what explorer.sensitivity returned"):
        suggest(subject, bare, drop=0.1, device=device)
    with pytest.raises(RecipeError, match="of vowels-rnn, not of bikes-mlp"):
        suggest(few("bikes-mlp", device=device), table, drop=0.1, device=device)
    with pytest.raises(Cancelled):
        suggest(subject, table, sparsity=0.1, cancel=lambda: True, device=device)


def test_a_price_is_told_in_points_and_without_an_exponent() -> None:
    steps = [Step(None), Step(0.5, 0.002, 0.001, 0.003, 100, 2e6), Step(0.9, 0.6, 0.5, 0.7, 100, 3.6e6)]
    moves = path({"fc": steps})
    one, two = (_decide("fc", ("fc.weight",), steps, moves, k, None, "size", "accuracy", "sparsity").reason for k in (0, 1))
    assert one == "left as it is: its first step, 50 %, costs 0.1 points of accuracy for every MB, and the goal is met without it"
    assert two == "50 %: alone it costs 0.2 points of accuracy; the next step, 90 %, would cost 0.0374 points of accuracy for every kB"
    nats = _decide("fc", ("fc.weight",), steps, moves, 1, None, "size", "loss", "sparsity").reason
    assert nats == "50 %: alone it costs 0.002 of loss; the next step, 90 %, would cost 0.374 of loss for every MB"
