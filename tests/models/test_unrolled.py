"""Recurrent layers step by step, and attention by whole projections, equal torch's kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from explorer.models.trial import difference
from explorer.models.unrolled import Unrolled, WatchedAttention, unrolled
from tests.contract.nets import exact, wide


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Any:
        return self.inner(*inputs)


KINDS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (nn.LSTM, {}), (nn.LSTM, {"num_layers": 2, "bidirectional": True}), (nn.LSTM, {"num_layers": 2, "proj_size": 3}),
    (nn.GRU, {"bidirectional": True, "batch_first": True}), (nn.GRU, {"bias": False}), (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_outputs_states_and_gradients_are_the_kernels(
    kind: type[nn.Module], settings: dict[str, Any], device: str
) -> None:
    inner = kind(4, 6, **settings).to(device, wide(device))
    whole = Around(inner)
    x = torch.randn(5, 3, 4).to(device, wide(device))
    plain = unrolled(whole)
    assert isinstance(plain.inner, Unrolled) and isinstance(unrolled(inner), Unrolled)
    assert difference(whole(x), plain(x)) < exact(device) and difference(inner(x[0]), unrolled(inner)(x[0])) < exact(
        device
    )
    first = settings.get("batch_first", False)
    lengths = torch.tensor([3, 3, 2, 1, 1] if first else [5, 4, 2])
    packed = pack_padded_sequence(x, lengths, batch_first=first)
    (a, s), (b, t) = inner(packed), unrolled(inner)(packed)
    assert difference([a.data, s], [b.data, t]) < exact(device)
    names = [n for n, _ in whole.named_parameters()]
    assert names == [n for n, _ in plain.named_parameters()]
    for p in plain.parameters():
        p.requires_grad_(True)
    expected = torch.autograd.grad(whole(x)[0].square().sum(), list(whole.parameters()))
    found = torch.autograd.grad(plain(x)[0].square().sum(), list(plain.parameters()))
    assert difference(list(expected), list(found)) < exact(device)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: type[nn.Module], device: str) -> None:
    cell, x = kind(4, 6).to(device, wide(device)), torch.randn(3, 4).to(device, wide(device))
    first, second = cell(x), unrolled(cell)(x)
    assert difference(first, second) < exact(device)
    assert difference(cell(x, first), unrolled(cell)(x, second)) < exact(device)


def test_attention_and_encoders(device: str) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).to(device, wide(device)).eval()
    x, y = (torch.randn(3, n, 8).to(device, wide(device)) for n in (5, 4))
    plain = unrolled(Around(attention))
    assert isinstance(plain.inner, WatchedAttention)
    for inputs in ((x, x, x), (x, y, y)):
        assert difference(attention(*inputs), plain(*inputs)) < exact(device)
    encoder = (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).to(device, wide(device)).eval()
    )
    assert difference(encoder(x), unrolled(encoder)(x)) < exact(device)


def test_the_original_keeps_its_modules_and_weights(device: str) -> None:
    whole = Around(nn.LSTM(4, 6)).to(device).train()
    plain = unrolled(whole)
    assert type(whole.inner) is nn.LSTM and whole.training and not plain.training
    assert plain.inner.weight_ih_l0.data_ptr() == whole.inner.weight_ih_l0.data_ptr()
    assert all(p.requires_grad for p in whole.parameters()) and not any(p.requires_grad for p in plain.parameters())
