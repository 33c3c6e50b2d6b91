"""The map of sparsity and bits: what each cell says, in which order, and its frontier."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import explorer
from explorer.core.errors import Cancelled, RecipeError
from explorer.core.joint import Cell, frontier
from explorer.models.subject import Subject
from explorer.studies.joint_map import refining


@pytest.fixture(scope="module")
def subject(device: str) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    x = torch.randn(300, 6)
    data = TensorDataset(x, module(x).argmax(1))
    return Subject(module.to(device), explorer.Task.classification(validation=data), "toy")


def test_every_cell_is_the_evaluation_of_its_recipe(subject: Subject, device: str) -> None:
    table = explorer.joint_map(subject, sparsities=(0.0, 0.5, 0.9), bits=(2, 4, 32), device=device)
    assert len(table) == 9 and list(table.columns[:3]) == ["sparsity", "bits", "metric"] and (table["n"] == 300).all()
    for row in table.itertuples():
        recipe = explorer.Recipe()
        if row.sparsity:
            recipe = recipe.prune(["0.weight", "2.weight"], sparsity=row.sparsity, scope="global")
        if row.bits < 32:
            recipe = recipe.quantize(["0.weight", "2.weight"], bits=row.bits, granularity="channel")
        report = explorer.evaluate(subject, recipe, device=device)
        assert row.value == report.metrics["accuracy"] and row.bytes == report.bytes and row.metric == "accuracy"
        assert row.change == pytest.approx(report.change("accuracy").value) and row.low <= row.value <= row.high + 1e-9
    untouched = table[(table.sparsity == 0) & (table.bits == 32)].iloc[0]
    assert untouched.value == 1.0 and untouched.change == 0


def test_cells_come_coarse_to_fine_and_sharpen(subject: Subject) -> None:
    seen = list(explorer.joint_cells(subject, "0", sparsities=(0.0, 0.2, 0.4, 0.6, 0.8), bits=(2, 3, 4)))
    looks = sorted({cell.n for cell in seen})
    assert looks[-1] == 300 and len(seen) == 15 * len(looks)
    assert [cell.n for cell in seen] == sorted(cell.n for cell in seen)
    first = [(cell.row, cell.column) for cell in seen[:4]]
    assert sorted(first) == [(0, 0), (0, 4), (2, 0), (2, 4)]  # the corners


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_order_holds_every_cell_once(rows: int, columns: int) -> None:
    order = refining(rows, columns)
    assert len(order) == len(set(order)) == rows * columns
    corners = {(r, c) for r in (0, rows - 1) for c in (0, columns - 1)}
    assert set(order[: len(corners)]) == corners


def cell(size: int, value: float, at: int = 0) -> Cell:
    return Cell(at, 0, 0.0, 8, "accuracy", value, None, None, 0.0, 1, 1, size, explorer.Recipe())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=25), st.booleans())
def test_no_cell_of_the_frontier_is_beaten(points: list[tuple[int, int]], lower: bool) -> None:
    cells = [cell(size, float(value), i) for i, (size, value) in enumerate(points)]
    best = frontier(cells, lower)
    sign = -1 if lower else 1

    def beats(a: Cell, b: Cell) -> bool:
        return a.bytes <= b.bytes and sign * a.value >= sign * b.value and (a.bytes, a.value) != (b.bytes, b.value)

    assert best and not any(beats(a, b) for a in cells for b in best)
    assert all(a.bytes < b.bytes and sign * a.value < sign * b.value for a, b in combinations(best, 2))
    for one in cells:  # whatever is not on it is beaten, or equals one that is
        assert any(beats(b, one) or (b.bytes, b.value) == (one.bytes, one.value) for b in best)


def test_other_layers_keep_their_rules(subject: Subject) -> None:
    base = explorer.Recipe().prune("*", sparsity=0.3).quantize("2", bits=6)
    seen = {
        (c.sparsity, c.bits): c.recipe
        for c in explorer.joint_cells(subject, "0", sparsities=(0.0, 0.5), bits=(4, 32), recipe=base)
    }
    plan = explorer.resolve(subject, seen[0.5, 4])
    assert {name: codes.bits for name, codes in plan.codes.items()} == {"0.weight": 4, "2.weight": 6}
    assert plan.masks["0.weight"].float().mean() == 0.5 and plan.masks["2.weight"].sum() == round(0.7 * 36)
    plan = explorer.resolve(subject, seen[0.0, 32])
    assert "0.weight" not in plan.layers and plan.codes["2.weight"].bits == 6


def test_a_split_that_fits_the_first_look_is_seen_once(subject: Subject) -> None:
    few = TensorDataset(*(t[:20] for t in subject.task.dataset("validation").tensors))
    small = Subject(subject.module, explorer.Task.classification(validation=few), "few")
    seen = list(explorer.joint_cells(small, sparsities=(0.0, 0.5), bits=(4,)))
    assert [cell.n for cell in seen] == [20, 20] and all(cell.complete for cell in seen)


def test_the_pareto_column_and_progress(subject: Subject) -> None:
    told: list[tuple[int, int]] = []
    table = explorer.joint_map(subject, "2", sparsities=(0.0, 0.5), bits=(2, 8), progress=lambda *at: told.append(at))
    assert table["pareto"].any() and told[-1] == (4, 4) and told == sorted(told)
    smallest = table.sort_values(["bytes", "value"], ascending=[True, False]).iloc[0]
    assert bool(smallest.pareto)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparsities": ()}, {"sparsities": (1.0,)}, {"sparsities": (0.5, 0.5)}, {"sparsities": (True,)}, {"bits": ()}, {"bits": (0,)},
        {"bits": (9,)}, {"bits": (4.0,)}, {"bits": (1,)}, {"layers": "nowhere"}, {"criterion": "none"}, {"quantizer": "none"},
        {"granularity": "gate"}, {"scope": "model"},
    ],
)  # fmt: skip
def test_bad_input_is_said_before_anything_runs(subject: Subject, wrong: dict) -> None:
    with pytest.raises(RecipeError):
        explorer.joint_cells(subject, **{"bits": (2, 4), "sparsities": (0.0, 0.5)} | wrong)


def test_cancelling(subject: Subject) -> None:
    found = explorer.joint_cells(subject, sparsities=(0.0, 0.9), bits=(2, 3), cancel=lambda: len(seen) >= 3)
    seen: list[Cell] = []
    with pytest.raises(Cancelled):
        for one in found:
            seen.append(one)
    assert len(seen) == 3
