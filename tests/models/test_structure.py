from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.contract.nets import HardView, few, tiny


def groups(name: str, device: str) -> dict[str, tuple[str, int, tuple[str, ...]]]:
    return {g.name: (g.kind, g.units, g.producers) for g in few(name, device=device).groups}


def test_groups_of_the_samples(device: str) -> None:
    assert groups("fashion-mlp", device) == {
        "fc1": ("neuron", 300, ("fc1.weight",)),
        "fc2": ("neuron", 100, ("fc2.weight",)),
    }
    assert groups("bikes-mlp", device) == {
        "fc1": ("neuron", 128, ("fc1.weight",)),
        "fc2": ("neuron", 64, ("fc2.weight",)),
    }
    assert groups("fashion-lenet5", device) == {
        "conv1": ("channel", 20, ("conv1.weight",)),
        "conv2": ("channel", 50, ("conv2.weight",)),
        "fc1": ("neuron", 500, ("fc1.weight",)),
    }


def test_residual_blocks_couple_what_is_added(device: str) -> None:
    found = groups("fashion-resnet", device)
    assert found["stem"] == ("channel", 16, ("stem.weight",))
    assert set(found["b1.conv2"][2]) == {"b1.conv2.weight", "b1.skip.conv.weight"}
    last = next(value for value in found.values() if "b3.conv2.weight" in value[2])
    assert set(last[2]) == {"b2.conv2.weight", "b2.skip.conv.weight", "b3.conv2.weight"} and last[1] == 64
    assert {"b1.conv1", "b2.conv1", "b3.conv1"} <= set(found)


def test_members_name_all_that_goes_with_a_unit(device: str) -> None:
    group = next(g for g in few("fashion-resnet", device=device).groups if g.name == "b1.conv1")
    assert set(group.members) == {
        "b1.conv1.weight", "b1.bn1.weight", "b1.bn1.bias", "b1.bn1.running_mean", "b1.bn1.running_var", "b1.conv2.weight",
    }  # fmt: skip
    assert group.members[0] == "b1.conv1.weight" and group.members[-1] == "b1.conv2.weight"
    layers = {layer.name: layer.group for layer in few("fashion-resnet", device=device).layers}
    assert layers["b1.conv1.weight"] == "b1.conv1" and layers["head.weight"] is None


def test_a_flattened_channel_owns_its_whole_map(device: str) -> None:
    cut = few("fashion-lenet5", device=device).structure.cuts["conv2"]
    consumer = next(piece for piece in cut.slices if piece.role == "consumer")
    assert consumer.tensor == "fc1.weight" and consumer.index.shape == (50, 16)
    assert consumer.index[3].tolist() == list(range(48, 64))


@pytest.mark.parametrize(
    "name", ["fashion-mlp", "fashion-resnet", "fashion-vit", "vowels-lstm", "surnames-gru", "moby-lstm"]
)
def test_every_layer_has_a_group_or_a_reason(name: str, device: str) -> None:
    subject = few(name, device=device)
    for layer in subject.layers:
        assert (layer.group is None) == (layer.name in subject.structure.refused), layer.name
        if layer.group is None:
            assert len(subject.structure.refused[layer.name]) > 20
    assert subject.structure.refused["head.weight" if name != "fashion-mlp" else "fc3.weight"] == "its units reach the model's output"


def test_one_layer_that_cannot_be_read_does_not_take_the_others_along(device: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Linear(4, 5), nn.Linear(5, 6)
            self.fc, self.head = nn.Linear(6, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            return self.head(F.relu(self.fc(F.softmax(self.mix(h @ h.transpose(1, 2) @ h), -1)[:, -1])))

    subject = tiny(Mixed(), (3, 4), device=device)
    assert [group.name for group in subject.groups] == ["fc"]
    refused = subject.structure.refused
    assert "multiplied" in refused["embed.weight"] and "softmax" in refused["mix.weight"]


def test_a_model_that_cannot_be_read_has_no_groups_and_says_why(device: str) -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.dtype == torch.float32:
                raise RuntimeError("not on this machine")
            return self.b(F.relu(self.a(x)))

    subject = tiny(Opaque(), device=device)
    assert subject.groups == [] and "not on this machine" in subject.structure.refused["a.weight"]
    assert "view" in tiny(HardView(), (1, 6, 6), device=device).structure.refused["conv.weight"] or subject.layers


def test_what_a_unit_of_a_grouped_convolution_is(device: str) -> None:
    class Convolutions(nn.Module):
        def __init__(self, groups: int) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv1d(2, 8, 1), nn.Conv1d(8, 8, 3, groups=groups), nn.Conv1d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(F.relu(self.b(F.relu(self.a(x))))).mean(-1)

    depthwise = tiny(Convolutions(8), (2, 6), device=device)
    assert [(g.name, g.producers) for g in depthwise.groups] == [("a", ("a.weight",))]
    assert "b.weight" in depthwise.groups[0].members and depthwise.layer("b.weight").group is None
    grouped = tiny(Convolutions(2), (2, 6), device=device)  # groups stay equally wide: the same position of each goes
    cuts = grouped.structure.cuts
    assert {g.name: g.units for g in grouped.groups} == {"a": 4, "b": 4} and "each of the 2 groups of b" in cuts["a"].group.about[0]
    rows = {p.tensor: p.index.tolist() for p in cuts["b"].slices if p.role == "producer"}
    assert rows == {"b.weight": [[0, 4], [1, 5], [2, 6], [3, 7]]}
    assert [(p.dim, p.index.tolist()) for p in cuts["a"].slices if p.tensor == "b.weight"] == [(1, [[0], [1], [2], [3]])]
    whole = tiny(Convolutions(4), (2, 6), device=device).structure.cuts["a"]  # more groups than channels in one: whole groups go
    assert whole.group.units == 4 and "whole" in whole.group.about[0] and whole.group.producers == ("a.weight", "b.weight")
    assert {p.tensor: p.index.tolist() for p in whole.slices if p.role == "attribute"} == {"b.groups": [[0], [1], [2], [3]]}


def test_transposed_convolutions_lose_their_columns(device: str) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.up, self.head = nn.Conv1d(2, 4, 1), nn.ConvTranspose1d(4, 6, 2), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.up(torch.tanh(self.a(x)))).mean(-1))

    subject = tiny(Up(), (2, 5), device=device)
    pieces = {(p.tensor, p.dim, p.role) for cut in subject.structure.cuts.values() for p in cut.slices}
    assert ("up.weight", 1, "producer") in pieces and ("up.weight", 0, "consumer") in pieces
    assert {g.name: g.units for g in subject.groups} == {"a": 4, "up": 6}


def test_what_mixes_units_in_functions_is_refused(device: str) -> None:
    class Mixing(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.a, self.b, self.how = nn.Linear(6, 8), nn.Linear(8, 3), how

        def forward(self, x: Tensor) -> Tensor:
            h = torch.sigmoid(self.a(x))
            mixed = {
                "softmax": lambda: F.softmax(h, 1),
                "normalize": lambda: F.normalize(h, dim=1),
                "mean": lambda: h - h.mean(1, keepdim=True),
                "cumsum": lambda: h.cumsum(1),
                "max": lambda: h / h.max(1, keepdim=True).values,
                "roll": lambda: h.roll(1, 1),
            }[self.how]()
            return self.b(mixed)

    for how in ("softmax", "normalize", "mean", "cumsum", "max"):
        subject = tiny(Mixing(how), device=device)
        assert subject.groups == [], how
