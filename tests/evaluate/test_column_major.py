"""The last linear layers of a classifier, column by column: which, and the same values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F

from explorer.core.recipe import Recipe
from explorer.evaluate import column_major
from explorer.evaluate.engine import Engine
from explorer.evaluate.graph import fetch
from explorer.evaluate.metrics.classification import losses_and_predictions
from explorer.evaluate.tiers import runner_for
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import MLP, classification, regression
from tests.evaluate.test_replay import TUNED, engines, the_same


class Net(nn.Module):
    """Linear layers and a way to put them together; inputs [N, 6]."""

    def __init__(self, way: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
        self.last, self.one, self.many = nn.Linear(8, 3), nn.Linear(8, 1), nn.Linear(8, 65)
        self.norm, self.gelu = nn.BatchNorm1d(8), nn.GELU()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


WAYS: dict[str, tuple[set[str], Callable[[Net, Tensor], Tensor]]] = {
    "the last one": ({"last"}, lambda net, x: net.last(net.norm(net.a(x)))),
    "all in a row": ({"last", "b", "a"}, lambda net, x: net.last(net.gelu(net.b(F.relu(net.a(x)))))),
    "without anything between": ({"last", "a"}, lambda net, x: net.last(net.a(x))),
    "up to what is read twice": ({"last", "c"}, lambda net, x: net.last(F.relu(net.c((lambda y: y + net.b(y))(net.a(x)))))),
    "an activation that is read twice": ({"last"}, lambda net, x: net.last((lambda y: y * y)(torch.tanh(net.a(x))))),
    "a single output": (set(), lambda net, x: net.one(net.a(x))),
    "many outputs": (set(), lambda net, x: net.many(net.a(x))),
    "not the end": (set(), lambda net, x: net.last(net.a(x)) * 2),
    "a layer called twice": ({"last", "b", "a"}, lambda net, x: net.last(net.b(torch.relu(net.b(net.a(x)))))),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_same_values_by_columns(way: str, device: str) -> None:
    torch.manual_seed(0)
    expected, forward = WAYS[way]
    net, x = Net(forward).to(device).eval(), torch.randn(50, 6, device=device)
    traced = fx.symbolic_trace(net)
    assert column_major.lay(traced.graph, lambda target: fetch((net,), target)) == bool(expected)
    found = fx.GraphModule(net, traced.graph)
    assert {n.args[1].target.removesuffix(".weight") for n in traced.graph.nodes if n.target is column_major.linear} == expected
    with torch.no_grad():
        got = found(x)
    assert difference(net(x), got) <= 1e-5
    if expected and device == "cpu":
        assert column_major.lies_so(got)


def test_what_somebody_sees_stays(device: str) -> None:
    net = Net(lambda net, x: net.last(net.a(x))).to(device)
    net.last.register_forward_hook(lambda *_: None)
    assert not column_major.lay(fx.symbolic_trace(net).graph, lambda target: fetch((net,), target))


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (0, 6)])
def test_any_shape(shape: tuple[int, ...], device: str) -> None:
    layer = nn.Linear(6, 4).to(device)
    x = torch.randn(shape, device=device)
    assert difference(layer(x), column_major.linear(x, layer.weight, layer.bias)) <= 1e-6
    assert difference(F.linear(x, layer.weight), column_major.linear(x, layer.weight, None)) <= 1e-6


@given(parts=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=4), width=st.integers(1, 4))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_put_together_are_those_of_the_parts(device: str, parts: list[tuple[int, bool]], width: int) -> None:
    made = [torch.rand(width, n, device=device).t() if by_column else torch.rand(n, width, device=device) for n, by_column in parts]
    whole = column_major.put_together(made)
    assert torch.equal(whole, torch.cat(made))
    assert not all(map(column_major.lies_so, made)) or column_major.lies_so(whole)


def test_only_a_classifiers_own_loss_takes_any_layout(device: str) -> None:
    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.view(-1).view(len(targets), -1), targets)

    tasks = {
        "classifier": classification((6,)),
        "a loss of one's own": classification((6,), loss=flat),
        "numbers": regression((6,), 3),
    }
    laid = []
    for name, task in tasks.items():
        subject = Subject(MLP().to(device), task, name)
        the_same(engines(subject, device, TUNED), Recipe().prune("*", sparsity=0.5))
        some = [task.batch("validation", range(n))[0].to(device) for n in (2, 3)]
        nodes = runner_for(subject, Replica(subject.module, torch.device(device)), *some).graph.nodes  # type: ignore[attr-defined]
        laid.append(sum(node.target is column_major.linear for node in nodes))
    assert laid == [3 * (device == "cpu"), 0, 0]


@pytest.mark.parametrize("classes", [2, 10, 65])
def test_looking_at_parts_is_looking_at_all(classes: int, device: str) -> None:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, classes, generator=g).round(decimals=1).to(device)
    targets = torch.randint(classes, (5000,), generator=g).to(device)
    whole = losses_and_predictions([logits], targets)
    by_column = [one.t().contiguous().t() for one in logits.split([1, 2499, 2500])]
    for parts in (by_column, list(logits.split(7)), [by_column[0], by_column[1], logits[2500:]]):
        found = losses_and_predictions(parts, targets)
        assert torch.equal(found[0], whole[0]) and torch.equal(found[1], whole[1])


def test_large_weights_do_not_keep_batches_apart(device: str) -> None:
    """Each point of a scan may end at its own number of samples, as where the layers are called as modules."""
    subject = Subject(MLP((6, 300, 300, 3)).to(device), classification((6,)), "wide")
    run = Engine(subject, torch.device(device), TUNED)
    parts = [run.runner.part([f"fc.{i}.weight"]) for i in range(3)]
    assert run.runner.ends_anywhere([one for one in parts if one is not None]) and None not in parts
