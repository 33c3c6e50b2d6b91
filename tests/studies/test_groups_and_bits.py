"""Curves of groups of units, of bits and of soft modes; what is shared, what is skipped, what is refused."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import explorer
from explorer.compress.apply import compress
from explorer.compress.resolve import resolve
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.macs import count
from explorer.evaluate.sweep import Sweep
from explorer.models.subject import Subject
from explorer.studies.curve_table import curve_names, frame, targets_in
from explorer.studies.ranking import curves
from explorer.studies.sensitivity import sensitivity
from explorer.studies.shares import share_of_group, share_of_layer
from explorer.studies.suggest import suggest
from tests.contract.nets import MLP, HardView, few, tiny


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.head(self.norm(h + self.b(h)))


@pytest.mark.parametrize("name", ["vowels-lstm", "fashion-lenet5", "bikes-mlp"])
def test_a_groups_curve_is_that_of_its_removed_units(name: str, device: str) -> None:
    subject = few(name, device=device)
    table = sensitivity(subject, granularity="unit", sparsities=(0.3, 0.8), exact=True, device=device)
    groups = {group.name: group for group in subject.groups}
    assert set(zip(table.group, table.layer, strict=True)) == {
        (g.name, p) for g in groups.values() for p in g.producers
    }
    for row in table.itertuples():
        recipe = Recipe().prune(row.layer, sparsity=row.sparsity, granularity="unit")
        assert set(resolve(subject, recipe).kept) == {row.group}
        removed = Subject(compress(subject, recipe), subject.task, name)  # really smaller
        report = evaluate(removed, device=device)
        assert report.metrics[report.main] == pytest.approx(row.metric, abs=1e-6)
        assert (row.kind, row.granularity) == (groups[row.group].kind, "unit")


def test_coupled_layers_have_their_groups_curve(device: str) -> None:
    table = sensitivity(tiny(Residual(), n=200, device=device), granularity="unit", exact=True, device=device)
    assert set(table.group) == {"a"} and set(table.layer) == {"a.weight", "b.weight"}
    one, other = (rows.drop(columns="layer").reset_index(drop=True) for _, rows in table.groupby("layer"))
    assert one.equals(other) and len(one) == 9


def test_layers_and_groups_are_scanned_together_and_by_default_layers(device: str) -> None:
    subject = tiny(Residual(), n=200, device=device)
    settings = dict(exact=True, device=device, sparsities=(0.3, 0.8))
    both = sensitivity(subject, granularity=("weight", "unit"), **settings)  # type: ignore[arg-type]
    layers, groups = (sensitivity(subject, granularity=way, **settings) for way in ("weight", "unit"))  # type: ignore[arg-type]
    assert len(layers) == 6 and len(groups) == 4 and both.equals(pd.concat([layers, groups], ignore_index=True))
    assert layers.equals(sensitivity(subject, **settings))  # type: ignore[arg-type]
    assert set(both[both.granularity == "unit"].group) == {"a"} and set(both[both.granularity == "weight"].group) == {
        ""
    }
    assert set(curves(both).target) == {"a", "a.weight", "b.weight", "head.weight"}
    found = suggest(subject, both, sparsity=0.5, device=device)
    assert found.report.sparsity >= 0.5 and set(found.reasons) == {"a", "a.weight", "b.weight", "head.weight"}
    whole = sensitivity(tiny(HardView(), (1, 6, 6), device=device), granularity=("weight", "unit"), device=device)
    assert set(whole.granularity) == {"weight"}  # no units can go there


def test_a_parameter_by_itself_and_its_group_have_curves_of_their_own() -> None:
    rows = [
        ("mix", 0.5, 0.8, 0.7, 0.9, 9, -0.1, -0.2, 0.0, group, way, "other", 0.5, None)
        for group, way in (("", "weight"), ("mix", "unit"))
    ]
    table = frame(rows, Sweep(granularities=("weight", "unit")), "accuracy", False)
    assert list(curve_names(table)) == ["mix", "mix (unit)"]
    (_, first), (target, second) = targets_in(table).items()
    assert first[0].group == "" and (target, second[0].group, second[0].rule) == ("mix (unit)", "mix", "mix")


@pytest.mark.slow
def test_coupled_layers_of_a_residual_network_have_their_groups_curve(device: str) -> None:
    subject = few("fashion-resnet", 256, device=device)
    table = sensitivity(subject, granularity="unit", exact=True, device=device)
    assert len(table) == 9 * sum(len(group.producers) for group in subject.groups)
    coupled = [group for group in subject.groups if len(group.producers) > 1]
    assert coupled
    for group in coupled:
        curves = [
            rows.drop(columns="layer").reset_index(drop=True)
            for _, rows in table[table.group == group.name].groupby("layer")
        ]
        assert len(curves) == len(group.producers) and all(curve.equals(curves[0]) for curve in curves)
    for row in table.drop_duplicates(["group", "sparsity"]).iloc[::17].itertuples():
        report = evaluate(subject, Recipe().prune(row.layer, sparsity=row.sparsity, granularity="unit"), device=device)
        assert row.metric == report.metrics["accuracy"]


def test_bits_and_soft_modes_are_what_evaluate_says(device: str) -> None:
    subject = few("fashion-lenet5", device=device)
    name = "fc1.weight"
    table = sensitivity(subject, targets=name, by="bits", exact=True, device=device)
    assert list(table.bits) == [8, 7, 6, 5, 4, 3, 2] and set(table.granularity) == {"channel"}
    for row in table.itertuples():
        report = evaluate(subject, Recipe().quantize(name, bits=row.bits, granularity="channel"), device=device)
        figure, change = report.figure("accuracy"), report.change("accuracy")
        assert (row.metric, row.low, row.high, row.n) == (figure.value, figure.low, figure.high, figure.n)
        assert (row.change, row.change_low, row.change_high) == (change.value, change.low, change.high)
    for mode, factor in (("scale", 0.5), ("shrink", None)):
        table = sensitivity(subject, targets="fc1", mode=mode, sparsities=(0.5, 0.9), exact=True, device=device)
        for row in table.itertuples():
            recipe = Recipe().prune(name, sparsity=row.sparsity, mode=mode, factor=factor)  # type: ignore[arg-type]
            report = evaluate(subject, recipe, device=device)
            assert row.metric == report.metrics["accuracy"]


def test_shares_count_what_belongs_to_a_layer_or_group(device: str) -> None:
    subject = tiny(MLP((6, 8, 5, 3)), device=device)
    total = sum(p.numel() for p in subject.module.parameters())
    parameters, macs = share_of_layer(subject, "fc.1.weight")
    assert parameters == 40 / total and macs == 40 / (48 + 40 + 15)
    cut = subject.structure.cuts["fc.0"]
    parameters, macs = share_of_group(subject, cut)
    assert parameters == (48 + 8 + 40) / total and macs == (48 + 40) / (48 + 40 + 15)
    assert count(subject, {}).total == 103
    table = sensitivity(subject, sparsities=(0.5,), device=device)
    assert table.macs.sum() == pytest.approx(1) and table.parameters.sum() == pytest.approx(103 / total)


def test_what_cannot_be_scanned_is_skipped_and_said_unless_it_was_named(device: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.normed, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.normed(F.relu(self.plain(x)))))

    subject = tiny(Mixed(), device=device)
    table = sensitivity(subject, granularity="unit", mode="scale", sparsities=(0.5,), device=device)
    assert set(table.group) == {"plain"} and "takes its statistics" in table.attrs["skipped"]["normed"]
    with pytest.raises(UnsupportedError, match="takes its statistics"):
        sensitivity(subject, targets="normed", granularity="unit", mode="scale", sparsities=(0.5,), device=device)
    table = sensitivity(subject, Recipe().keep("plain"), sparsities=(0.5,), device=device)
    assert "plain.weight" not in set(table.layer) and "protected" in table.attrs["skipped"]["plain.weight"]
    with pytest.raises(RecipeError, match="nothing to scan"):
        sensitivity(subject, Recipe().keep("*"), device=device)


def test_bad_input_of_a_sweep(device: str) -> None:
    subject = tiny(device=device)
    for wrong, said in (
        (dict(by="size"), "by='size'; accepted: sparsity, bits"), (dict(by="bits", bits=[9]), "bits=9"),
        (dict(by="bits", bits=[2.5]), "bits=2.5"), (dict(sparsities=[]), "no sparsity to scan"), (dict(sparsities=["half"]), "sparsity='half'"),
        (dict(by="bits", mode="scale"), "quantization has no modes"), (dict(targets="fc.7"), "nothing to scan in tiny; accepted: fc.0.weight"),
        (dict(criterion="l3"), "l3"), (dict(granularity="row"), "granularity='row'"), (dict(granularity=("weight", "4x1")), "one of weights and unit"), (dict(granularity=()), "one of weights"), (dict(granularity="2:4"), "fixes the cut"),
        (dict(mode="scale", factor=2), "factor=2"), (dict(split="nowhere"), "nowhere"),
    ):  # fmt: skip
        with pytest.raises(explorer.ExplorerError, match=said):
            sensitivity(subject, device=device, **wrong)  # type: ignore[arg-type]
    hard = Subject(
        HardView().to(device),
        explorer.Task.classification(validation=[(torch.randn(1, 6, 6), i % 3) for i in range(9)]),
        "view",
    )
    with pytest.raises(RecipeError, match="view: nothing to scan"):
        sensitivity(hard, granularity="unit", device=device)


def test_a_scan_that_is_not_resumed_starts_anew(device: str) -> None:
    subject = tiny(MLP(), n=100, device=device)
    told: list[int] = []
    settings = dict(sparsities=(0.5,), exact=True, progress=lambda done, total: told.append(done))
    sensitivity(subject, device=device, **settings)  # type: ignore[arg-type]
    first, told[:] = list(told), []
    sensitivity(subject, device=device, **settings)  # type: ignore[arg-type]
    assert told == [300], "everything was known"
    told[:] = []
    sensitivity(subject, resume=False, device=device, **settings)  # type: ignore[arg-type]
    assert told == first
