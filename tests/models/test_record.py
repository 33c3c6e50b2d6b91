"""Recorded calls show the same units as traces do, and every way that the data can take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explorer.models import branches
from explorer.models.calls import Call
from explorer.models.decisions import Decisions
from explorer.models.groups import _aliases, _leaf, follow, propose
from explorer.models.record import record
from explorer.models.structure import Cut
from explorer.models.subject import Subject
from tests.contract.nets import classification, randomize, tiny
from tests.structure.test_zoo import CHOSEN
from tests.structure.zoo import CASES, Case

UNUSED = ("a list with an unused layer", "einsum")  # parameters that a trace shows to be unused; a record does not know
BOTH = [case for case in [*CASES, *CHOSEN[::4]] if case.name not in UNUSED]


def described(cuts: list[Cut]) -> dict[str, object]:
    """All that a cut says, but for the order of tensors within it."""
    return {
        cut.group.name: (
            cut.group.kind, cut.group.units, set(cut.group.producers), set(cut.group.members),
            {(s.tensor, s.dim, s.role): s.index.tolist() for s in cut.slices},
        )
        for cut in cuts
    }  # fmt: skip


@pytest.mark.parametrize("case", BOTH, ids=lambda case: case.name)
def test_a_recorded_model_has_the_groups_of_the_traced_one(case: Case, device: str) -> None:
    subject = case.subject(device)
    recorded, ways = branches.follow(subject, _leaf, _aliases(subject.module))
    traced, _ = propose(subject, follow(subject))
    found, _ = propose(subject, recorded)
    assert described(found) == described(traced) and len(ways) >= 1


class Chooses(nn.Module):
    def __init__(self, choose: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.a, self.b, self.choose = nn.Linear(6, 4), nn.Linear(4, 3), choose

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h.abs() if self.choose(x) else h)


CHOICES: list[tuple[str, Callable[[Tensor], bool]]] = [
    ("a comparison", lambda x: bool(x.sum() > 1e6)),
    ("any", lambda x: bool((x > 1e6).any())),
    ("not", lambda x: not (x < 1e6).all()),
    ("item of a bool", lambda x: (x.sum() > 1e6).item()),
    ("a number", lambda x: x.sum().item() > 1e6),
    ("a number computed with", lambda x: 1 - abs(x.max().item() * 2) ** 2 / 3 < -1e6),
    ("a number as such", lambda x: bool((x.max() > 1e6).float().item())),
    ("equality of tensors", lambda x: torch.equal(x, x + 1)),
    ("closeness of tensors", lambda x: torch.allclose(x, x + 1)),
]


@pytest.mark.parametrize("choose", [pytest.param(choose, id=name) for name, choose in CHOICES])
def test_both_ways_are_recorded_though_the_data_take_one(choose: Callable[[Tensor], bool], device: str) -> None:
    subject = tiny(Chooses(choose), device=device)
    _, ways = branches.follow(subject, _leaf, {})
    assert sorted(way.outcomes[-1] for way in ways) == [False, True]
    module = subject.copy().cpu().double()
    x = ways[0].call.args[0].double()
    plain, other = (way(module) for way in ways)
    assert torch.equal(plain, module.b(torch.tanh(module.a(x)))) and not choose(x)
    assert not torch.equal(plain, other)


def test_a_forced_way_is_taken_whatever_the_data_say(device: str) -> None:
    x = torch.ones(3, device=device)
    with Decisions((False, True)) as decided:
        assert not x.sum() > 0 and bool(x.sum() < 0) and x.sum() > 0
    assert [outcome for _, outcome in decided.made] == [False, True, True]
    assert all(where.startswith("test_record.py:") for where, _ in decided.made)
    with Decisions((False,)) as shapes:  # nothing of this depends on the data
        assert x.shape == (3,) and x.dim() == 1 and x.is_floating_point() and len(x) == 3 and x.is_contiguous()
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).to(device).eval()(torch.ones(1, 3, 4, device=device))
    assert shapes.made == []


def test_what_a_branch_raises_is_told_from_what_fails_in_it(device: str) -> None:
    class Net(nn.Module):
        def __init__(self, fails: bool) -> None:
            super().__init__()
            self.a, self.b, self.fails = nn.Linear(6, 4), nn.Linear(4, 3), fails

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            if x.max() > 1e6:
                if self.fails:
                    return self.b(h.view(7, -1))
                raise ValueError("too large")
            return self.b(torch.tanh(h))

    call = Call((torch.randn(2, 6).to(device),), {})
    raised, failed = (record(Net(fails).to(device).eval(), call, _leaf, (True,)) for fails in (False, True))
    assert raised.raised and raised.broken is None
    assert not failed.raised and "view" in str(failed.broken) or "shape" in str(failed.broken)
    assert [g.name for g in tiny(Net(False), device=device).groups] == ["a"]
    refused = tiny(Net(True), device=device).structure.refused["a.weight"]
    assert "could not be looked at" in refused and "test_record.py:" in refused
    with pytest.raises(RuntimeError):  # without force, its errors are the model's own
        record(Net(False).to(device).eval(), Call((torch.randn(2, 5).to(device),), {}), _leaf)


def test_more_ways_than_are_looked_at_keep_what_the_deciding_forward_has_in_hand(device: str) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 5), nn.Linear(5, 4)

        def forward(self, h: Tensor) -> Tensor:
            return self.fc2(torch.sigmoid(self.fc1(h)))

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.inner, self.b = nn.Linear(6, 4), Inner(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            for column in range(6):
                h = self.inner(h) if x[0, column] > 0 else torch.relu(h)
            return self.b(h)

    subject = tiny(randomize(Steps()), device=device)
    assert [(g.name, g.units) for g in subject.groups] == [("inner.fc1", 5)]
    assert "more ways" in subject.structure.refused["a.weight"]


def test_recording_leaves_the_module_as_it_was(device: str) -> None:
    module = Chooses(lambda x: bool(x.sum() > 0)).to(device).eval()
    record(module, Call((torch.randn(2, 6).to(device),), {}), _leaf)
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())


def test_layers_in_containers_and_within_other_layers_are_followed(device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnns = nn.ModuleDict({"a": nn.LSTM(4, 12, batch_first=True)})
            self.encoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(12, 3, 10, 0.0, batch_first=True), 2, enable_nested_tensor=False
            )
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.rnns["a"](x)[0]
            for layer in self.encoder.layers[: 2 if x.shape[1] > 2 else 1]:
                h = layer(h)
            return self.head(h.mean(1))

    subject = tiny(randomize(Net()), (5, 4), device)
    found = {g.name: (g.kind, g.units) for g in subject.groups}
    layers = {
        f"encoder.layers.{i}.{part}": one
        for i in (0, 1)
        for part, one in (("self_attn", ("head", 3)), ("linear1", ("neuron", 10)))
    }
    assert found == layers | {"rnns.a.l0": ("width", 12)}  # the stream that both layers write


def test_a_task_that_calls_its_module_twice_is_followed_through_both_calls(device: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.sigmoid(self.a(x)))

    task = classification((6,), n=8, forward=lambda module, x: module(x) + module(-x))
    subject = Subject(randomize(Two()).to(device), task, "two calls")
    assert [(g.name, g.units) for g in subject.groups] == [("a", 4)]
