"""Gradient criteria against autograd by hand, one sample after another."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

from explorer.analysis.criteria import registry
from explorer.analysis.evidence import evidence, gather
from explorer.analysis.importance import importance
from explorer.analysis.look import Look, order
from explorer.analysis.probe import probe
from explorer.analysis.squares import squared_gradients
from explorer.core.errors import UnsupportedError
from explorer.models.removal import gone
from explorer.models.structure import Cut
from explorer.models.subject import Subject
from explorer.models.unrolled import unrolled
from tests.analysis.nets import NAMES, subject
from tests.contract.nets import classification

SAMPLES = 24


@cache
def by_hand(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean over the looked-at samples of the gradient and of its square, in float64 and by the plain module."""
    one = subject(name)
    module = copy.deepcopy(one.module).double().eval()
    parameters = dict(module.named_parameters())
    names = [layer.name for layer in one.layers]
    first = {n: torch.zeros_like(parameters[n]) for n in names}
    second = {n: torch.zeros_like(parameters[n]) for n in names}
    chosen = order(one, SAMPLES, 0)
    for index in chosen:
        inputs, targets = one.task.batch("train", [index])
        outputs = module(inputs.double() if inputs.is_floating_point() else inputs)
        assert one.task.loss is not None
        slopes = torch.autograd.grad(one.task.loss(outputs, targets), [parameters[n] for n in names])
        for n, slope in zip(names, slopes, strict=True):
            first[n] += slope / len(chosen)
            second[n] += slope.square() / len(chosen)
    return first, second


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-4) -> bool:
    expected = expected.to(found.dtype)
    found = found.cpu()
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-9))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_their_squares_are_those_of_single_samples(name: str, device: str) -> None:
    one = subject(name, device)
    first, second = by_hand(name)
    seen = evidence(one, Look(SAMPLES, device=device))
    assert seen.n == SAMPLES and set(seen.gradient) == set(first)
    for layer, expected in first.items():
        assert close(seen.gradient[layer], expected), layer
    missing = [layer for layer in second if layer not in seen.squared]
    squares = seen.squared | squared_gradients(one, missing, Look(SAMPLES, device=device))
    for layer, expected in second.items():
        assert close(squares[layer], expected), layer


def test_what_is_cheap_needs_no_second_pass(device: str) -> None:
    assert set(evidence(subject("mlp", device), Look(8)).squared) == {"fc.0.weight", "fc.1.weight", "fc.2.weight"}
    assert set(evidence(subject("tokens", device), Look(8)).squared) == {"embedding.weight"}


def test_samples_that_cannot_be_told_apart_go_one_by_one(device: str) -> None:
    one = subject("flat", device)
    assert not probe(one).splits and probe(one).chunk == 1
    assert (
        probe(subject("lstm", device)).batch["rnn.weight_ih_l0"] == 1
        and probe(subject("lstm", device)).batch["cell.weight_hh"] == 0
    )


@pytest.mark.parametrize("name", ["mlp", "convs", "lstm", "attention"])
def test_criteria_of_weights_are_their_formulas(name: str, device: str) -> None:
    one = subject(name, device)
    first, second = by_hand(name)
    formulas = {
        "gradient": lambda w, g, f: g.abs(),
        "snip": lambda w, g, f: (w * g).abs(),
        "taylor": lambda w, g, f: (w * g) ** 2,
        "movement": lambda w, g, f: -w * g,
        "fisher": lambda w, g, f: w**2 * f / 2,
    }
    for criterion, formula in formulas.items():
        found = importance(one, criterion, samples=SAMPLES)
        for layer, scores in found.items():
            w = one.weight(layer).cpu().double()
            assert close(scores, formula(w.cpu(), first[layer], second[layer])), (criterion, layer)


def rows(cut: Cut, values: dict[str, Tensor]) -> list[Tensor]:
    """The producers' entries of each unit, one after another; an independent reading of the slices."""
    found = []
    for unit in range(cut.group.units):
        own = []
        for piece in cut.slices:
            if piece.role == "producer":
                own.append(values[piece.tensor].index_select(piece.dim, piece.index[unit]).flatten())
        found.append(torch.cat(own))
    return found


@pytest.mark.parametrize("name", ["mlp", "convs", "deep", "deep-gru", "attention", "tokens"])
def test_units_sum_their_rows_and_taylor_sums_before_it_squares(name: str, device: str) -> None:
    one = subject(name, device)
    first, _ = by_hand(name)
    assert one.structure.cuts
    for group, cut in one.structure.cuts.items():
        slopes = rows(cut, first)
        values = rows(cut, {layer: one.weight(layer).cpu().double() for layer in first})
        pairs = list(zip(values, slopes, strict=True))
        expected = {
            "snip": [(w * g).abs().sum() for w, g in pairs],
            "gradient": [g.abs().sum() for _, g in pairs],
            "movement": [-(w * g).sum() for w, g in pairs],
            "taylor": [(w * g).sum() ** 2 for w, g in pairs],
        }
        for criterion, value in expected.items():
            found = importance(one, criterion, granularity="unit", layers=[group], samples=SAMPLES)[group]
            assert close(found, torch.stack(value)), (criterion, group)


