"""A drag runs what it changes and nothing else: calls are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.core.recipe import Recipe
from explorer.evaluate import column_major, recurrent_pace
from explorer.evaluate.engine import Engine
from tests.contract.nets import MLP, few, randomize, tiny
from tests.evaluate.awkward import Branches
from tests.evaluate.test_replay import TUNED as FUSED
from tests.evaluate.test_replay import columns

TUNED = replace(FUSED, fused=False)  # whose products call modules, which can be counted


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last layers are called, too."""
    monkeypatch.setattr(column_major, "FEW", 1)


def counted(run: Engine) -> dict[str, int]:
    """{leaf module: samples it was run on} from here on."""
    seen: dict[str, int] = {}

    def hook(name: str) -> Any:
        def count(_: nn.Module, inputs: Any) -> None:
            seen[name] = seen.get(name, 0) + len(inputs[0])

        return count

    for name, child in run.replica.module.named_modules():
        if not list(child.children()):
            child.register_forward_pre_hook(hook(name))
    return seen


@pytest.mark.usefixtures("modules")
def test_a_drag_of_the_last_layer_runs_only_the_last_layer(device: str) -> None:
    subject = tiny(MLP(), device=device, n=100)
    run = Engine(subject, torch.device(device), TUNED)
    columns(run, Recipe())
    for sparsity in (0.07, 0.13, 0.2):  # once its looks are compared with all of them at once
        columns(run, Recipe().prune("fc.2", sparsity=sparsity))
    seen = counted(run)
    for sparsity in (0.3, 0.4, 0.5):
        columns(run, Recipe().prune("fc.2", sparsity=sparsity))
    assert seen == {"fc.2": 300}
    for bits in (2, 3, 4):
        columns(run, Recipe().prune("fc.2", sparsity=0.5).quantize("fc.1", bits=bits))
    seen.clear()
    columns(run, Recipe().prune("fc.2", sparsity=0.5).quantize("fc.1", bits=5))
    assert seen == {"fc.1": 100, "fc.2": 100}


def test_by_columns_it_runs_only_the_last_layer(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    columns(run, Recipe())
    for sparsity in (0.07, 0.13, 0.2):
        columns(run, Recipe().prune("fc.2", sparsity=sparsity))
    seen, real = counted(run), torch.addmm
    products: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch, "addmm", lambda b, w, x: products.append((*w.shape, x.shape[1])) or real(b, w, x))
    columns(run, Recipe().prune("fc.2", sparsity=0.3))
    assert {shape[:2] for shape in products} == ({(3, 5)} if device == "cpu" else set())
    assert sum(shape[2] for shape in products) + seen.get("fc.2", 0) == 100


@pytest.mark.usefixtures("modules")
def test_layers_beside_the_changed_one_are_not_run(device: str) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.q(x) * self.k(x))

    run = Engine(tiny(Beside(), device=device, n=64), torch.device(device), TUNED)
    columns(run, Recipe().prune("q", sparsity=0.2))
    seen = counted(run)
    columns(run, Recipe().prune("q", sparsity=0.3))
    assert seen == {"q": 64, "last": 64}


def test_the_order_of_calls_skips_what_came_before(device: str) -> None:
    run = Engine(tiny(randomize(Branches()), device=device, n=64), torch.device(device), TUNED)
    columns(run, Recipe().prune("last", sparsity=0.2))
    seen: list[str] = []
    module = run.replica.module
    inner = {name: getattr(module, name) for name in ("first", "b", "last")}
    real = F.linear

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.extend(name for name, child in inner.items() if child.weight is weight)
        return real(x, weight, bias)

    nn.functional.linear = linear
    try:
        columns(run, Recipe().prune("last", sparsity=0.3))
    finally:
        nn.functional.linear = real
    assert set(seen) == {"last"}


def test_recurrent_stacks_are_cut_between_their_layers(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_pace, "by_hand", lambda *_: False)
    subject = few("vowels-lstm", device=device)
    run = Engine(subject, torch.device(device), TUNED)
    columns(run, Recipe().prune("lstm.weight_hh_l1", sparsity=0.2))
    graph = run.runner.graph  # type: ignore[attr-defined]
    first, second = (graph.section([f"lstm.weight_hh_l{i}"]) for i in (0, 1))
    assert len(second.nodes) < len(first.nodes) and "lstm.weight_ih_l0" in second.reads
    called, real = [], torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda x, *rest: called.append(x.shape[-1]) or real(x, *rest))
    columns(run, Recipe().prune("lstm.weight_hh_l1", sparsity=0.3))
    assert set(called) == {64}, "the first layer, which reads 12 features, was run again"


def test_a_drag_of_activations_and_one_behind_rounded_ones_are_short(device: str) -> None:
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    rounded = Recipe().quantize("fc.0", bits=8, what="activation").quantize("fc.1", bits=8, what="activation")
    columns(run, rounded)
    columns(run, rounded.prune("fc.2", sparsity=0.2))
    columns(run, rounded.quantize("fc.1", bits=6, what="activation"))
    seen = counted(run)
    columns(run, rounded.prune("fc.2", sparsity=0.3))
    assert seen == {"fc.2": 100}
    seen.clear()
    columns(run, rounded.quantize("fc.1", bits=5, what="activation"))
    assert seen == {"fc.1": 100, "fc.2": 100}


@pytest.mark.usefixtures("modules")
def test_a_changed_bias_runs_from_its_layer_on(device: str) -> None:
    run = Engine(tiny(MLP(), device=device, n=100), torch.device(device), TUNED)
    corrected = Recipe().quantize("fc.1", bits=3).prepare("bias-correction")
    columns(run, corrected)
    seen = counted(run)
    columns(run, Recipe().quantize("fc.1", bits=4).prepare("bias-correction"))
    assert set(seen) == {"fc.1", "fc.2"}


@pytest.mark.parametrize(("name", "first", "second"), [("fashion-resnet", "b1.conv2.weight", "b3.conv1.weight"), ("vowels-lstm", "lstm.weight_hh_l0", "lstm.weight_hh_l1")])
def test_values_in_front_do_not_depend_on_what_comes_behind(name: str, first: str, second: str, device: str) -> None:
    run = Engine(few(name, device=device), torch.device(device), TUNED)
    graph = run.runner.graph  # type: ignore[attr-defined]
    assert second not in graph.section([first]).reads and first in graph.section([second]).reads
    assert first not in graph.section([first]).reads
