"""What the component is told, and that a gesture, the recipe it makes and the handle's next place agree."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from typing import Any

import pytest
import torch

import explorer
from explorer.analysis.histogram import histogram, sorted_blocks, sorted_units
from explorer.analysis.importance import importance
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.evaluate.costs import counts, representations
from explorer.models.subject import Subject
from explorer.ui import edits, units
from explorer.ui.edits import Settings
from explorer.ui.panels import handle, scoreboard
from explorer.ui.panels.table import frame
from explorer.ui.state import Workspace
from tests.contract.nets import CNN_MLP, SAMPLES, few

LENET = "fashion-lenet5"


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.ui.i18n.language", lambda: "en")  # there is no session to ask


def draw(subject: Subject, name: str, settings: Settings, recipe: Recipe, **more: Any) -> dict[str, Any]:
    plan = explorer.resolve(subject, recipe)
    space = Workspace(subject.name, **more)
    return handle.data(space, subject, subject.layer(name), settings, recipe, plan, counts(subject, plan), 7)


def fraction(q: list[float], t: float, n: int) -> float:
    """What the client does: binary search in the quantiles, then linear in between."""
    if t < q[0]:
        return 0.0
    if t >= q[-1]:
        return 1.0
    b = bisect_right(q, t)
    low, high = (round(i * (n - 1) / (len(q) - 1)) for i in (b - 1, b))
    return (math.floor(low + (t - q[b - 1]) / (q[b] - q[b - 1]) * (high - low)) + 1) / n


def everything(name: str) -> list[tuple[str, str]]:
    return [(name, layer.name) for layer in few(name).layers]


@pytest.mark.parametrize("name,layer", [pair for name in SAMPLES for pair in everything(name)])
def test_the_clients_fraction_is_the_exact_sparsity(name: str, layer: str, device: str) -> None:
    subject = few(name, device=device)
    shown = draw(subject, layer, Settings(), Recipe())
    score = subject.weight(layer).abs()
    error = max(0.002, 1.01 / score.numel())
    for part in (0.03, 0.2, 0.5, 0.81, 0.97):
        t = edits.rounded(float(score.flatten().sort().values[int(part * (score.numel() - 1))]))
        assert fraction(shown["q"], t, shown["n"]) == pytest.approx(float((score <= t).cpu().double().mean()), abs=error)


@pytest.mark.parametrize("criterion", ["l1", "l2", "random"])
@pytest.mark.parametrize("mode", ["hard", "scale"])
@pytest.mark.parametrize("t", [0.001, 0.0123456789, 0.4])
def test_a_weight_threshold_comes_back_as_set(criterion: str, mode: str, t: float, device: str) -> None:
    subject, settings = few(LENET, device=device), Settings(criterion=criterion, mode=mode)
    layer = subject.layer("fc1.weight")
    recipe = handle.edit(Recipe(), subject, layer, settings, {"t": t, "k": 0, "factor": 0.3})
    at, k = handle.threshold_of(recipe, subject, layer, settings, explorer.resolve(subject, recipe))
    assert (at, k) == (edits.rounded(t), 0) and at == pytest.approx(t, rel=1e-4)


@pytest.mark.parametrize("name", CNN_MLP)
@pytest.mark.parametrize("mode", ["hard", "scale"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_every_number_of_units_comes_back(name: str, mode: str, scope: str, device: str) -> None:
    subject = few(name, device=device)
    layer = next(layer for layer in subject.layers if layer.group is not None)
    settings = Settings("unit", mode=mode, scope=scope)
    units = len(sorted_units(subject, layer.group, "l1")[0])
    for k in {1, 2, units // 3, units // 2, units - 2, units - 1}:
        recipe = handle.edit(Recipe(), subject, layer, settings, {"t": 0.0, "k": k, "factor": 0.3})
        plan = explorer.resolve(subject, recipe)
        assert handle.threshold_of(recipe, subject, layer, settings, plan)[1] == k
        if mode == "hard":
            assert len(plan.kept[layer.group]) == units - k


def test_a_cut_of_no_units_is_no_rule_and_one_unit_stays(device: str) -> None:
    subject, settings = few(LENET, device=device), Settings("unit")
    layer = subject.layer("fc1.weight")
    half = handle.edit(Recipe(), subject, layer, settings, {"t": 0, "k": 250})
    assert handle.edit(half, subject, layer, settings, {"t": 0, "k": 0}) == Recipe()
    most = handle.edit(half, subject, layer, settings, {"t": 0, "k": 500})
    assert len(explorer.resolve(subject, most).kept["fc1"]) == 1


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.933])
@pytest.mark.parametrize("name", SAMPLES)
def test_a_rule_by_sparsity_puts_the_handle_where_it_cuts(name: str, sparsity: float, device: str) -> None:
    subject = few(name, device=device)
    layer = max(subject.layers, key=lambda layer: layer.numel)
    recipe = Recipe().prune(layer.name, sparsity=sparsity)
    at, _ = handle.threshold_of(recipe, subject, layer, Settings(), explorer.resolve(subject, recipe))
    below = float((subject.weight(layer.name).abs() <= at).cpu().double().mean())
    assert below == pytest.approx(sparsity, abs=max(0.002, 1.5 / layer.numel))


def test_a_global_cut_puts_each_layers_handle_at_its_own_share(device: str) -> None:
    subject = few(LENET, device=device)
    recipe = Recipe().prune("*", sparsity=0.7, scope="global")
    plan = explorer.resolve(subject, recipe)
    at = {layer.name: handle.threshold_of(recipe, subject, layer, Settings(scope="global"), plan)[0] for layer in subject.layers}
    everywhere = torch.cat([subject.weight(name).abs().flatten() for name in at])
    exact = float(everywhere.sort().values[round(0.7 * everywhere.numel()) - 1])
    for name, t in at.items():
        score = subject.weight(name).abs()
        assert float((score <= t).cpu().double().mean()) == pytest.approx(float((score <= exact).cpu().double().mean()), abs=0.004)


@pytest.mark.parametrize("given,kept", [(0.0, 0.05), (None, 0.5), (0.333, 0.33), (2.0, 0.95)])
def test_a_factor_is_never_zero_nor_one(given: float | None, kept: float, device: str) -> None:
    subject, settings = few(LENET, device=device), Settings(mode="scale")
    event = {"t": 0.02, "k": 0, "factor": given}
    if given == 0.0:
        event["factor"] = 1e-9  # what a handle at its very end may send
    recipe = handle.edit(Recipe(), subject, subject.layer("fc1.weight"), settings, event)
    assert recipe.rules[0].factor == kept


@pytest.mark.parametrize("name", SAMPLES)
def test_every_layer_of_every_sample_can_be_drawn(name: str, device: str) -> None:
    subject = few(name, device=device)
    for layer in subject.layers:
        for criterion in ("l1", "random"):
            shown = draw(subject, layer.name, Settings(criterion=criterion), Recipe().quantize("*", bits=3))
            json.dumps(shown, allow_nan=False)
            assert sum(shown["counts"]) == shown["n"] == layer.numel
            assert shown["view"] == ("weights" if criterion == "l1" else "scores")
            assert shown["lo"] < shown["hi"] and all(a <= b for a, b in zip(shown["q"], shown["q"][1:], strict=False))
            assert len(json.dumps(shown)) < 16_000


@pytest.mark.parametrize("bits,scheme", [(2, "symmetric"), (4, "symmetric"), (3, "affine"), (8, "affine")])
def test_levels_are_those_that_the_weights_take(bits: int, scheme: str, device: str) -> None:
    subject = few(LENET, device=device)
    recipe = Recipe().quantize("conv1.weight", bits=bits, scheme=scheme)
    shown = draw(subject, "conv1.weight", Settings(), recipe)
    plan = explorer.resolve(subject, recipe)
    values = plan.layers["conv1.weight"].apply(subject.weight("conv1.weight")).unique()
    assert len(shown["levels"]) == (2**bits - 1 if scheme == "symmetric" else 2**bits)
    gaps = (values[:, None] - torch.tensor(shown["levels"], device=device)[None]).abs().min(1).values
    assert float(gaps.max()) < 1e-5
    assert math.isfinite(shown["readout"]["sqnr"])
    assert draw(subject, "conv1.weight", Settings(), Recipe())["levels"] is None


def test_scores_that_are_no_weights_get_a_strip_for_the_levels(device: str) -> None:
    shown = draw(few(LENET, device=device), "conv1.weight", Settings(criterion="random"), Recipe().quantize("*", bits=4))
    assert shown["levels_lo"] <= min(shown["levels"]) and max(shown["levels"]) <= shown["levels_hi"]


@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.97])
def test_the_size_that_the_client_computes_is_the_counted_one(bits: int | None, sparsity: float, device: str) -> None:
    subject = few(LENET, device=device)
    recipe = Recipe().prune("fc1.weight", sparsity=sparsity)
    recipe = recipe.quantize("fc1.weight", bits=bits, granularity="channel") if bits else recipe
    shown = draw(subject, "fc1.weight", Settings(), recipe)
    s = shown["size"]
    kept = s["n"] - round(s["n"] * sparsity)
    assert min(representations(s["n"], kept, s["rows"], s["bits"], s["overhead"], s["zero"]).values()) >= shown["readout"]["bytes"]
    if bits is None:  # rounding makes further zeros, which the client cannot know
        assert min(representations(s["n"], kept, s["rows"]).values()) == shown["readout"]["bytes"]


def test_the_figures_are_those_of_the_report(device: str) -> None:
    subject = few(LENET, device=device)
    recipe = Recipe().prune("fc1.weight", threshold=0.02).prune("conv1.weight", threshold=0.1, mode="scale", factor=0.5)
    shown = draw(subject, "fc1.weight", Settings(), recipe)
    report = explorer.evaluate(subject, recipe, device=device)
    for name, one in report.counts.layers.items():
        assert shown["layers"][name]["sparsity"] == one.sparsity
    assert shown["readout"]["cut"] == pytest.approx(report.counts.layers["fc1.weight"].sparsity, abs=1e-4) and shown["readout"]["cut"] > 0.1
    assert shown["readout"]["removed"] == 0 and shown["readout"]["bytes"] == report.counts.layers["fc1.weight"].bytes
    assert shown["layers"]["conv1.weight"]["attenuated"] > 0.1 and shown["layers"]["conv1.weight"]["sparsity"] < 0.01


def test_a_protected_layer_locks_the_handle_with_a_reason(device: str) -> None:
    recipe = Recipe().prune("fc1.weight", threshold=0.02).keep("fc1.weight")
    assert "protected" in draw(few(LENET, device=device), "fc1.weight", Settings(), recipe)["locked"]
    assert draw(few(LENET, device=device), "fc2.weight", Settings(), recipe)["locked"] is None


def test_what_went_with_units_is_told_apart_from_what_is_cut(device: str) -> None:
    recipe = Recipe().prune("fc1.weight", sparsity=0.5, granularity="unit").prune("fc2.weight", sparsity=0.4)
    readout = draw(few(LENET, device=device), "fc2.weight", Settings(), recipe)["readout"]
    assert readout["removed"] == pytest.approx(0.5) and readout["cut"] == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize("granularity", ["2:4", "1:4", "4:8"])
def test_a_pattern_locks_the_handle_with_a_reason(granularity: str, device: str) -> None:
    recipe = Recipe().prune("fc1.weight", granularity=granularity)
    shown = draw(few(LENET, device=device), "fc1.weight", Settings(granularity), recipe)
    n, m = map(int, granularity.split(":"))
    assert shown["locked"].startswith(granularity) and shown["readout"]["cut"] == pytest.approx(1 - n / m, abs=1e-3)


def test_units_are_drawn_ascending_with_their_numbers(device: str) -> None:
    subject = few(LENET, device=device)
    shown = draw(subject, "conv2.weight", Settings("unit"), Recipe())
    scores = importance(subject, "l1", granularity="unit", layers=["conv2"])["conv2"]
    assert shown["view"] == "units" and shown["scores"] == sorted(shown["scores"])
    assert [float(scores[i]) for i in shown["units"]] == shown["scores"] and sorted(shown["units"]) == list(range(50))
    assert (shown["text"]["unit"], shown["text"]["units"]) == ("channel", "channels")


@pytest.mark.parametrize(("kind", "said"), [("head", "heads"), ("hidden", "hidden units"), ("neuron", "neurons"), ("", "channels")])
def test_units_are_called_what_they_are(kind: str, said: str) -> None:
    assert units.many(kind) == said == units.one(kind) + "s"


def test_identities_tell_apart_what_the_handle_means(device: str) -> None:
    subject = few(LENET, device=device)
    seen = set()
    for name in ("fc1.weight", "fc2.weight"):
        for settings in (Settings(), Settings("unit"), Settings(criterion="l2"), Settings(mode="scale"), Settings(scope="global")):
            for generation in (0, 1):
                seen.add(handle.identity(Workspace(LENET, generation=generation), subject.layer(name), settings))
    assert len(seen) == 20


def test_the_first_hint_goes_once_the_handle_was_touched(device: str) -> None:
    subject = few(LENET, device=device)
    assert draw(subject, "fc1.weight", Settings(), Recipe())["hint"] is True
    assert draw(subject, "fc1.weight", Settings(), Recipe(), touched=True)["hint"] is False


def test_a_histogram_is_counted_once(device: str) -> None:
    subject = few(LENET, device=device)
    assert histogram(subject, "fc1.weight") is histogram(subject, "fc1.weight")
    assert isinstance(subject.layer("fc1.weight"), Layer)


@pytest.mark.parametrize("name", ["fashion-resnet", "fashion-vit"])
def test_every_number_of_blocks_comes_back(name: str, device: str) -> None:
    subject, settings = few(name, device=device), Settings("layer")
    layer = subject.layers[0]
    scores, names = sorted_blocks(subject, "l1")
    for k in range(len(scores) + 1):
        recipe = handle.edit(Recipe(), subject, layer, settings, {"t": 0.0, "k": k})
        plan = explorer.resolve(subject, recipe)
        assert set(plan.removed) == set(names[:k])
        assert handle.threshold_of(recipe, subject, layer, settings, plan)[1] == k
    shown = draw(subject, layer.name, settings, recipe)
    assert shown["view"] == "units" and shown["units"] == list(names) and shown["all"] and shown["text"]["units"] == "blocks"
    locked = recipe.keep(names[0])
    assert draw(subject, layer.name, settings, locked)["value"]["k"] == len(scores) - 1 == draw(subject, layer.name, settings, locked)["n"]
    assert handle.edit(recipe, subject, layer, settings, {"t": 0.0, "k": 0}) == Recipe()


def test_a_layer_of_halves_is_as_large_as_halves(device: str) -> None:
    subject = few("bikes-mlp", device=device)
    halves = Subject(subject.copy().bfloat16(), subject.task)
    name = halves.layers[0].name
    shown = draw(halves, name, Settings(), Recipe().prune(name, sparsity=0.5))
    s = shown["size"]
    assert (s["bits"], s["full"]) == (16, 16) and shown["layers"][name]["bits"] == 16
    assert min(representations(s["n"], s["n"] // 2, s["rows"], s["bits"]).values()) == shown["readout"]["bytes"]
    original = counts(halves, explorer.resolve(halves, Recipe()))
    assert "dense, bf16" in scoreboard.counted(original, original, "")[0]
    table = frame(Workspace(halves.name), halves)
    assert (table["bytes_before"] == table["bytes"]).all() and set(table["bits"]) == {16}
    four = draw(halves, name, Settings(), Recipe().quantize(name, bits=4))["size"]
    assert (four["bits"], four["full"]) == (4, 16)
