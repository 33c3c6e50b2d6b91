"""What a page asks of a model that cannot be run, or is too large to be tried, makes no copy of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import explorer
from explorer.analysis.criteria import registry
from explorer.models import memory
from explorer.models.chains import chains
from tests.contract.nets import classification


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the parameters of which a copy was made, by deepcopy or by another type."""
    seen: list[tuple[int, ...]] = []
    before, double = nn.Parameter.__deepcopy__, nn.Module.double

    def copied(self: Tensor, memo: dict) -> Tensor:  # not asked for what share() has put into the memo
        if id(self) not in memo:
            seen.append(tuple(self.shape))
        return before(self, memo)

    def doubled(self: nn.Module) -> nn.Module:
        seen.extend(tuple(p.shape) for p in self.parameters())
        return double(self)

    monkeypatch.setattr(nn.Parameter, "__deepcopy__", copied)
    monkeypatch.setattr(nn.Module, "double", doubled)
    yield seen


def asked(subject: explorer.Subject) -> dict[str, str | None]:
    """What the page Explore asks before anything is changed; {criterion: why it cannot score the first layer}."""
    assert subject.layers and subject.groups == [] and subject.blocks == [] and chains(subject) == ()
    return {name: registry[name]().is_compatible(subject, subject.layers[0].name) for name in registry}


def test_weights_alone(copies: list[tuple[int, ...]], tmp_path: Path, device: str) -> None:
    save_file({"a.weight": torch.randn(30, 20), "b.weight": torch.randn(10, 30)}, tmp_path / "m.safetensors")
    subject = explorer.load(tmp_path / "m.safetensors")
    subject.module.to(device)
    copies.clear()
    found = asked(subject)
    assert not copies and found["l1"] is None and found["synflow"] and "weights only" in found["synflow"]


def test_a_model_too_large_to_be_tried(
    copies: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
    assert explorer.Subject(net, classification((6,))).groups and copies  # else
    copies.clear()
    monkeypatch.setattr(memory, "SHARE", 0)
    subject = explorer.Subject(net, classification((6,)))
    found = asked(subject)
    assert not copies and found["l1"] is None and "in float64" in str(found["synflow"])
    assert all("third of this machine" in why for why in subject.structure.refused.values())
    assert explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.5), device=device).sparsity == 0.5
