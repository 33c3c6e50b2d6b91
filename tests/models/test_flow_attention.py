from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explorer import Recipe, compress
from explorer.compress.apply import effective_weights
from explorer.compress.resolve import resolve
from explorer.models.attention import PrunedAttention, PrunedEncoderLayer
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from explorer.models.task import to_device
from explorer.models.trial import difference
from tests.contract.nets import exact, tiny, wide

D = 8


class SelfAttention(nn.Module):
    """Attention between two layers; ``out`` says what of its two values is used."""

    def __init__(self, out: str = "first", **settings: Any) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, D), nn.Linear(D, 3)
        self.attn = nn.MultiheadAttention(D, 4, **settings)
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        found, weights = self.attn(h, h, h, need_weights=self.out != "none")
        if self.out == "weights":
            found = found + weights.mean()
        return self.head(found).mean(1)


class CrossAttention(nn.Module):
    """Queries of one width, keys and values of others, and a mask."""

    def __init__(self, kdim: int = 6, vdim: int = 7, bias: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(5, D), nn.Linear(5, kdim), nn.Linear(5, vdim)
        self.attn = nn.MultiheadAttention(D, 2, kdim=kdim, vdim=vdim, bias=bias, batch_first=True)
        self.head = nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(2, 6, dtype=torch.bool, device=x.device).triu(1)
        out = self.attn(self.q(x[:, :2]), self.k(x), self.v(x), attn_mask=mask, need_weights=False)[0]
        return self.head(out).mean(1)


class Encoder(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, D), nn.Linear(D, 3)
        self.layer = nn.TransformerEncoderLayer(D, 4, 12, **{"batch_first": True, **settings})

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x))).mean(1)


def subject(module: nn.Module, device: str) -> Subject:
    torch.manual_seed(0)
    for parameter in module.parameters():  # biases of attention start at zero, which would hide them
        nn.init.normal_(parameter, std=0.5)
    return tiny(module, (6, 5), device=device)


def gap(found: Subject, recipe: Recipe) -> tuple[float, nn.Module]:
    """Masked against removed, in float64 on the CPU."""
    plan = resolve(found, recipe)
    small = compress(found, recipe).cpu().double()
    inputs = found.example(8).cpu().double()
    with Replica(found.module, dtype=torch.float64).weights(effective_weights(found, plan), plan.norms) as masked, torch.no_grad():
        return difference(masked(inputs), small(inputs)), small


SELF = [{}, {"batch_first": True}, {"bias": False}, {"batch_first": True, "bias": False}]


@pytest.mark.parametrize("out", ["first", "none"])
@pytest.mark.parametrize("settings", SELF, ids=str)
def test_heads_of_an_attention(settings: dict[str, Any], out: str, device: str) -> None:
    found = subject(SelfAttention(out, **settings), device)
    group = next(g for g in found.groups if g.name == "attn")
    assert (group.kind, group.units, group.producers) == ("head", 4, ("attn.in_proj_weight",))
    worst, small = gap(found, Recipe().prune("attn.in_proj_weight", sparsity=0.5, granularity="unit"))
    assert worst <= 1e-9
    attn = small.attn
    assert isinstance(attn, PrunedAttention) and (attn.num_heads, attn.head_dim, attn.embed_dim) == (2, 2, D)
    assert attn.in_proj_weight.shape == (12, D) and attn.out_proj.weight.shape == (D, 4)
    assert set(small.state_dict()) == set(found.module.state_dict())


@pytest.mark.parametrize("bias", [True, False])
def test_heads_and_widths_of_separate_projections(bias: bool, device: str) -> None:
    found = subject(CrossAttention(bias=bias), device)
    kinds = {g.name: (g.kind, g.units) for g in found.groups}
    assert kinds["attn"] == ("head", 2) and kinds["k"] == ("neuron", 6) and kinds["v"] == ("neuron", 7) and kinds["q"] == ("neuron", D)
    worst, small = gap(found, Recipe().prune("*", sparsity=0.5, granularity="unit"))
    assert worst <= 1e-9
    attn = small.attn
    assert (attn.num_heads, attn.query_dim, attn.kdim, attn.vdim, attn.embed_dim) == (1, 4, 3, 3, 4)


