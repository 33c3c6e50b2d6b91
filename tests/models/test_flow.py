"""How single operations pass units on: the flow is right by itself, before any trial removal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.models.flow import Flow
from explorer.models.groups import look, propose
from explorer.models.trial import why_not
from tests.contract.nets import randomize, tiny


class Net(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.head, self.slopes, self.bn = nn.Linear(6, 8), nn.Linear(8, 3), nn.PReLU(8), nn.BatchNorm1d(8)
        self.register_buffer("scale", torch.full((8,), 0.5))
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


GO: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "where with a number": lambda s, x: s.head(torch.where(s.a(x) > 0, s.a(x), torch.zeros(()))),
    "larger of two": lambda s, x: s.head(torch.max(s.a(x), -s.a(x))),
    "largest over time": lambda s, x: s.head(s.a(x[:, None].expand(-1, 4, -1)).max(1).values),
    "largest over time, by index": lambda s, x: s.head(s.a(x[:, None].expand(-1, 4, -1)).max(dim=1)[0]),
    "a buffer": lambda s, x: s.head(torch.sigmoid(s.a(x) * s.scale)),
    "prelu": lambda s, x: s.head(s.slopes(s.a(x))),
    "transposed attribute": lambda s, x: s.head(torch.sigmoid(s.a(x)).T.T),
    "halves swapped": lambda s, x: s.head(torch.cat(torch.sigmoid(s.a(x)).chunk(2, -1)[::-1], -1)),
    "functional linear": lambda s, x: F.linear(torch.sigmoid(s.a(x)), s.head.weight, s.head.bias),
    "stack and mean": lambda s, x: s.head(torch.stack([s.a(x), s.bn(s.a(x))], 1).mean(1)),
}
STAY: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "sum": (lambda s, x: s.head(s.a(x) * s.a(x).sum(-1, keepdim=True)), "sum runs over"),
    "largest over units": (lambda s, x: s.head(s.a(x) - s.a(x).max(-1, keepdim=True).values), "max runs over"),
    "standard deviation": (lambda s, x: s.head(s.a(x) / (s.a(x).std(-1, keepdim=True) + 1)), "std runs over"),
    "softmax": (lambda s, x: s.head(F.softmax(s.a(x), -1)), "softmax"),
    "sort": (lambda s, x: s.head(s.a(x).sort(-1).values), "sort"),
    "outer product": (lambda s, x: s.head((s.a(x)[:, :, None] * s.a(x)[:, None, :]).sum(-1)), "sum runs over"),
    "an unknown operation": (lambda s, x: s.head(torch.heaviside(s.a(x), s.scale)), "heaviside"),
    "a vector in the forward": (lambda s, x: s.head(s.a(x) + torch.arange(8.0)), "values that stay"),
    "padding": (lambda s, x: s.head(F.pad(s.a(x)[:, 2:], (1, 1))), "pad"),
}


@pytest.mark.parametrize("name", GO)
def test_units_that_go(name: str, device: str) -> None:
    subject = tiny(randomize(Net(GO[name])), device=device)
    cuts, refused = propose(subject)
    assert [(cut.group.name, cut.group.units) for cut in cuts if cut.group.units > 1][0][0] == "a", refused
    assert all(why_not(subject, cut) is None for cut in cuts)


@pytest.mark.parametrize("name", STAY)
def test_units_that_stay_with_the_reason(name: str, device: str) -> None:
    forward, why = STAY[name]
    cuts, refused = propose(tiny(randomize(Net(forward)), device=device))
    assert cuts == [] and why in refused["a.weight"]


@pytest.mark.parametrize("how", ["a count of units", "a list of indices"])
def test_what_the_flow_cannot_know_is_found_by_trying(how: str, device: str) -> None:
    forwards = {
        "a count of units": lambda s, x: s.head(s.a(x) / s.a(x).shape[-1]),
        "a list of indices": lambda s, x: s.head(torch.sigmoid(s.a(x))[:, [7, 6, 5, 4, 3, 2, 1, 0]]),
    }
    subject = tiny(randomize(Net(forwards[how])), device=device)
    assert subject.groups == [] and len(subject.structure.refused["a.weight"]) > 20


class Gained(nn.Module):
    """A learned gain, which is one unit alone, and many residual sums behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.parts, self.head = nn.Linear(1, 1), nn.ModuleList(nn.Linear(4, 4) for _ in range(16)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :4] * self.gain(torch.ones(1, 1, dtype=x.dtype, device=x.device))
        for part in self.parts:
            x = x + part(x)
        return self.head(x)


def test_a_lone_unit_is_marked_once_however_many_sums_it_goes_through(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    merge, most = Flow.merge, 0

    def counted(flow: Flow, *given: Any) -> Any:
        nonlocal most
        found = merge(flow, *given)
        most = max(most, len(found))
        assert most < 100, "marks double at every sum"
        return found

    monkeypatch.setattr(Flow, "merge", counted)
    look(tiny(randomize(Gained()), device=device))
    assert 1 <= most <= 3
