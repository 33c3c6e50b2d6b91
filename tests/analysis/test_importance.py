from __future__ import annotations

from typing import Any

import pytest
import torch

from explorer.analysis.histogram import histogram, quantiles, sorted_units
from explorer.analysis.importance import importance
from explorer.core.errors import RecipeError, UnsupportedError
from tests.contract.nets import few, tiny


def test_magnitudes(device: str) -> None:
    subject = tiny(device=device)
    for criterion in ("l1", "l2"):
        scores = importance(subject, criterion)
        assert list(scores) == [layer.name for layer in subject.layers]
        assert all(torch.equal(scores[name], subject.weight(name).abs()) for name in scores)
    w = subject.weight("fc.0.weight")
    assert torch.allclose(importance(subject, "l1", granularity="unit")["fc.0"], w.abs().sum(1))
    assert torch.allclose(importance(subject, "l2", granularity="unit")["fc.0"], w.square().sum(1).sqrt())


def test_chance_depends_on_the_seed_and_the_layer_alone(device: str) -> None:
    subject = tiny(device=device)
    a, b, c = (importance(subject, "random", seed=seed)["fc.0.weight"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(importance(subject, "random", layers=["fc.0.weight"])["fc.0.weight"], a)
    assert 0 <= a.min() and a.max() < 1 and 0.3 < a.mean() < 0.7
    torch.manual_seed(3)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    importance(subject, "random")
    assert torch.equal(torch.rand(3), drawn)  # the caller's random numbers are left alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(criterion="tailor"), "unknown criterion"),
        (dict(criterion="l1", layers=["fc.0.wieght"]), "did you mean fc.0.weight"),
        (dict(criterion="l1", layers=["nope"], granularity="unit"), "fc.0"),
        (dict(criterion="l1", granularity="row"), "weight, unit"),
    ],
)
def test_unknown_names(arguments: dict[str, Any], message: str, device: str) -> None:
    with pytest.raises(RecipeError, match=message):
        importance(tiny(device=device), **arguments)
    if "granularity" not in arguments:
        with pytest.raises(RecipeError, match=message):
            histogram(tiny(device=device), arguments.get("layers", ["fc.0.weight"])[0], arguments["criterion"])


def test_weights_that_are_not_finite_cannot_be_ranked(device: str) -> None:
    subject = tiny(device=device)
    with torch.no_grad():
        subject.module.fc[1].weight[0, 0] = torch.inf
    with pytest.raises(UnsupportedError, match="fc.1.weight"):
        importance(subject, "l1")
    assert importance(subject, "l1", layers=["fc.0.weight"])


def test_quantiles_are_the_sorted_scores(device: str) -> None:
    scores = torch.randperm(1025).float().to(device)
    found = quantiles(scores)
    assert len(found) == 513 and found == tuple(float(i) for i in range(0, 1025, 2))
    assert (
        quantiles(torch.tensor([2.0], device=device))[0] == 2.0
        and len(quantiles(torch.tensor([2.0, 1.0], device=device))) == 513
    )


@pytest.mark.parametrize("name", ["fashion-lenet5", "vowels-rnn"])
def test_histograms_count_every_weight(name: str, device: str) -> None:
    subject = few(name, device=device)
    for layer in subject.layers:
        signed = histogram(subject, layer.name)
        w = subject.weight(layer.name)
        assert sum(signed.counts) == layer.numel == signed.entries and signed.signed
        assert signed.high == -signed.low == pytest.approx(w.abs().max().item())
        expected = torch.histc(w.cpu(), 161, signed.low, signed.high).long().tolist()
        assert list(signed.counts) == expected
        assert signed.quantiles[-1] == pytest.approx(w.abs().max().item()) and list(signed.quantiles) == sorted(
            signed.quantiles
        )
        chance = histogram(subject, layer.name, "random")
        assert not chance.signed and sum(chance.counts) == layer.numel and 0 <= chance.low < chance.high <= 1
    constant = tiny(device=device)
    with torch.no_grad():
        constant.module.fc[0].weight.fill_(0)
    flat = histogram(constant, "fc.0.weight")
    assert flat.low < 0 < flat.high and sum(flat.counts) == 48


def test_histograms_follow_the_weights(device: str) -> None:
    subject = tiny(device=device)
    first = histogram(subject, "fc.0.weight")
    assert histogram(subject, "fc.0.weight") is first
    with torch.no_grad():
        subject.module.fc[0].weight.mul_(3)
    assert histogram(subject, "fc.0.weight").high == pytest.approx(3 * first.high)


def test_sorted_units(device: str) -> None:
    subject = few("fashion-resnet", device=device)
    for group in subject.groups:
        scores, order = sorted_units(subject, group.name)
        direct = importance(subject, "l1", granularity="unit")[group.name]
        assert list(scores) == sorted(scores) and sorted(order) == list(range(group.units))
        assert torch.allclose(direct[list(order)].cpu(), torch.tensor(scores))
