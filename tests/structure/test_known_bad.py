"""Each way in which removal of units is known to go wrong elsewhere, once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.compress.apply import compress, verify
from explorer.compress.resolve import resolve
from explorer.core.errors import UnsupportedError
from explorer.core.recipe import Recipe
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from tests.contract.nets import randomize, state, tiny, unchanged
from tests.structure.nets_sequence import MeanOverTime, Stacked
from tests.structure.nets_transformer import Encoder, ModuleEncoder


def halved(subject: Subject, target: str = "*") -> tuple[nn.Module, float]:
    """Half of the units gone, and the difference to masking them; the subject as it was, and fewer parameters."""
    before, digest = state(subject.module), subject.digest
    plan = resolve(subject, Recipe().prune(target, sparsity=0.5, granularity="unit"))
    module = compress(subject, plan)
    assert unchanged(subject.module, before) and subject.digest == digest
    assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in subject.module.parameters())
    return module, verify(subject, plan, module)


def test_a_single_lstm_layer_loses_units_and_the_original_stays_whole(device: str) -> None:
    subject = tiny(randomize(Stacked("LSTM", 1, False, True, True, 0)), (5, 4), device=device)
    module, gap = halved(subject)
    assert gap <= 1e-5 and module.rnn.hidden_size == 3 and module.rnn.weight_hh_l0.shape == (12, 3)
    assert subject.module.rnn.hidden_size == 6


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_a_reported_removal_has_happened(kind: str, device: str) -> None:
    module, gap = halved(tiny(randomize(Stacked(kind, 1, False, True, True, 0)), (5, 4), device=device))
    assert gap <= 1e-5 and module.rnn.hidden_size == 3 and module.head.in_features == 3


def test_depthwise_filters_before_a_pooled_map_that_is_flattened(device: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Sigmoid(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3)
    )  # fmt: skip
    module, gap = halved(tiny(randomize(net), (2, 12, 12), device=device))
    assert gap <= 1e-5 and module[1].groups == module[1].out_channels == 4 and module[5].weight.shape == (3, 64)


@pytest.mark.parametrize("groups", [2, 8])
def test_channels_of_grouped_convolutions_are_not_shifted_into_another_group(groups: int, device: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 16, 3), nn.Sigmoid(), nn.Conv2d(16, 24, 3, groups=groups), nn.Sigmoid(), nn.Flatten(), nn.Linear(384, 3)
    )
    module, gap = halved(tiny(randomize(net), (2, 8, 8), device=device))
    assert gap <= 1e-5 and module[2].groups == min(groups, 4) and module[2].out_channels == 12 == module[5].in_features // 16
    assert module[2].weight.shape[1] * module[2].groups == module[2].in_channels == 8 == module[0].out_channels


def test_heads_of_a_module_go_and_not_only_its_neurons(device: str) -> None:
    subject = tiny(randomize(ModuleEncoder()), (5, 4), device=device)
    module, gap = halved(subject, "encoder.self_attn.in_proj_weight")
    assert gap <= 1e-5 and module(subject.example(2)).shape == (2, 3)


@pytest.mark.parametrize("how", ["unbind", "chunk", "matmul", "masked"])
def test_heads_alone_go_and_are_never_mixed(how: str, device: str) -> None:
    """Nobody declares how many heads there are; yet a unit is one head's rows of q, of k and of v."""
    subject = tiny(randomize(Encoder(how)), (5, 4), device=device)
    cut = subject.structure.cuts["attn"]
    for piece in cut.slices:
        if piece.role in ("producer", "consumer"):
            heads = piece.index // 4 % 3  # rows 4 * h .. 4 * h + 3 of each of q, k and v
            assert torch.equal(heads, torch.arange(3)[:, None].expand_as(heads))
    module, gap = halved(subject, cut.group.producers[0])
    assert gap <= 1e-5 and module.attn.out.in_features == 4


