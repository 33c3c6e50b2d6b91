"""Units of recurrent layers in every use of outputs and states: masked equals removed, or refused with the reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from explorer import Recipe, compress, evaluate
from explorer.compress.apply import effective_weights
from explorer.compress.resolve import resolve
from explorer.models.replica import Replica
from explorer.models.stack import RecurrentStack
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.models.trial import difference
from tests.contract.nets import tiny
from tests.models.recurrent_nets import Cells, H, Last, Packed, Pair, Started

KINDS = [nn.LSTM, nn.GRU, nn.RNN]
EXACT = 1e-9


def of(module: nn.Module, device: str) -> Subject:
    return tiny(module, (4, 5), device=device)


def tokens(module: nn.Module, device: str) -> Subject:
    """Sequences of different lengths, padded with 0, the longest not first."""
    ids = torch.randint(1, 7, (32, 5), generator=torch.Generator().manual_seed(0))
    for i, row in enumerate(ids):
        row[1 + (i * 3) % 5 :] = 0
    data = TensorDataset(ids, torch.arange(32) % 3)
    return Subject(module.to(device), Task.classification(train=data, validation=data), "tokens")


def pruned(found: Subject, targets: Any, sparsity: float = 0.5) -> nn.Module:
    """The compressed module, in float64 on the CPU, once shown to equal the masked one; the original stays as it is."""
    before = {name: tensor.clone() for name, tensor in found.module.state_dict().items()}
    recipe = Recipe().prune(targets, sparsity=sparsity, granularity="unit")
    plan = resolve(found, recipe)
    small = compress(found, recipe).cpu().double()
    original = copy.deepcopy(found.module).cpu().double().eval()
    inputs = found.example(8).cpu()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    with (
        Replica(found.module, dtype=torch.float64).weights(effective_weights(found, plan), plan.norms) as masked,
        torch.no_grad(),
    ):
        assert difference(masked(inputs), small(inputs)) <= EXACT
        assert difference(original(inputs), small(inputs)) > 1e-6  # something was removed at all
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.module.state_dict().items())
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in found.module.parameters()) - _gone(
        plan, found
    )
    return small


def _gone(plan: Any, found: Subject) -> int:
    total = 0
    for name, dims in plan.dropped.items():
        shape = list(found.module.get_parameter(name).shape)
        before = torch.Size(shape).numel()
        for dim, index in dims.items():
            shape[dim] -= len(index.unique())
        total += before - torch.Size(shape).numel()
    return total


def names(found: Subject) -> list[str]:
    return [group.name for group in found.groups]


def refusals(found: Subject) -> str:
    return " | ".join(f"{name}: {why}" for name, why in found.structure.refused.items())


@pytest.mark.parametrize("use", ["last", "final", "pair"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_and_direction_is_a_group(kind: Any, both: bool, use: str, device: str) -> None:
    found = of(Last(kind, use, both=both), device)
    tags = [f"rnn.l{i}{s}" for i in range(2) for s in ("", "_reverse")[: 1 + both]]
    assert names(found) == tags
    assert all((g.kind, g.units) == ("hidden", H) for g in found.groups)
    dead = both and use == "final"  # h_n[-1] is the reverse direction: nothing reads the forward one of the last layer
    for targets in (["*"], ["rnn.weight_hh_l0"], ["rnn.weight_hh_l1"][: not dead]):
        if not targets:
            continue
        stack = pruned(found, targets).rnn
        assert isinstance(stack, RecurrentStack) == (targets != ["*"])
    if both:
        stack = pruned(found, ["rnn.weight_hh_l1_reverse"]).rnn
        assert stack.hidden_sizes == (H, H, H, H // 2)


SETTINGS: list[dict[str, Any]] = [{"bias": False}, {"batch_first": False}, {"layers": 1}, {"layers": 3}]


@pytest.mark.parametrize(
    ("kind", "more"), [(nn.LSTM, {"proj_size": 3}), *((kind, more) for kind in KINDS for more in SETTINGS)]
)
def test_settings(kind: Any, more: dict[str, Any], device: str) -> None:
    found = of(Last(kind, both=True, **more), device)
    layers = more.get("layers", 2)
    assert len(found.groups) == layers * 2 * (1 + ("proj_size" in more))
    pruned(found, ["*"])
    pruned(found, [found.groups[0].producers[0]])


def test_projections_and_hidden_units_are_groups_of_their_own(device: str) -> None:
    found = of(Last(nn.LSTM, "final", proj_size=3), device)
    assert names(found) == ["rnn.l0", "rnn.l0.proj", "rnn.l1", "rnn.l1.proj"]
    assert [g.units for g in found.groups] == [H, 3, H, 3]
    stack = pruned(found, ["rnn.weight_hr_l0"]).rnn
    assert (stack.hidden_sizes, stack.proj_sizes) == ((H, H), (1, 3))
    stack = pruned(found, ["rnn.weight_hh_l0", "rnn.weight_ih_l0"], sparsity=0.5).rnn
    assert (stack.hidden_sizes, stack.proj_sizes) == ((3, H), (3, 3))  # as many units as projections


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_used_whole_keeps_layers_equal(kind: Any, both: bool, device: str) -> None:
    found = of(Last(kind, "all", both=both), device)
    assert len(found.groups) == 1 and found.groups[0].units == H
    small = pruned(found, [found.groups[0].producers[0]])
    assert not isinstance(small.rnn, RecurrentStack) and small.rnn.hidden_size == H // 2


@pytest.mark.parametrize("layers", [1, 2])
def test_a_head_on_the_cell_state(layers: int, device: str) -> None:
    found = of(Last(nn.LSTM, "cell", layers=layers), device)
    assert names(found) == [f"rnn.l{i}" for i in range(layers)]
    pruned(found, ["*"])
    pruned(found, ["rnn.weight_hh_l0"])


@pytest.mark.parametrize("kind", KINDS)
def test_states_returned_to_the_caller_are_refused(kind: Any, device: str) -> None:
    found = tiny_output(Last(kind, "returned"), device)
    assert not found.groups
    why = found.structure.refused
    for layer in ("l0", "l1"):
        assert "model's output" in why[f"rnn.weight_hh_{layer}"] and "model's output" in why[f"rnn.weight_ih_{layer}"]


def tiny_output(module: nn.Module, device: str) -> Subject:
    """A model with several outputs; its task is never scored."""
    data = TensorDataset(torch.randn(32, 4, 5), torch.arange(32) % 3)
    return Subject(module.to(device), Task.classification(train=data, validation=data), "states")


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences(kind: Any, both: bool, final: bool, device: str) -> None:
    found = tokens(Packed(kind, both, final), device)
    tags = [f"rnn.l{i}{s}" for i in range(2) for s in ("", "_reverse")[: 1 + both]]
    assert names(found) == ["embed", *tags]
    pruned(found, ["*"])
    pruned(found, ["rnn.weight_hh_l0"])
    if both:
        pruned(found, ["rnn.weight_hh_l1_reverse"])


@pytest.mark.parametrize("start", ["learned", "computed", "own"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_initial_state_in_one_tensor_keeps_layers_equal(kind: Any, start: str, device: str) -> None:
    found = of(Started(kind, start), device)
    assert names(found) == ["first" if start == "computed" else "rnn.l0"], refusals(found)
    owned = found.groups[0].members
    assert {"rnn.weight_hh_l0", "rnn.weight_hh_l1"} <= set(owned)
    assert ("h0" in owned, "first.weight" in owned) == (start == "learned", start == "computed")
    small = pruned(found, [found.groups[0].producers[0]])
    assert small.rnn.hidden_size == H // 2


@pytest.mark.parametrize("start", ["written", "input"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_initial_state_of_a_fixed_size_is_refused(kind: Any, start: str, device: str) -> None:
    found = of(Started(kind, start), device)
    assert not found.groups
    why = found.structure.refused["rnn.weight_hh_l0"]
    assert "fails in rnn" in why and "hidden" in why, why


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_and_a_decoder_that_share_states_share_units(kind: Any, layers: int, device: str) -> None:
    found = of(Pair(kind, layers), device)
    assert names(found) == [f"encoder.l{i}" for i in range(layers)]
    for i, group in enumerate(found.groups):
        assert {f"encoder.weight_hh_l{i}", f"decoder.weight_hh_l{i}"} <= set(group.producers)
    pruned(found, ["*"])
    small = pruned(found, ["encoder.weight_hh_l0"])
    assert isinstance(small.decoder, RecurrentStack) == isinstance(small.encoder, RecurrentStack) == (layers > 1)


@pytest.mark.parametrize("start", ["none", "own"])
@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: Any, start: str, device: str) -> None:
    found = of(Cells(kind, start), device)
    assert names(found) == ["cell"] and found.groups[0].units == H
    assert pruned(found, ["*"]).cell.hidden_size == H // 2


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_from_a_state_of_a_fixed_size_are_refused(kind: Any, device: str) -> None:
    found = of(Cells(kind, "written"), device)
    assert not found.groups
    why = found.structure.refused["cell.weight_hh"]
    assert "fails in cell" in why and "hidden" in why, why


def test_what_was_removed_can_be_pruned_again(device: str) -> None:
    first = of(Last(nn.LSTM, both=True), device)
    small = compress(first, Recipe().prune(["rnn.weight_hh_l0"], sparsity=0.5, granularity="unit"))
    found = of(small, device)
    assert [(g.name, g.units) for g in found.groups][:2] == [("rnn.l0", H // 2), ("rnn.l0_reverse", H)]
    assert {layer.kind for layer in found.layers} == {"lstm", "linear"}
    again = pruned(found, ["*"]).rnn
    assert again.hidden_sizes == (1, 3, 3, 3)


def test_multiplications_fall_by_what_was_removed(device: str) -> None:
    found = of(Last(nn.GRU, both=True), device)
    recipe = Recipe().prune(["rnn.weight_hh_l0"], sparsity=0.5, granularity="unit")

    def macs(*sizes: int) -> int:
        """4 steps, 3 gates; widths: input 5, what each direction of the layer below emits."""
        first = sum(size * (5 + size) for size in sizes[:2])
        second = sum(size * (sum(sizes[:2]) + size) for size in sizes[2:])
        return 4 * 3 * (first + second) + 3 * sum(sizes[2:])

    assert evaluate(found, Recipe(), device=device).counts.macs == macs(H, H, H, H)
    assert evaluate(found, recipe, device=device).counts.macs == macs(H // 2, H, H, H)