@pytest.mark.parametrize("name", ["mlp", "convs", "deep", "deep-gru", "attention", "tokens"])
def test_relevance_is_the_gradient_of_a_gate_on_what_the_next_layers_read(name: str, device: str) -> None:
    """Scale the consumers' columns of a unit by a gate z: dL_n/dz at 1 is the sum of a dL_n/da."""
    one = subject(name, device)
    module = copy.deepcopy(one.module).cpu().double().eval()
    weights = {n: p.detach() for n, p in module.named_parameters()}
    chosen = order(one, 6, 0)
    for group, cut in one.structure.cuts.items():
        total = torch.zeros(2, cut.group.units, dtype=torch.float64)
        for index in chosen:
            inputs, targets = one.task.batch("train", [index])
            gate = torch.ones(cut.group.units, dtype=torch.float64, requires_grad=True)
            gated = dict(weights)
            for piece in cut.slices:
                if piece.role == "consumer":
                    w = gated[piece.tensor].movedim(piece.dim, 0)
                    scale = torch.ones(len(w), dtype=torch.float64).index_put(
                        (piece.index.flatten(),), gate.repeat_interleave(piece.index.shape[1])
                    )
                    gated[piece.tensor] = (w * scale.view(-1, *(1,) * (w.ndim - 1))).movedim(0, piece.dim)
            plain = unrolled(module)  # compared with the original in a test of its own
            outputs = torch.func.functional_call(
                plain, gated, (inputs.double() if inputs.is_floating_point() else inputs,)
            )
            assert one.task.loss is not None
            (slope,) = torch.autograd.grad(one.task.loss(outputs, targets), gate)
            total += torch.stack([slope.abs(), slope.square()]) / len(chosen)
        relevance = importance(one, "relevance", granularity="unit", layers=[group], samples=6)[group]
        fisher = importance(one, "fisher", granularity="unit", layers=[group], samples=6)[group]
        assert close(relevance, total[0]) and close(fisher, total[1] / 2), group


def test_a_unit_of_no_relevance_can_go_without_a_change(device: str) -> None:
    """The scores' direction: small means unimportant, for every criterion that looks at what is said."""
    one = subject("mlp", device)
    with torch.no_grad():
        one.module.fc[0].weight[3] = 0
        one.module.fc[0].bias[3] = -1  # never speaks behind the ReLU
    for criterion in (
        "activation",
        "variance",
        "apoz",
        "relevance",
        "fisher",
        "taylor",
        "snip",
        "gradient",
        "l1",
        "loss-change",
        "synflow",
    ):
        found = importance(one, criterion, granularity="unit", layers=["fc.0"], samples=SAMPLES)["fc.0"]
        assert int(found.argmin()) == 3, criterion
    assert gone([(one.structure.cuts["fc.0"], torch.tensor([0]))])


def test_the_pass_is_run_once_for_all(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    one = subject("convs", device)
    assert one.layers and probe(one)
    forwards = []
    original = one.task.forward
    object.__setattr__(
        one.task, "forward", lambda module, inputs: (forwards.append(len(inputs)), original(module, inputs))[1]
    )
    for criterion in ("gradient", "snip", "taylor", "movement", "activation", "variance", "wanda", "relevance"):
        for granularity in ("weight", "unit"):
            if getattr(registry[criterion], f"of_{granularity}s"):
                importance(one, criterion, granularity=granularity, samples=SAMPLES)  # type: ignore[arg-type]
    assert forwards == [SAMPLES]
    importance(one, "fisher", samples=SAMPLES)
    assert forwards == [SAMPLES, SAMPLES]
    importance(one, "snip", samples=SAMPLES, seed=1)
    assert len(forwards) == 3


def test_chunks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    one = subject("attention", device)
    whole = gather(one, Look(20))
    probe(one).entries = 1e12
    monkeypatch.setattr("explorer.analysis.probe.CHUNKS", (3,))
    parts = gather(one, Look(20))
    for layer, found in whole.gradient.items():
        assert close(parts.gradient[layer], found.cpu(), 1e-4)
    for group, pair in whole.relevance.items():
        assert close(parts.relevance[group][0], pair[0], 1e-4)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_a_module_that_writes_to_what_was_read_is_refused_before_work_starts(device: str) -> None:
    class Writes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.Linear(6, 6), torch.nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(x)
            y = self.a(h)
            h += 1
            return self.b(y) + h[:, :3].detach()

    one = Subject(Writes().to(device), classification((6,), n=16), "writes")
    with pytest.raises(UnsupportedError, match="modified by an inplace operation"):
        importance(one, "gradient", layers=["a.weight"])
    assert importance(one, "l1")