def test_a_width_that_only_some_of_the_inputs_carry_is_refused(device: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k, self.head = nn.Linear(5, 5), nn.Linear(5, 3)
            self.attn = nn.MultiheadAttention(5, 1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            k = self.k(x)
            return self.head(self.attn(x, k, k)[0]).mean(1)

    found = subject(Mixed(), device)
    assert "attn" in found.structure.refused["k.weight"]


def test_used_attention_weights_are_refused(device: str) -> None:
    found = subject(SelfAttention("weights"), device)
    assert "attn" not in found.structure.cuts and "weights of attn" in found.structure.refused["attn.in_proj_weight"]


@pytest.mark.parametrize("settings", [{"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
def test_keys_of_its_own_are_refused(settings: dict[str, Any], device: str) -> None:
    found = subject(SelfAttention(**settings), device)
    assert "keys and values of its own" in found.structure.refused["attn.in_proj_weight"]


LAYERS = [{}, {"norm_first": True}, {"batch_first": False}, {"bias": False}, {"activation": "gelu"}]


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("settings", LAYERS, ids=str)
def test_heads_and_neurons_of_an_encoder_layer(settings: dict[str, Any], fast: bool, device: str) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        found = subject(Encoder(**settings), device)
        kinds = {g.name: (g.kind, g.units) for g in found.groups}
        assert kinds["layer.self_attn"] == ("head", 4) and kinds["layer.linear1"] == ("neuron", 12)
        worst, small = gap(found, Recipe().prune("layer.*", sparsity=0.5, granularity="unit"))
        assert worst <= 1e-9
        assert type(small.layer) is PrunedEncoderLayer and small.layer.self_attn.num_heads == 2
        again, _ = gap(tiny(small.float(), (6, 5), device=device), Recipe().prune("layer.*", sparsity=0.5, granularity="unit"))
        assert again <= 1e-9
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("mask", ["none", "causal", "float", "heads", "padding", "both"])
@pytest.mark.parametrize("batched", [True, False])
def test_the_module_in_its_place_answers_as_the_original(bias: bool, batch_first: bool, weights: bool, mask: str, batched: bool, device: str) -> None:
    torch.manual_seed(0)
    original = nn.MultiheadAttention(D, 2, bias=bias, batch_first=batch_first, dtype=wide(device)).eval()
    if bias:
        nn.init.normal_(original.in_proj_bias)
        nn.init.normal_(original.out_proj.bias)
    made = PrunedAttention.like(original.to(device))
    q, k = torch.randn(3, 5, D), torch.randn(3, 6, D)
    causal = torch.ones(5, 6, dtype=torch.bool).triu(1)
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[:, 4:] = True
    given: dict[str, Any] = {
        "none": {}, "causal": {"attn_mask": causal, "is_causal": True}, "float": {"attn_mask": torch.randn(5, 6)},
        "heads": {"attn_mask": torch.randn(6 if batched else 2, 5, 6)}, "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": causal, "key_padding_mask": padding},
    }[mask]  # fmt: skip
    if not batched:
        q, k = q[0], k[0]
        given = {key: value[0] if key == "key_padding_mask" else value for key, value in given.items()}
    elif not batch_first:
        q, k = q.transpose(0, 1), k.transpose(0, 1)
    q, k, given = (to_device(one, device, wide(device)) for one in (q, k, given))
    for average in (True, False):
        one = original(q, k, k, need_weights=weights, average_attn_weights=average, **given)
        other = made(q, k, k, need_weights=weights, average_attn_weights=average, **given)
        assert difference(one[0], other[0]) <= exact(device) / 1000 and one[0].shape == other[0].shape
        assert (one[1] is None) == (other[1] is None)
        assert one[1] is None or difference(one[1], other[1]) <= exact(device) / 1000
