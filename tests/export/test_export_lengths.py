"""Forwards that ask for the size of a batch by ``len(x)``, which Python makes a plain number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.models.calls import calls
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import classification, randomize


class ClassToken(nn.Module):
    """A learned token in front of the sequence, as of a Vision Transformer, and a state that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Linear(5, 8), nn.Parameter(torch.ones(1, 1, 8))
        self.gru, self.last = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1)
        states, _ = self.gru(x, torch.zeros(1, len(x), self.gru.hidden_size, device=x.device))
        return self.last(states.reshape(len(x), len(states[0]), -1)[:, -1])


@pytest.mark.parametrize("file", ["safetensors", "onnx", "onnx-int8", "pt2"])
def test_the_length_of_a_batch_is_no_constant(file: str, tmp_path: Path, device: str) -> None:
    torch.manual_seed(0)
    subject = Subject(randomize(ClassToken()).to(device), classification((4, 5)), "token")
    recipe = explorer.Recipe().prune("*", sparsity=0.5, granularity="unit")
    bundle = explorer.export(subject, recipe, tmp_path / "out", formats=[file], device=device)
    assert not any("weights only" in note for note in bundle.notes), bundle.notes
    module = explorer.compress(subject, recipe).cpu()
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in subject.module.parameters())
    if file == "safetensors":
        loaded = explorer.load_exported(bundle.folder)
        for call in calls(subject, module, (1, 7)):
            assert difference(call(module), call(loaded)) <= 1e-6


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_steps_that_round_their_state_take_any_batch(kind: type[nn.RNNBase], tmp_path: Path, device: str) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.last = kind(5, 6, batch_first=True), nn.Linear(6, 3)  # type: ignore[arg-type]

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.rnn(x)[0][:, -1])

    subject = Subject(randomize(Last()).to(device), classification((4, 5)), "steps")
    recipe = explorer.Recipe().quantize("*", bits=6, what="activation")
    assert explorer.export(subject, recipe, tmp_path / "out", formats=["pt2"], device=device).checks["model.pt2"] <= 1e-5
