"""Products and what follows them as one operation: where, by which, and the same values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate import expand, fuse, tune
from explorer.evaluate.engine import Engine
from explorer.evaluate.graph import fetch
from explorer.evaluate.tune import Candidate
from explorer.models.absent import GONE
from explorer.models.norms import NORM
from explorer.models.trial import difference
from tests.contract.nets import few, tiny
from tests.evaluate.test_replay import TUNED

Way = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Layers of both kinds and a way to put them together; inputs [N, 4, 6, 6]."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 1)
        self.conv, self.thin, self.norm = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1, bias=False),
            nn.BatchNorm2d(4),
        )
        self.same = nn.Conv2d(4, 4, 3, padding="same")
        self.gelu, self.tanh, self.relu = nn.GELU("tanh"), nn.Tanh(), nn.ReLU()
        self.norm.running_mean, self.norm.running_var = torch.randn(4), torch.rand(4) + 0.5
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x) * 1


# what is fused, as {operator: times}, and the way
LINEAR, ADDED = "mkldnn._linear_pointwise.default", "mkldnn._linear_pointwise.binary"
CONV, CONV_ADDED = "mkldnn._convolution_pointwise.default", "mkldnn._convolution_pointwise.binary"
WAYS: dict[str, tuple[dict[str, int], Way]] = {
    "every activation": (
        {LINEAR: 7},
        lambda net, x: net.gelu(net.a(torch.tanh(net.b(F.silu(net.a(net.b(x).sigmoid())))))) + net.tanh(net.a(F.gelu(net.b(net.relu(net.a(x)))))),
    ),
    "a layer alone": ({LINEAR: 1}, lambda net, x: net.a(x)),
    "a residual sum": ({ADDED: 2}, lambda net, x: (lambda y: net.b(y) + y)(x + net.a(x))),
    "a sum that is wider": ({ADDED: 0, LINEAR: 0}, lambda net, x: net.c(x) + x),
    "read by another": ({LINEAR: 1}, lambda net, x: (lambda y: torch.relu(y) * y)(net.a(x))),
    "twice the same": ({LINEAR: 1}, lambda net, x: (lambda y: y + y)(net.a(x))),
    "a sum with a number": ({LINEAR: 1}, lambda net, x: net.a(x) + 1),
    "an activation in between is read": ({LINEAR: 1}, lambda net, x: (lambda y: y * torch.exp(y))(F.relu(net.a(x)))),
    "a convolution": ({CONV: 1}, lambda net, x: net.conv(x).relu()),
    "a convolution and a BatchNorm": ({CONV: 2}, lambda net, x: F.relu(net.norm(net.conv(x))) + torch.sigmoid(net.norm(net.thin(x)))),
    "a convolution, a sum, an activation": ({CONV: 1, CONV_ADDED: 1}, lambda net, x: (lambda y: net.relu(net.conv(y) + y))(F.relu(net.thin(x)))),
    "a convolution and a sum": ({CONV_ADDED: 1}, lambda net, x: x + net.norm(net.conv(x))),
    "a sum with what depends on other weights": ({}, lambda net, x: torch.relu(net.conv(x) + net.thin(x))),
    "a convolution alone": ({}, lambda net, x: net.conv(x)),
    "a padding of its own": ({}, lambda net, x: torch.relu(net.same(x))),
}  # fmt: skip


class Seen(TorchDispatchMode):
    """Counts what is called of oneDNN's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[str(func)] += str(func).startswith("mkldnn.")
        return func(*args, **(kwargs or {}))


def fused_of(net: nn.Module, folding: bool) -> fx.GraphModule:
    traced = fx.symbolic_trace(net)
    find = lambda target: fetch((net,), target)  # noqa: E731
    if folding:
        expand.fold(traced.graph, find)
    fuse.fuse(traced.graph, find)
    return fx.GraphModule(net, traced.graph)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_values_by_fewer_operations(way: str, device: str) -> None:
    torch.manual_seed(0)
    expected, forward = WAYS[way]
    net, x = Net(forward).to(device).eval(), torch.randn(5, 4, 6, 6, device=device)
    found = fused_of(net, True)
    with torch.no_grad(), Seen() as seen:
        fused = found(x)
    assert difference(net(x), fused) <= 1e-5
    assert +seen.found == (Counter(expected) if device == "cpu" else Counter())


def test_what_somebody_sees_stays(device: str) -> None:
    net = Net(lambda net, x: net.relu(net.a(x)) + F.relu(net.b(x))).to(device)
    net.a.register_forward_hook(lambda *_: None)
    targets = [n.target for n in fused_of(net, False).graph.nodes]
    assert "a" in targets and "relu" in targets and "b" not in targets


@pytest.mark.parametrize("way", ["every activation", "a residual sum", "a convolution, a sum, an activation"])
def test_half_precision_is_rounded_where_its_operators_round(way: str, device: str) -> None:
    torch.manual_seed(0)
    expected, forward = WAYS[way]
    net, x = Net(forward).to(device, torch.bfloat16).eval(), torch.randn(5, 4, 6, 6, device=device).bfloat16()
    with torch.no_grad(), Seen() as seen:
        fused = fused_of(net, True)(x)
    assert fused.dtype is torch.bfloat16 and difference(net(x), fused) <= 5e-2
    assert +seen.found == (Counter(expected) if device == "cpu" else Counter())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_layout_and_stride(layout: torch.memory_format, device: str) -> None:
    torch.manual_seed(0)
    for stride, padding, dilation, groups in (((2, 1), (1, 0), (1, 2), 1), ((1, 1), (2, 2), (1, 1), 2)):
        where = [stride, padding, dilation, groups]
        conv = nn.Conv2d(4, 6, 3, *where).to(device)
        x = torch.randn(3, 4, 9, 8, device=device).contiguous(memory_format=layout)
        with torch.no_grad():
            plain = conv(x)
            other = torch.randn_like(plain).contiguous()
            for added in (None, other, other[:, :1]):
                expected = torch.relu(plain if added is None else plain + added)
                found = fuse.convolution(x, conv.weight, conv.bias, None, where, added, ("relu", ""))
                assert difference(expected, found) <= 1e-5


