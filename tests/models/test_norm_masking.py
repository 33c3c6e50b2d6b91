"""Units across a norm: the masked run takes its statistics over the survivors, as the smaller model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer import Recipe, compress, evaluate
from explorer.compress.apply import effective_weights
from explorer.compress.resolve import resolve
from explorer.core.errors import UnsupportedError
from explorer.evaluate.answers import answers
from explorer.models.attention import PrunedEncoder
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from explorer.models.trial import difference
from tests.contract.nets import few, tiny

D = 8


class Stream(nn.Module):
    """A residual stream that is normalized before each of its readers, with a position parameter and a class token."""

    def __init__(self, norm: Callable[[], nn.Module], after: bool = False) -> None:
        super().__init__()
        self.embed, self.up, self.down, self.head = nn.Linear(5, D), nn.Linear(D, 6), nn.Linear(6, D), nn.Linear(D, 3)
        self.norm, self.last, self.after = norm(), norm(), after
        self.position, self.token = nn.Parameter(torch.randn(1, 7, D)), nn.Parameter(torch.randn(1, 1, D))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), self.embed(x)], 1) + self.position
        h = self.norm(h + self.down(F.gelu(self.up(h)))) if self.after else h + self.down(F.gelu(self.up(self.norm(h))))
        return self.head(self.last(h)[:, 0])


class Channels(nn.Module):
    def __init__(self, groups: int, affine: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, D, 3), nn.GroupNorm(groups, D, affine=affine)
        self.next, self.head = nn.Conv2d(D, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.next(F.relu(self.norm(self.conv(x))))).mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, D), nn.Linear(D, 3)
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(D, 2, 12, **{"batch_first": True, **settings}) for _ in range(2))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x))).mean(1)


def random(module: nn.Module, device: str, shape: tuple[int, ...] = (6, 5)) -> Subject:
    """Nothing at its initial value: a norm's weight is no one, its bias no zero."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    return tiny(module, shape, device=device)


def gap(subject: Subject, recipe: Recipe) -> tuple[float, nn.Module]:
    """Masked against removed, in float64, on the CPU; every plan here must need the norms to be told."""
    plan = resolve(subject, recipe)
    small = compress(subject, recipe).cpu().double()
    inputs, replica = subject.example(8).cpu().double(), Replica(subject.module, dtype=torch.float64)
    weights = effective_weights(subject, plan)
    with torch.no_grad():
        with replica.weights(weights, plan.norms) as masked:
            worst = difference(masked(inputs), small(inputs))
        with replica.weights(weights) as untold:
            apart = difference(untold(inputs), small(inputs))
    assert apart > 1e-3 or not plan.norms
    assert not any(child._forward_hooks for child in replica.module.modules())
    return worst, small


HALF = {"sparsity": 0.5, "granularity": "unit"}
NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: nn.LayerNorm(D),
    "layer without bias": lambda: nn.LayerNorm(D, bias=False),
    "layer without affine": lambda: nn.LayerNorm(D, elementwise_affine=False),
    "rms": lambda: nn.RMSNorm(D),
    "rms without affine": lambda: nn.RMSNorm(D, eps=1e-3, elementwise_affine=False),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_width_of_a_residual_stream(norm: str, after: bool, device: str) -> None:
    subject = random(Stream(NORMS[norm], after), device)
    group = next(g for g in subject.groups if g.name == "embed")
    assert (group.kind, group.units) == ("width", D) and set(group.producers) == {"embed.weight", "down.weight"}
    worst, small = gap(subject, Recipe().prune("embed", **HALF))
    assert worst <= 1e-9
    assert small.norm.normalized_shape == (4,) and small.position.shape == (1, 7, 4) and small.token.shape == (1, 1, 4)
    assert set(small.state_dict()) == set(subject.module.state_dict())
    assert gap(subject, Recipe().prune("*", **HALF))[0] <= 1e-9


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("groups", "units"), [(1, D), (2, 2), (4, 4), (D, D)])
def test_channels_through_group_norm(groups: int, units: int, affine: bool, device: str) -> None:
    subject = random(Channels(groups, affine), device, (1, 8, 8))
    group = next(g for g in subject.groups if g.name == "conv")
    assert (group.kind, group.units) == ("channel", units)  # with several groups, a unit is a whole one
    plan = resolve(subject, Recipe().prune("conv", **HALF))
    small = compress(subject, plan).cpu()
    assert small.norm.num_channels == D // 2 and small.norm.num_groups == max(1, groups // 2)
    inputs = subject.example(8).cpu().double()
    with Replica(subject.module, dtype=torch.float64).weights(effective_weights(subject, plan), plan.norms) as masked:
        assert difference(masked(inputs), small.double()(inputs)) <= 1e-9


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"bias": False}, {"batch_first": False}], ids=str)
def test_the_width_of_encoder_layers(settings: dict[str, Any], device: str) -> None:
    subject = random(Encoder(**settings), device)
    kinds = {g.name: (g.kind, g.units) for g in subject.groups}
    assert kinds["embed"] == ("width", D) and kinds["layers.0.self_attn"] == ("head", 2)
    for target in ("embed", "*"):
        worst, small = gap(subject, Recipe().prune(target, **HALF))
        assert worst <= 1e-9
    assert small.layers[1].norm2.normalized_shape == (4,) and small.layers[0].self_attn.in_proj_weight.shape == (12, 4)