def test_a_head_size_written_in_the_forward_is_cut_by_whole_heads_or_refused(device: str) -> None:
    class Hard(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            h = self.norm1(self.embed(x))
            q, k, v = (f(h).view(-1, 5, 3, 4).transpose(1, 2) for f in (self.attn.q, self.attn.k, self.attn.v))
            return self.head(self.attn.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1))

    subject = tiny(randomize(Hard("matmul")), (5, 4), device=device)
    before = state(subject.module)
    with pytest.raises(UnsupportedError, match="forward pass fails"):
        resolve(subject, Recipe().prune("attn.q", sparsity=0.5, granularity="unit"))
    assert unchanged(subject.module, before)


def test_a_batch_norms_shift_goes_with_its_channel(device: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 3)
    )
    module, gap = halved(tiny(randomize(net), (2, 8, 8), device=device), "0")
    assert gap <= 1e-5 and module[1].num_features == len(module[1].running_var) == 3


def test_a_sigmoid_of_nothing_is_not_nothing(device: str) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3))
    subject = tiny(randomize(net), device=device)
    module, gap = halved(subject, "0")
    kept = resolve(subject, Recipe().prune("0", sparsity=0.5, granularity="unit")).kept["0"]
    with torch.no_grad():
        rows = {"0.weight": torch.zeros(8, 6, device=device).index_copy(0, kept.to(device), net[0].weight[kept])}
        x = subject.example(8)
        assert gap <= 1e-5 and (nn.utils.stateless.functional_call(net, rows, (x,)) - module(x)).abs().max() > 0.05


def test_statistics_of_a_layer_norm_are_those_of_the_survivors(device: str) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    module, gap = halved(tiny(randomize(net), device=device), "0")
    assert gap <= 1e-5 and module[1].normalized_shape == (4,)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_swapped_weights_of_recurrent_layers_are_not_ignored(kind: type[nn.Module], device: str) -> None:
    subject = tiny(randomize(Stacked(kind.__name__, 2, True, True, True, 0)), (5, 4), device=device)
    x = subject.example(4)
    with torch.no_grad():
        before = subject.copy()(x)
        for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0_reverse"):
            swapped = {name: torch.zeros_like(subject.weight(name))}
            with Replica(subject.module, torch.device(device), None).weights(swapped) as masked:
                assert (masked(x) - before).abs().max() > 1e-4


def test_large_outputs_are_settled_in_float64(device: str) -> None:
    net = randomize(nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 3)))
    with torch.no_grad():
        net[4].weight.mul_(300)
    _, gap = halved(tiny(net, (64,), device=device))
    assert gap <= 1e-5


def test_states_that_are_averaged_over_time_do_not_leak(device: str) -> None:
    """An LSTM unit whose rows are zero still emits something: it must not be read."""
    _, gap = halved(tiny(randomize(MeanOverTime()), (6, 4), device=device))
    assert gap <= 1e-5


def test_statistics_taken_by_a_function_are_refused_since_nobody_can_take_them_over_the_survivors(device: str) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(torch.sigmoid(F.layer_norm(h, h.shape[-1:])))

    subject = tiny(randomize(Plain()), device=device)
    assert not subject.groups and "layer_norm takes its statistics over them" in subject.structure.refused["a.weight"]


@pytest.mark.parametrize("how", ["vector", "computed", "constant"])
def test_products_that_are_not_followed_are_refused(how: str, device: str) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.w = nn.Linear(6, 8), nn.Linear(8, 3), nn.Parameter(torch.ones(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.sigmoid(self.a(x))
            if how == "vector":
                return self.b(h * (h @ self.w[0])[:, None])
            if how == "computed":
                return self.b(torch.sigmoid(h @ torch.softmax(self.w, 0)))
            return self.b(torch.sigmoid(torch.einsum("bi,ij->bj", h, torch.ones(8, 8, device=h.device))))

    subject = tiny(randomize(Product()), device=device)
    assert "a" not in [group.name for group in subject.groups] and subject.structure.refused["a.weight"]