@pytest.mark.parametrize("wide", [False, True])
def test_what_onednn_does_not_take_is_done_plainly(wide: bool, device: str) -> None:
    x, w = torch.randn(3, 4, device=device), torch.randn(5, 4, device=device, requires_grad=not wide)
    if wide and device != "mps":
        x, w = x.double(), w.double()
    with Seen() as seen:  # float64, or gradients are asked
        assert torch.equal(fuse.linear(x, w, None, None, ("gelu", "tanh")), F.gelu(F.linear(x, w), approximate="tanh"))
    assert not +seen.found or (wide and device == "mps")


@pytest.mark.parametrize("where", ["inputs", "weights", "on the way"])
def test_what_is_no_number_stays_none(where: str, device: str) -> None:
    """oneDNN's ReLU makes a zero of it, and what should be refused would be a figure."""
    torch.manual_seed(0)

    def way(net: Net, x: Tensor) -> Tensor:
        y = torch.log(x) if where == "on the way" else x
        return F.relu(net.a(F.relu(net.a(y)))) + F.relu(net.conv(y) + y) + F.relu(net.norm(net.conv(y)))

    net, x = Net(way).to(device).eval(), torch.rand(5, 4, 6, 6, device=device)
    with torch.no_grad():
        if where == "weights":
            net.a.weight[1, 2] = net.norm.running_mean[2] = torch.nan
        else:
            x[1, 2, 3, 4] = torch.nan if where == "inputs" else -1.0
        expected, found = net(x), fused_of(net, True)(x)
    assert expected.isnan().any() and torch.equal(expected.isnan(), found.isnan())


def test_where_there_are_such_operators(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    here = torch.device(device)
    assert fuse.available(here, None) == fuse.available(here, torch.float32) == (device == "cpu")
    assert not fuse.available(torch.device("cuda"), None) and not fuse.available(here, torch.float64)
    assert fuse.available(here, torch.bfloat16) == (device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    monkeypatch.setattr(fuse, "OPERATORS", ("_linear_pointwise", "_of_a_later_version"))
    assert not fuse.available(here, None)


def test_a_drag_calls_them_and_a_plan_inside_of_modules_does_not(device: str) -> None:
    subject = few("fashion-vit", device=device)
    run, plain = (Engine(subject, torch.device(device), replace(TUNED, fused=fused)) for fused in (True, False))
    layer = subject.layers[len(subject.layers) // 2].name
    plan = resolve(subject, Recipe().prune(layer, sparsity=0.5))
    with run.work() as work, Seen() as seen:
        run.ensure(plan, "validation", 16, work)
    batches = -(-run.data("validation").looks[0] // TUNED.batch)
    for name, added in (("blocks.3.fc2.weight", batches), ("head.weight", 0)):  # what is dragged runs and nothing else
        with run.work() as work:
            for sparsity in (0.6, 0.7, 0.8):
                with Seen() as again:
                    run.ensure(resolve(subject, Recipe().prune(name, sparsity=sparsity)), "validation", 16, work)
        assert again.found[ADDED] == (added if device == "cpu" else 0) and not again.found[LINEAR]
    assert run.runner.fused == (device == "cpu") == bool(seen.found[ADDED]) and not plain.runner.fused
    if device == "cpu":
        targets = [n.target for n in run.runner.graph.nodes]  # type: ignore[attr-defined]
        assert targets.count(fuse.linear) == 4 * 6 and not any(
            "fc1" in str(t) for t in targets if isinstance(t, str) and "weight" not in t and "bias" not in t
        )
        for gone in (
            replace(plan, dropped={"blocks.0.fc1": {GONE: torch.tensor([0])}}),
            resolve(subject, Recipe().quantize(layer, bits=8, what="activation")),
        ):
            assert not run.jobs.runner_of(gone).fused
        assert run.jobs.runner_of(replace(plan, dropped={"blocks.0.norm1": {NORM: torch.tensor([1])}})).fused


@pytest.mark.parametrize(("seconds", "chosen"), [((2, 1, 3), 8), ((3, 2, 1), 32), ((1, 2, 2), None)])
def test_the_faster_is_chosen(seconds: tuple[int, ...], chosen: int | None, device: str) -> None:
    subject = tiny(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)), device=device)
    task = subject.task
    collated = {size: [task.batch("validation", range(size))[0]] for size in (8, 32)}
    candidate = Candidate(subject, torch.device(device), collated, None, False)
    sizes = (8, 8, 32)

    def ticks() -> Iterator[float]:
        now = 0.0
        for _ in range(tune.ROUNDS):
            for took, size in zip(seconds, sizes, strict=True):
                yield now
                now += took * size
                yield now

    candidate.clock = ticks().__next__
    least = min(took for took, size in zip(seconds, sizes, strict=True) if size == (chosen or 8) and (chosen or took == seconds[0]))
    assert candidate.fused((8, 32)) == ((chosen, pytest.approx(least)) if device == "cpu" else (None, None))
