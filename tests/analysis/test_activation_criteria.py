"""Activation criteria against hooks written here, on models whose units are easy to find."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.analysis.importance import importance
from explorer.analysis.look import order
from explorer.models.subject import Subject
from tests.analysis.nets import looked, subject
from tests.contract.nets import classification, few, randomize

SAMPLES = 20


def inputs_of(one: Subject, name: str, samples: int = SAMPLES) -> Tensor:
    """What a module reads on the looked-at samples, by a hook."""
    seen: list[Any] = []
    module = one.copy()
    module.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    inputs, _ = looked(one, order(one, samples, 0))
    with torch.no_grad():
        module(inputs)
    return torch.cat(seen).cpu().double()


def check(one: Subject, group: str, values: Tensor, samples: int = SAMPLES) -> None:
    """values [units, everything that was read of it]"""
    expected = {
        "activation": values.abs().mean(1), "variance": values.var(1, unbiased=False), "apoz": (values != 0).double().mean(1),
    }  # fmt: skip
    for criterion, value in expected.items():
        found = importance(one, criterion, granularity="unit", layers=[group], samples=samples)[group]
        assert torch.allclose(found.cpu().double(), value, rtol=1e-4, atol=1e-7), criterion


def test_neurons_and_channels(device: str) -> None:
    one = subject("mlp", device)
    check(one, "fc.0", inputs_of(one, "fc.1").T)
    one = few("fashion-resnet", device=device)
    check(one, "b1.conv1", inputs_of(one, "b1.conv2").transpose(0, 1).flatten(1))


def test_channels_that_are_flattened_own_several_columns(device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 9, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.conv(x)).flatten(1))

    one = Subject(randomize(Net()).to(device), classification((1, 5, 5), n=40))
    check(one, "conv", inputs_of(one, "head").unflatten(1, (4, 9)).transpose(0, 1).flatten(1))


def test_heads_are_read_by_the_output_projection(device: str) -> None:
    one = few("fashion-vit", device=device)
    values = inputs_of(one, "blocks.0.attn.out").unflatten(-1, (4, 16)).movedim(2, 0).flatten(1)
    for criterion, value in {"activation": values.abs().mean(1), "variance": values.var(1, unbiased=False)}.items():
        found = importance(one, criterion, granularity="unit", layers=["blocks.0.attn"], samples=SAMPLES)[
            "blocks.0.attn"
        ]
        assert torch.allclose(found.cpu().double(), value, rtol=1e-4)


def test_hidden_units_are_read_by_the_next_step_and_the_next_layer(device: str) -> None:
    one = few("vowels-lstm", device=device)
    inputs, _ = looked(one, order(one, SAMPLES, 0))
    first = nn.LSTM(12, 64, batch_first=True).to(device)
    first.load_state_dict(
        {
            name: one.weight(f"lstm.{name}")
            if name.startswith("w")
            else one.module.get_parameter(f"lstm.{name}").detach()
            for name in first.state_dict()
        }
    )
    with torch.no_grad():
        h = first(inputs)[0].cpu().double()  # [N, T, 64]
    before = torch.cat([torch.zeros(len(h), 1, 64, dtype=torch.float64), h[:, :-1]], 1)  # what weight_hh reads
    values = torch.cat([before, h], 1).flatten(0, 1).T
    found = importance(one, "activation", granularity="unit", layers=["lstm.l0"], samples=SAMPLES)["lstm.l0"]
    assert torch.allclose(found.cpu().double(), values.abs().mean(1), rtol=1e-4)
    found = importance(one, "variance", granularity="unit", layers=["lstm.l0"], samples=SAMPLES)["lstm.l0"]
    assert torch.allclose(found.cpu().double(), values.var(1, unbiased=False), rtol=1e-4)


@pytest.mark.parametrize("layer", ["b2.conv1", "b2.skip.conv", "stem"])
def test_wanda_of_convolutions_is_the_norm_of_the_patches(layer: str, device: str) -> None:
    one = few("fashion-resnet", device=device)
    conv = one.module.get_submodule(layer)
    x = inputs_of(one, layer)
    patches = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)  # [N, C * K, P]
    norm = patches.square().sum((0, 2)).sqrt().view(one.weight(f"{layer}.weight").shape[1:])
    expected = one.weight(f"{layer}.weight").cpu().abs() * norm
    found = importance(one, "wanda", layers=[f"{layer}.weight"], samples=SAMPLES)[f"{layer}.weight"]
    assert torch.allclose(found.cpu().double(), expected, rtol=1e-4, atol=1e-6)


def test_wanda_of_other_layers(device: str) -> None:
    one = few("fashion-vit", device=device)
    x = inputs_of(one, "blocks.1.fc2").flatten(0, 1)
    expected = one.weight("blocks.1.fc2.weight").cpu().abs() * x.norm(dim=0)
    found = importance(one, "wanda", layers=["blocks.1.fc2.weight"], samples=SAMPLES)["blocks.1.fc2.weight"]
    assert torch.allclose(found.cpu().double(), expected, rtol=1e-4)
    one = few("surnames-gru", device=device)
    tokens, _ = looked(one, order(one, SAMPLES, 0))
    counts = torch.bincount(tokens.flatten().cpu(), minlength=67).sqrt()
    found = importance(one, "wanda", layers=["embedding.weight", "gru.weight_ih_l0"], samples=SAMPLES)
    assert torch.allclose(found["embedding.weight"].cpu(), one.weight("embedding.weight").cpu().abs() * counts[:, None])
    x = one.weight("embedding.weight")[tokens].flatten(0, 1).cpu()
    assert torch.allclose(
        found["gru.weight_ih_l0"].cpu(), one.weight("gru.weight_ih_l0").cpu().abs() * x.norm(dim=0), rtol=1e-4
    )
    one = subject("convs", device)  # groups, and a transposed convolution, whose inputs are its rows
    x = inputs_of(one, "grouped")
    patches = F.unfold(x, 3, padding=1, stride=2).square().sum((0, 2)).sqrt().view(2, 3, 3, 3)
    scores = importance(one, "wanda", samples=SAMPLES)
    assert torch.allclose(
        scores["grouped.weight"].cpu(),
        one.weight("grouped.weight").cpu().abs() * patches.repeat_interleave(2, 0).float(),
        rtol=1e-4,
    )
    norm = inputs_of(one, "up").square().sum((0, 2, 3)).sqrt()
    assert torch.allclose(
        scores["up.weight"].cpu(), one.weight("up.weight").cpu().abs() * norm[:, None, None, None].float(), rtol=1e-4
    )


def test_a_unit_of_a_grouped_convolution_is_read_in_every_group(device: str) -> None:
    one = subject("convs", device)
    assert one.structure.cuts["first"].group.units == 3
    x = inputs_of(one, "grouped").transpose(0, 1).flatten(1)  # 6 channels, 2 groups of 3
    check(one, "first", torch.cat([x[:3], x[3:]], 1))
