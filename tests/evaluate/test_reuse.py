"""Memory is written into only where nothing reads it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from explorer.evaluate.graph import Graph
from explorer.evaluate.reuse import add_into, scale_into
from explorer.models.trace import forget_missing


class Net(nn.Module):
    """Two layers and a way to put them together."""

    def __init__(self, way: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.relu, self.narrow = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


# how many operations may write in place, and why not the others
WAYS: dict[str, tuple[int, Callable[[Net, Tensor], Tensor]]] = {
    "relu of a layer": (
        2,
        lambda net, x: F.relu(net.b(net.a(x))) * torch.relu(net.a(x).relu()),
    ),  # relu of relu: not known
    "a module": (0, lambda net, x: net.relu(net.a(x))),  # a plan may change what it answers
    "a residual sum": (2, lambda net, x: torch.relu(x + net.a(x))),
    "both sides are the network's own": (1, lambda net, x: net.a(x) + net.b(x)),
    "the input": (0, lambda net, x: torch.relu(x) + x),
    "a view of the input": (0, lambda net, x: torch.relu(x.flatten(1)) * x),
    "read by another": (0, lambda net, x: (lambda y: torch.relu(y) * y)(net.a(x))),
    "twice the same": (0, lambda net, x: (lambda y: y + y)(net.a(x))),
    "a view of a layer's": (0, lambda net, x: (lambda y: torch.relu(y[:, :3]) * y[:, 3:])(net.a(x))),
    "a gate": (1, lambda net, x: net.a(x) * net.narrow(x)),
    "what a gate lets through, rectified": (2, lambda net, x: torch.relu(net.narrow(x) * net.b(x)) + x),
    "a gate that two read": (0, lambda net, x: (lambda y: y * y.sigmoid())(net.a(x))),
    "wider than the layer": (1, lambda net, x: net.narrow(x) + x),
}


def graph_of(net: Net, hooked: bool = False) -> Graph:
    forget_missing()  # as every trace of ours does
    traced = fx.symbolic_trace(net)
    if hooked:
        net.a.register_forward_hook(lambda *_: None)
    return Graph(net, traced.graph, traced, {id(p): name for name, p in net.named_parameters()})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("names", [("a.weight",), ("b.bias",), ("a.weight", "b.weight", "narrow.weight")])
def test_parts_give_the_modules_bits_and_leave_their_inputs(way: str, names: tuple[str, ...], device: str) -> None:
    torch.manual_seed(0)
    net = Net(WAYS[way][1]).to(device).eval()
    x = torch.randn(5, 6, device=device)
    graph, before = graph_of(net), x.clone()
    section = graph.section(names)
    with torch.inference_mode():
        reference = net(x)
        front = section.before(x) if section.before else ()
        kept = [value.clone() for value in front]
        for _ in range(2):  # what is kept in front serves again
            raised = section.body(x, *front[: section.reading]) if section.body else ()
            above = section.above(x, *front[section.reading :]) if section.above else ()
            assert torch.equal(section.head(x, *above, *raised), reference)
        assert torch.equal(x, before) and all(torch.equal(a, b) for a, b in zip(front, kept, strict=True))


@pytest.mark.parametrize("way", WAYS)
def test_only_what_is_ones_own_is_written_into(way: str, device: str) -> None:
    count, forward = WAYS[way]
    for hooked in (False, True):
        graph = graph_of(Net(forward).to(device), hooked)
        whole = graph.part([], [], graph.nodes[-1].args[0])
        code = whole.__self__.code  # type: ignore[union-attr]
        found = code.count("relu_(") + code.count("add_into(") + code.count("scale_into(")
        assert found == count if not hooked else found <= count
    watched = graph_of(Net(lambda net, x: torch.relu(net.a(x))).to(device), True)
    assert "relu_(" not in watched.part([], [], watched.nodes[-1].args[0]).__self__.code  # type: ignore[union-attr]


def test_a_value_that_is_asked_for_is_not_written_into(device: str) -> None:
    net = Net(lambda net, x: torch.relu(net.a(x))).to(device)
    graph, x = graph_of(net), torch.randn(4, 6, device=device)
    layer, relu = graph.nodes[:2]
    stage = graph.part([layer, relu], [])
    assert stage is not None
    with torch.inference_mode():
        plain, rectified = stage(x)
        assert torch.equal(plain, net.a(x)) and torch.equal(rectified, plain.relu())


def test_a_sum_goes_where_it_fits(device: str) -> None:
    x, y = torch.ones(3, 2, device=device), torch.ones(3, 2, device=device)
    assert add_into(x, y) is x and torch.equal(x, 2 * y)
    for other in (
        torch.ones(4, 3, 2, device=device),
        torch.ones(3, 2, device=device).half(),
        torch.ones(2, device=device),
        1.5,
    ):
        mine = torch.ones(3, 2, device=device)
        found = add_into(mine, other)
        assert (
            found is not mine
            and torch.equal(found, torch.ones(3, 2, device=device) + other)
            and bool((mine == 1).all())
        )


def test_a_product_goes_where_it_fits(device: str) -> None:
    x, y = torch.full((3, 2), 2.0, device=device), torch.tensor([[2.0], [3], [4]], device=device)
    assert scale_into(x, y) is x and x.tolist() == [[4, 4], [6, 6], [8, 8]]
    for other in (
        torch.ones(4, 3, 2, device=device),
        y.half(),
        torch.ones(2, device=device),
        torch.ones(3, 2, device=device).double(),
        1.5,
    ):
        mine = torch.ones(3, 2, device=device)
        found = scale_into(mine, other)
        assert (
            found is not mine
            and torch.equal(found, torch.ones(3, 2, device=device) * other)
            and torch.equal(mine, torch.ones_like(mine))
        )
    narrow = torch.ones(3, 1, device=device)
    assert scale_into(narrow, x).shape == (3, 2) and narrow.shape == (3, 1)