class Whole(nn.Module):
    """nn.TransformerEncoder, with its own last norm or without, and a mask."""

    def __init__(self, norm: bool = True, masked: bool = False) -> None:
        super().__init__()
        self.embed, self.head, self.masked = nn.Linear(5, D), nn.Linear(D, 3), masked
        layer = nn.TransformerEncoderLayer(D, 4, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(D) if norm else None)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(6, device=x.device, dtype=x.dtype) if self.masked else None
        return self.head(self.encoder(self.embed(x), mask)).mean(1)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_a_whole_encoder(norm: bool, masked: bool, device: str) -> None:
    subject = random(Whole(norm, masked), device)
    kinds = {g.name: (g.kind, g.units) for g in subject.groups}
    assert kinds == {
        "embed": ("width", D), "encoder.layers.0.self_attn": ("head", 4), "encoder.layers.0.linear1": ("neuron", 12),
        "encoder.layers.1.self_attn": ("head", 4), "encoder.layers.1.linear1": ("neuron", 12),
    }  # fmt: skip
    for target in ("embed", "encoder.layers.0.linear1", "encoder.layers.1.self_attn.in_proj_weight", "*"):
        worst, small = gap(subject, Recipe().prune(target, **HALF))
        assert worst <= 1e-9
        assert type(small.encoder) is PrunedEncoder


class Decoder(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.target, self.memory, self.head = nn.Linear(5, D), nn.Linear(5, D), nn.Linear(D, 3)
        self.layer = nn.TransformerDecoderLayer(D, 4, 12, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.target(x[:, :3]), self.memory(x))).mean(1)


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"bias": False}], ids=str)
def test_a_decoder_layer(settings: dict[str, Any], device: str) -> None:
    subject = random(Decoder(**settings), device)
    kinds = {g.name: (g.kind, g.units) for g in subject.groups}
    assert kinds["layer.self_attn"] == kinds["layer.multihead_attn"] == ("head", 4) and kinds["layer.linear1"] == ("neuron", 12)
    assert any(kind == "width" for kind, _ in kinds.values())
    for target in ("layer.multihead_attn.in_proj_weight", "*"):
        assert gap(subject, Recipe().prune(target, **HALF))[0] <= 1e-9


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def fast(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(request.param)
    yield request.param
    torch.backends.mha.set_fastpath_enabled(before)


def test_the_fused_encoder_kernel_does_not_pass_the_norms_by(fast: bool, device: str) -> None:
    subject = random(Encoder(), device)
    assert gap(subject, Recipe().prune("embed", **HALF))[0] <= 1e-9


def test_fashion_vit_loses_half_its_width_exactly(device: str) -> None:
    subject = few("fashion-vit", device=device)
    group = next(g for g in subject.groups if g.kind == "width")
    assert group.units == 64 and "position" in group.members and "head.weight" in group.members
    worst, small = gap(subject, Recipe().prune("patches", **HALF))
    assert worst <= 1e-9 and small.head.in_features == 32 and small.position.shape == (1, 16, 32)


def test_a_module_with_some_of_the_layers_that_write_the_stream_means_its_own_units(device: str) -> None:
    subject = few("fashion-vit", device=device)

    def cut(*targets: str) -> set[str]:
        return set(resolve(subject, Recipe().prune(targets, **HALF)).kept)

    assert cut("blocks.0") == {"blocks.0.attn", "blocks.0.fc1"} and cut("blocks.1.attn") == {"blocks.1.attn"}
    assert cut("patches") == cut("blocks.2.fc2.weight") == cut("blocks.2.attn.out") == {"patches"}
    assert len(cut("*")) == 9 == len(cut("patches", "blocks"))
    with pytest.raises(UnsupportedError, match="only the width 'patches' of the residual stream"):
        cut("blocks.*.fc2")
    both = Recipe().prune("*", sparsity=0.25, granularity="unit").prune("blocks.0", **HALF)
    kept = resolve(subject, both).kept
    assert (len(kept["patches"]), len(kept["blocks.0.fc1"]), len(kept["blocks.1.fc1"])) == (48, 64, 96)


def test_evaluation_and_single_answers_are_those_of_the_smaller_model(device: str) -> None:
    subject = few("fashion-vit", device=device)
    recipe = Recipe().prune("patches", **HALF)
    small = Subject(compress(subject, recipe), subject.task, "small")
    one, other = (evaluate(s, r, split="validation", device=device) for s, r in ((subject, recipe), (small, Recipe())))
    assert one.metrics[one.main] == pytest.approx(other.metrics[other.main], abs=1e-9) and one.parameters == other.parameters
    x = subject.task.dataset("validation")[0][0]
    masked, removed = answers(subject, recipe, x, device=device).after, answers(small, Recipe(), x, device=device).after
    assert [name for name, _ in masked] == [name for name, _ in removed]
    assert [p for _, p in masked] == pytest.approx([p for _, p in removed], abs=1e-5)


def test_a_norm_over_several_dims_is_refused(device: str) -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.LayerNorm((4, 6, 6)), nn.Conv2d(4, 3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x))).flatten(1)

    subject = random(Maps(), device, (1, 8, 8))
    assert "norm (LayerNorm)" in subject.structure.refused["conv.weight"]


def test_soft_cuts_across_a_norm_are_refused(device: str) -> None:
    subject = random(Stream(NORMS["layer"]), device)
    with pytest.raises(UnsupportedError, match="embed: mode='scale' .* last takes its statistics"):
        resolve(subject, Recipe().prune("embed", mode="scale", factor=0.5, **HALF))
    resolve(subject, Recipe().prune("up", mode="scale", factor=0.5, **HALF))


def test_hooks_go_even_if_the_block_raises(device: str) -> None:
    replica = Replica(nn.Sequential(nn.LayerNorm(4)), device)
    with pytest.raises(ZeroDivisionError), replica.weights({}, {"0": torch.tensor([1])}) as module:
        assert module[0]._forward_hooks and not module(torch.randn(2, 4).to(device))[:, 1].any()
        raise ZeroDivisionError
    assert not replica.module[0]._forward_hooks
