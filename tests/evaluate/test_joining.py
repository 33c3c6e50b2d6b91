"""Looks whose values in front are kept are run at once, where that changes no bit."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from explorer.compress.resolve import resolve
from explorer.core.errors import EvaluationError
from explorer.core.recipe import Recipe
from explorer.evaluate import joining
from explorer.evaluate.engine import Engine
from explorer.evaluate.runners import GraphRunner
from tests.contract.nets import MLP, tiny
from tests.evaluate.test_replay import TUNED, columns

SPARSITIES = (0.07, 0.13, 0.2, 0.27, 0.33, 0.4)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many samples each run of a part was given."""
    found: list[int] = []
    real = GraphRunner.run

    def run(self: GraphRunner, which: Any, inputs: Any, ranges: Any, *more: Any) -> Any:
        found.append(ranges[-1][1])
        return real(self, which, inputs, ranges, *more)

    monkeypatch.setattr(GraphRunner, "run", run)
    yield found


def drag(run: Engine, calls: list[int]) -> list[dict[str, torch.Tensor]]:
    """What each move of the last layer gave; ``calls`` holds the last move's."""
    found = []
    for sparsity in SPARSITIES:
        calls.clear()
        found.append(columns(run, Recipe().prune("fc.2", sparsity=sparsity)))
    return found


def test_kept_looks_become_one_and_no_bit_changes(calls: list[int], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    columns(run, Recipe())
    at_once = drag(run, calls)
    on_cpu = device == "cpu"
    assert calls == ([100] if on_cpu else [32, 68]) and run.joining.tried == int(on_cpu)  # looks at 32 and at the end
    monkeypatch.setattr(joining, "LARGEST", 0)
    apart = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    columns(apart, Recipe())
    for one, other in zip(at_once, drag(apart, calls), strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert calls == [32, 68] and apart.joining.tried == 0


def test_what_differs_by_a_bit_stays_apart(calls: list[int], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "torch", SimpleNamespace(equal=lambda *_: False, cat=torch.cat))
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    columns(run, Recipe())
    drag(run, calls)
    assert calls == [32, 68] and run.joining.tried == int(device == "cpu")  # and not once more


def test_a_part_of_the_samples_is_still_found(calls: list[int], device: str) -> None:
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    columns(run, Recipe())
    drag(run, calls)
    calls.clear()
    plan = Recipe().prune("fc.2", sparsity=0.47)
    with run.work() as work:
        seen = run.ensure(resolve(run.subject, plan), "validation", 32, work)
    assert seen.n >= 32 and sum(calls) == seen.n


class Choosy(MLP):
    """Says nothing for the sample with the largest first input once much of its last layer is gone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, first = super().forward(x), x[:, :1]
        worn = self.fc[2].weight.abs().sum() < 0.3 * self.full
        return torch.where(worn & (first >= self.largest), torch.nan, out)


def test_what_is_no_number_is_refused_where_looks_are_judged_at_once(device: str) -> None:
    module = Choosy()
    subject = tiny(module, device=device, n=100)
    data = subject.task.dataset("validation")
    inputs = torch.stack([data[i][0] for i in range(100)])
    module.full = float(module.fc[2].weight.detach().abs().sum())
    module.largest = float(inputs[:, 0].max())
    run = Engine(subject, torch.device(device), TUNED)
    columns(run, Recipe())
    for sparsity in SPARSITIES[:3]:
        columns(run, Recipe().prune("fc.2", sparsity=sparsity))
    with pytest.raises(EvaluationError, match=f"NaN, first at sample {int(inputs[:, 0].argmax())} of validation"):
        columns(run, Recipe().prune("fc.2", sparsity=0.9))
