from __future__ import annotations

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.core.training import Note
from explorer.recover.schedules.error_based import ErrorBased
from tests.recover.schedules.nets import training


def run(schedule: ErrorBased, recipe: Recipe, kind: str = "mlp", **settings: object):  # noqa: ANN201
    work = training(schedule, recipe, kind, **settings)
    return work, [event for event in work.events() if isinstance(event, Note)]


def test_each_decision_is_told_and_is_what_the_allowance_says(device: str) -> None:
    recipe = Recipe().prune("fc.0", granularity="unit", sparsity=0.9)
    work, notes = run(ErrorBased(allowance=0.03, at_once=2), recipe, device=device, epochs=6)
    assert notes and [one.text for one in notes] == [one.text for one in work.run.notes]
    gone: dict[int, int] = {}
    for note in notes:
        told = note.values
        assert told["removed"] == (told["cost"] < 0.03 and told["total"] <= 0.03)
        assert told["group"] == "fc.0" and told["n"] == 48
        gone[told["round"]] = gone.get(told["round"], 0) + told["removed"]
        assert note.text.startswith("goes" if told["removed"] else "stays")
    assert max(gone.values()) <= 2 and sum(gone.values()) > 0
    found = work.subject()
    assert found.module.fc[0].out_features == 8 - sum(gone.values())
    assert explorer.evaluate(found, device=device).metrics["accuracy"] == found.history[-1].after["accuracy"].value


def test_the_first_decision_costs_what_leaving_the_unit_out_costs(device: str) -> None:
    work, notes = run(
        ErrorBased(allowance=1.0), Recipe().prune("fc.0", granularity="unit", sparsity=0.5), device=device, epochs=1
    )
    parent = work.run.subject
    first = notes[0].values
    without = Recipe().prune("fc.0", granularity="unit", units=[first["unit"]])
    split = "train"
    before, after = (
        explorer.evaluate(parent, one, split=split, device=device).metrics["accuracy"] for one in (None, without)
    )
    assert first["cost"] == pytest.approx(before - after)


def test_no_more_go_than_the_rule_says_and_a_kept_group_stays(device: str) -> None:
    recipe = Recipe().prune("*", granularity="unit", sparsity=0.25).keep("fc.1")
    work, notes = run(ErrorBased(allowance=1.0), recipe, device=device, epochs=6)
    assert sum(one.values["removed"] for one in notes) == 2
    assert work.subject().module.fc[0].out_features == 6 and work.subject().module.fc[1].out_features == 5


def test_nothing_goes_where_every_unit_costs_too_much(device: str) -> None:
    work, notes = run(ErrorBased(allowance=0.0), Recipe(), device=device, epochs=2)
    removed = [one for one in notes if one.values["removed"]]
    assert all(one.values["cost"] < 0 for one in removed)
    assert len(removed) + sum(not one.values["removed"] for one in notes) == len(notes)
