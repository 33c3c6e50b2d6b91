"""What people do with outputs and states of recurrent layers: which units go together, and what is refused why."""

from __future__ import annotations

import pytest
import torch

from tests.models.recurrent_uses import Data, H, Tied, Use
from tests.models.test_flow_recurrent import names, of, pruned, tokens

GROUPS = {
    "residual": {"first": {"first.weight", "rnn.weight_hh_l0"}},
    "carried": {"rnn.l0": {"rnn.weight_hh_l0"}, "rnn.l1": {"rnn.weight_hh_l1"}},
    "directions": {"rnn.l0": {"rnn.weight_hh_l0", "rnn.weight_hh_l0_reverse"}},
    "chunked": {"rnn.l0": {"rnn.weight_hh_l0", "rnn.weight_hh_l0_reverse"}},
    "summed": {"rnn.l0": {"rnn.weight_hh_l0", "rnn.weight_hh_l0_reverse"}},
    "joined": {"rnn.l0": set(), "rnn.l0_reverse": set(), "join": {"join.weight", "next.weight_hh_l0"}},
    "sliced": {"rnn.l0": {"rnn.weight_hh_l0", "rnn.weight_hh_l1", "next.weight_hh_l0"}},
    "flipped": {"rnn.l0": {"rnn.weight_hh_l0", "next.weight_hh_l0"}},
    "shared": {"rnn.l0": set(), "rnn.l1": set()},
    "turned": {"next.l0": set()},
    "written": {},
    "dot": {},
    "returned": {"rnn.l0": set()},
}


@pytest.mark.parametrize("how", GROUPS)
def test_groups(how: str, device: str) -> None:
    found = of(Use(how), device)
    assert set(names(found)) == set(GROUPS[how])
    for group in found.groups:
        assert GROUPS[how][group.name] <= set(group.producers) and group.units == H
    if found.groups:
        pruned(found, ["*"])


@pytest.mark.parametrize(
    ("how", "layer", "reason"),
    [
        ("shared", "first.weight", "fails in rnn"),  # the other call reads the input itself
        ("turned", "rnn.weight_hh_l0", "along the time or the batch of next"),
        ("written", "rnn.weight_hh_l0", "fails in head once units are removed"),
        ("dot", "rnn.weight_hh_l0", "multiplied with other activations"),
        ("returned", "rnn.weight_hh_l1", "model's output"),
    ],
)
def test_refusals(how: str, layer: str, reason: str, device: str) -> None:
    why = of(Use(how), device).structure.refused[layer]
    assert why and reason in why


def test_units_of_a_flipped_state_go_in_mirrored_pairs(device: str) -> None:
    found = of(Use("flipped"), device)
    (cut,) = [cut for cut in found.structure.cuts.values() if cut.group.name == "rnn.l0"]
    first, second = (
        next(p.index for p in cut.slices if p.tensor == t and p.dim == 1)
        for t in ("rnn.weight_hh_l0", "next.weight_hh_l0")
    )
    assert torch.equal(first, H - 1 - second)


def test_a_tied_output_layer_goes_with_the_embedding(device: str) -> None:
    found = tokens(Tied(), device)
    assert names(found) == ["embed"]
    small = pruned(found, ["*"])
    assert small.out.weight is small.embed.weight and small.rnn.hidden_size == H // 2


def test_data_of_a_packed_sequence_carries_units(device: str) -> None:
    found = tokens(Data(), device)
    assert names(found) == ["embed", "rnn.l0"]
    pruned(found, ["*"])
