"""Sums in one look at memory, the layout they are made in, and a norm's cheaper way back: against plain float64 torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.analysis import evidence as module
from explorer.analysis import reductions
from explorer.analysis.evidence import gather
from explorer.analysis.look import Look
from explorer.analysis.probe import probe
from explorer.analysis.still import still
from explorer.analysis.taps import Watch
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import classification, exact, wide


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(300, 1100), (70_000, 1), (1, 66_000), (7, 3)])
def test_moments_and_products_are_those_of_torch(
    shape: tuple[int, int], dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    dtype = dtype if dtype == torch.float32 else wide(device)
    close = 1e-6 if dtype == torch.float32 else 1e-12
    x, y = (torch.randn(shape).relu().to(dtype) for _ in range(2))
    first = x.double()
    expected = torch.stack([first.sum(0), first.abs().sum(0), first.square().sum(0), (first != 0).double().sum(0)])
    four = [one.reshape(1, 2 - shape[0] % 2, -1, shape[1]) for one in (x, y)]
    for threads in (1, 99):  # on a CPU: compiled where there is enough to do, and torch's own
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found = reductions.moments(x.to(device))
        assert found.dtype == torch.float64 and difference(expected, found) < close
        total = reductions.products(*(one.to(device) for one in four))
        assert difference((four[0].double() * four[1].double()).sum((0, 2)), total.cpu().double()) < close


@pytest.mark.parametrize("affine", [True, False])
def test_a_still_norm_goes_backward_as_autograd(affine: bool, device: str) -> None:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(3, affine=affine).to(device, wide(device)).eval().requires_grad_(False)
    norm.running_mean, norm.running_var = torch.randn(3).to(norm.running_mean), torch.rand(3).to(norm.running_var)  # type: ignore[arg-type]
    x = torch.randn(4, 3, 5, 5).to(device, wide(device)).requires_grad_(True)
    slopes: list[Tensor] = []
    for way in (F.batch_norm, still):
        out = way(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps)
        slopes += torch.autograd.grad((out * torch.arange(5, device=device)).square().sum(), x)
        if affine and way is still:
            norm.weight.requires_grad_(True)
            asked = way(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps)
            assert torch.autograd.grad(asked.square().sum(), norm.weight)[
                0
            ].any()  # PyTorch's own, which adds up for it
    assert difference(slopes[0], slopes[1]) < exact(device)


class Views(nn.Module):
    """Takes a view of what a convolution gives, which only its usual layout allows; width: or does not."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.conv, self.head, self.view = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5), view

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).relu()
        return self.head(h.view(len(h), -1) if self.view else h.flatten(1))


def test_a_forward_that_takes_views_keeps_the_usual_layout(device: str) -> None:
    torch.manual_seed(2)
    module = Views(True)
    task = classification((3, 8, 8), 5)
    plain = Subject(module, task, name="views")
    other = Views(False)
    other.load_state_dict(module.state_dict())
    free = Subject(other, task, name="flat")
    assert not probe(plain).last and probe(plain).problem is None and probe(free).last
    one, two = gather(plain, Look(32, device=device)), gather(free, Look(32, device=device))
    assert module.conv.weight.is_contiguous() and module.conv.weight.grad is None
    for table in ("gradient", "inputs", "squared"):
        a, b = getattr(one, table), getattr(two, table)
        assert a.keys() == b.keys() and difference([a[k] for k in a], [b[k] for k in a]) < 1e-5
    assert all(difference(one.relevance[g][0], two.relevance[g][0]) < 1e-5 for g in one.relevance)


class Several(nn.Module):
    """Two products read the same, a third one something else of that shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.out(self.q(h) * self.k(h).sigmoid() + self.v(h * 0.5))


def test_what_several_products_read_is_summed_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(Several(), classification((6,), 6, n=30), name="several")
    probe(subject)
    counted: list[str] = []
    original = module.sums
    monkeypatch.setattr(module, "sums", lambda tap, ndim: counted.append(tap.name) or original(tap, ndim))
    seen = gather(subject, Look(30, device=device))
    assert counted == ["first.weight", "q.weight", "v.weight", "out.weight"]
    x = torch.stack([subject.task.dataset("train")[i][0] for i in range(30)])
    whole = subject.module.first(x).detach().square().sum(0).sqrt().double()  # type: ignore[operator,union-attr]
    for name, factor in (("q", 1.0), ("k", 1.0), ("v", 0.5)):
        assert difference(seen.inputs[f"{name}.weight"][0, 0], factor * whole) < 1e-6


def test_a_watch_keeps_no_gradient_that_is_not_asked_for(device: str) -> None:
    layer = nn.Linear(3, 2).to(device)
    with Watch({id(layer.weight): "w"}, gradients=()) as watch:
        layer(torch.randn(4, 3, device=device)).sum().backward()
    assert watch.of("w")[0].gradient is None
