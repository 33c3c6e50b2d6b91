from __future__ import annotations

import pytest

import explorer
from explorer.core.recipe import Recipe
from explorer.ui import edits
from explorer.ui.panels import clipping
from explorer.ui.state import Workspace
from tests.contract.nets import few


def draw(device: str, name: str, recipe: Recipe, model: str = "fashion-mlp") -> dict[str, object]:
    subject = few(model, device=device)
    return clipping.data(Workspace(model), subject, subject.layer(name), recipe, explorer.resolve(subject, recipe), 3)


def test_without_a_rule_the_handles_stand_at_the_ends(device: str) -> None:
    shown = draw(device, "fc2.weight", Recipe())
    assert shown["view"] == "clip" and shown["levels"] is None and shown["lo"] == 0.0 and shown["ack"] == 3
    assert shown["value"]["low"] == 0 and shown["value"]["high"] == pytest.approx(shown["hi"])  # type: ignore[index]
    assert sum(shown["counts"]) == shown["n"] > 0  # type: ignore[call-overload]


def test_with_a_rule_they_stand_at_its_range_and_levels_are_ticks(device: str) -> None:
    recipe = Recipe().quantize("fc2", bits=3, what="activation", clip=(0, 1.5))
    shown = draw(device, "fc2.weight", recipe)
    assert (
        shown["value"] == {"low": 0.0, "high": 1.5}
        and len(shown["levels"]) == 8
        and max(shown["levels"]) == pytest.approx(1.5)
    )  # type: ignore
    table = explorer.quantization_error(few("fashion-mlp", device=device), recipe)
    assert shown["readout"]["sqnr"] == pytest.approx(float(table.sqnr_db[0]))  # type: ignore[index]
    observed = draw(device, "fc2.weight", Recipe().quantize("*", bits=8, what="activation", quantizer="percentile"))
    assert 0 < observed["value"]["high"] < observed["hi"]  # type: ignore[index]


def test_a_layer_without_activations_says_why(device: str) -> None:
    assert "indices" in str(draw(device, "embedding.weight", Recipe(), "moby-lstm")["locked"])


def test_an_event_clips_this_layer_alone_and_keeps_the_rest_of_its_rule(device: str) -> None:
    subject = few("fashion-mlp", device=device)
    fc1, fc2 = subject.layer("fc1.weight"), subject.layer("fc2.weight")
    everywhere = Recipe().quantize("*", bits=4, what="activation", quantizer="entropy", scheme="symmetric")
    after = clipping.edit(everywhere, subject, fc2, {"low": -0.5, "high": 2.123456789})
    rule = edits.activation_rule(after, subject.layers, "fc2.weight")
    assert (
        rule.clip == (-0.5, 2.1235)
        and rule.bits == 4
        and rule.scheme == "symmetric"
        and rule.targets == ("fc2.weight",)
    )  # type: ignore[union-attr]
    assert edits.activation_rule(after, subject.layers, "fc1.weight") == everywhere.rules[0]
    assert clipping.edit(Recipe(), subject, fc1, {"low": 0, "high": 1}).rules[0].bits == 8  # type: ignore[union-attr]
    assert clipping.edit(everywhere, subject, fc2, {"low": 0, "high": 0}) == everywhere
    again = edits.activations(after, fc2, "layer", 4, "percentile")
    assert edits.activation_rule(again, subject.layers, "fc2.weight").clip is None  # type: ignore[union-attr]
    none = edits.activations(again, fc2, "global", None, "minmax")
    assert edits.activation_rule(none, subject.layers, "fc2.weight") is None


def test_preparations_are_exactly_the_chosen_ones(device: str) -> None:
    layers = few("fashion-mlp", device=device).layers
    recipe = edits.prepare(Recipe(), ["equalize", "bias-correction"])
    assert edits.preparations(recipe, layers, "fc1.weight") == ("equalize", "bias-correction")
    fewer = edits.prepare(recipe, ["bias-correction"])
    assert edits.preparations(fewer, layers, "fc2.weight") == ("bias-correction",)
    assert not edits.preparations(edits.prepare(fewer, []), layers, "fc1.weight")
