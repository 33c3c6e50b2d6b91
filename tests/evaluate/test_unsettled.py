"""Modules that write to their inputs, keep what they saw, or read weights where no trace sees it: figures are those of the module as it was loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.compress.apply import build
from explorer.compress.resolve import resolve
from explorer.core.errors import EvaluationError
from explorer.core.recipe import Recipe
from explorer.evaluate.answers import answers
from explorer.evaluate.engine import Engine
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.models.trial import difference
from tests.contract.nets import randomize, tiny
from tests.evaluate.awkward import Hiding
from tests.evaluate.test_replay import TUNED, columns

Way = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, way: Way) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("mean", torch.zeros(8))
        self.kept, self.way = {"made": torch.zeros(8)}, way

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.way(self, x))))


def scaled(net: Net, x: Tensor) -> Tensor:
    return net.first(x.mul_(1.5))


def clipped(net: Net, x: Tensor) -> Tensor:
    if bool((x > 2.5).any()):  # in some batches
        x.clamp_(max=1.0)
    return net.first(x)


def average(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    net.mean.mul_(0.9).add_(h.mean(0), alpha=0.1)
    return h - net.mean


def memory(net: Net, x: Tensor) -> Tensor:
    h = net.first(x)
    net.kept["made"] = 0.5 * net.kept["made"].to(h) + h.mean(0)
    return h - net.kept["made"]


def made_once(net: Net, x: Tensor) -> Tensor:
    if len(net.kept) < 2:
        net.kept["norms"] = net.second.weight.norm(dim=1)
    return net.first(x) * net.kept["norms"]


def behind(net: Net, x: Tensor) -> Tensor:
    return net.first(x) * next(net.second.parameters()).norm().item()  # no trace sees it


def losses(subject: Subject, run: Engine, recipe: Recipe) -> Tensor:
    """[N] of the compressed module, a new one for every batch of the engine's."""
    made = build(subject, resolve(subject, recipe)).cpu().eval()
    inputs, targets = next(iter(torch.utils.data.DataLoader(subject.task.dataset("validation"), 10**6)))
    order, found = run.data("validation").order, []
    with torch.no_grad():
        for start, stop in pairwise(range(0, len(order) + 1, TUNED.batch)):
            some = order[start:stop]
            found.append(F.cross_entropy(copy.deepcopy(made)(inputs[some].clone()), targets[some], reduction="none"))
    return torch.cat(found)


def right(subject: Subject, device: str, *recipes: Recipe) -> Engine:
    run = Engine(subject, torch.device(device), TUNED)
    before = run.data("validation").chunk(0, 64)[0].clone()
    for recipe in recipes:
        assert difference(losses(subject, run, recipe), columns(run, recipe)["loss"]) <= 1e-5, recipe
    assert torch.equal(run.data("validation").chunk(0, 64)[0], before)
    return run


@pytest.mark.parametrize(
    ("way", "tier", "reason"),
    [
        (scaled, "full", "writes into its inputs"),
        (clipped, "order of calls", "traced"),
        (average, "full", "changes the module's own state"),
        (memory, "full", "differ from run to run"),
        (made_once, "full", "keeps what it made of its weights"),
        (behind, "order of calls", "other outputs than the module"),
    ],
)
def test_figures_are_those_of_the_module_as_it_was_loaded(way: Way, tier: str, reason: str, device: str) -> None:
    torch.manual_seed(0)
    subject = tiny(randomize(Net(way)), device=device)
    recipes = [Recipe().prune(name, sparsity=share) for name in ("second", "last", "first", "second") for share in (0.005, 0.5, 0.8)]
    run = right(subject, device, Recipe(), *recipes, Recipe())
    assert run.runner.tier == tier and reason in run.runner.reason


def test_the_first_move_of_a_drag_is_no_test_of_a_replay(device: str) -> None:
    torch.manual_seed(0)
    recipes = [Recipe().prune("second", sparsity=share) for share in (0.001, 0.005, 0.5, 0.8)]  # the first two change no weight
    right(tiny(randomize(Hiding()), device=device), device, *recipes)


@pytest.mark.parametrize("way", [scaled, average])
def test_so_are_the_answers_to_one_input(way: Way, device: str) -> None:
    torch.manual_seed(0)
    subject = tiny(randomize(Net(way)), device=device)
    first = answers(subject, Recipe(), torch.ones(6), device=device)
    assert first.before == first.after == answers(subject, Recipe(), torch.ones(6), device=device).before


@dataclass
class Out:
    logits: Tensor


class Returns(Net):
    """kind: what its outputs are wrapped into."""

    def __init__(self, kind: Callable[..., Any], nan: bool = False) -> None:
        super().__init__(lambda net, x: net.first(x))
        self.kind, self.nan = kind, nan

    def forward(self, x: Tensor) -> Any:
        out = super().forward(x)
        return self.kind(logits=torch.where(x[:, :1] > 1.0, torch.nan, out) if self.nan else out)


@pytest.mark.parametrize(("kind", "tier"), [(Out, "graph"), (dict, "graph"), (SimpleNamespace, "full")])
def test_outputs_of_any_form(kind: Any, tier: str, device: str) -> None:
    def read(outputs: Any) -> Tensor:
        return outputs["logits"] if isinstance(outputs, dict) else outputs.logits

    def score(outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        return {"ce": F.cross_entropy(read(outputs), targets, reduction="none")}

    torch.manual_seed(0)
    task = Task(splits={"validation": tiny().task.dataset("validation")}, score=score)
    subject = Subject(randomize(Returns(kind)).to(device), task, "forms")
    run = Engine(subject, torch.device(device), TUNED)
    for share in (0.001, 0.5, 0.8):
        recipe = Recipe().prune("second", sparsity=share)
        inputs, targets = run.data("validation").chunk(0, 64)
        with torch.no_grad():
            expected = score(build(subject, resolve(subject, recipe)).eval()(inputs), targets)["ce"]
        assert difference(expected, columns(run, recipe)["ce"]) <= 1e-5
    assert run.runner.tier == tier and (tier == "graph" or "no tensors" in run.runner.reason)
    with pytest.raises(EvaluationError, match="NaN"):
        columns(Engine(Subject(Returns(kind, True).to(device), task, "nan"), torch.device(device), TUNED), Recipe())
