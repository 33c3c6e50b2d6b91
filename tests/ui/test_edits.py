"""What each gesture means: (recipe, layer, settings, handle) -> recipe."""

from __future__ import annotations

import pytest

from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.rules import WEIGHT_PRUNE, Clear, Prune
from explorer.core.targets import effective
from explorer.ui import edits
from explorer.ui.edits import Settings

CONV = Layer("conv1.weight", "conv", (20, 1, 5, 5), 500, "conv1")
FC1 = Layer("fc1.weight", "linear", (500, 800), 400_000, "fc1")
FC2 = Layer("fc2.weight", "linear", (10, 500), 5_000, None)
LAYERS = (CONV, FC1, FC2)


def holds(recipe: Recipe, layer: Layer = FC1, kind: str = WEIGHT_PRUNE) -> Prune | None:
    found = effective(recipe.rules, LAYERS)[0][layer.name].get(kind)
    return None if found is None else recipe.rules[found]  # type: ignore[return-value]


def test_a_cut_is_one_rule_however_often_the_handle_moves() -> None:
    recipe = Recipe()
    for t in (0.01, 0.02, 0.03):
        recipe = edits.cut(recipe, FC1, Settings(), t)
    assert recipe.rules == (Prune(("fc1.weight",), threshold=0.03),)


def test_a_cut_of_one_layer_leaves_the_others_rules() -> None:
    recipe = edits.cut(edits.cut(Recipe(), CONV, Settings(), 0.1), FC1, Settings(), 0.02)
    assert holds(recipe, CONV).threshold == 0.1 and holds(recipe, FC1).threshold == 0.02 and holds(recipe, FC2) is None


def test_a_threshold_of_zero_takes_the_cut_away() -> None:
    assert edits.cut(edits.cut(Recipe(), FC1, Settings(), 0.02), FC1, Settings(), 0.0) == Recipe()


def test_a_threshold_of_zero_exempts_a_layer_from_a_cut_of_all() -> None:
    everywhere = edits.cut(Recipe(), FC1, Settings(scope="global"), 0.02)
    recipe = edits.cut(everywhere, CONV, Settings(), 0.0)
    assert holds(recipe, CONV) is None and holds(recipe, FC1).threshold == 0.02


def test_the_scope_decides_whom_a_cut_means() -> None:
    one = edits.cut(Recipe(), FC1, Settings(), 0.02)
    everywhere = edits.cut(one, FC1, Settings(scope="global"), 0.05)
    assert all(holds(everywhere, layer).threshold == 0.05 for layer in LAYERS)
    assert holds(everywhere, FC1).scope == "global" and len(everywhere.rules) == 1 + (one.rules[0] in everywhere.rules)


@pytest.mark.parametrize("mode,factor", [("hard", None), ("shrink", None), ("scale", 0.3)])
def test_only_soft_scaling_carries_a_factor(mode: str, factor: float | None) -> None:
    rule = holds(edits.cut(Recipe(), FC1, Settings(mode=mode, factor=0.3), 0.02))
    assert (rule.mode, rule.factor) == (mode, factor)


def test_units_and_weights_of_a_layer_are_cut_side_by_side() -> None:
    recipe = edits.cut(edits.cut(Recipe(), FC1, Settings(granularity="unit"), 3.0), FC1, Settings(), 0.02)
    assert holds(recipe, FC1, "unit-prune").threshold == 3.0 and holds(recipe).threshold == 0.02
    left = edits.clear_cut(recipe, FC1, Settings(granularity="unit"))
    assert holds(left, FC1, "unit-prune") is None and holds(left).threshold == 0.02


SCORES = [0.5, 1.0, 1.0001, 2.0, 7.25]


@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_unit_threshold_cuts_exactly_k(k: int, normalized: bool) -> None:
    t = edits.unit_threshold(SCORES, k, normalized)
    scale = sum(SCORES) / len(SCORES) if normalized else 1.0
    assert sum(s / scale <= t for s in SCORES) == k


def test_a_unit_threshold_between_close_scores_keeps_its_digits() -> None:
    scores = [1.0, 1.000001, 1.000002, 5.0]
    assert [sum(s <= edits.unit_threshold(scores, k, False) for s in scores) for k in (1, 2, 3)] == [1, 2, 3]


def test_the_controls_say_what_the_layers_rule_says() -> None:
    recipe = Recipe().prune("fc1.weight", threshold=0.02, criterion="l2", mode="scale", factor=0.25)
    shown = edits.settings_of(recipe, LAYERS, FC1, Settings())
    assert shown == Settings("weight", "l2", "scale", "layer", 0.25)


def test_the_controls_keep_what_was_chosen_where_a_layer_has_no_rule() -> None:
    chosen = Settings(criterion="l2", mode="shrink")
    assert edits.settings_of(Recipe(), LAYERS, FC1, chosen) == chosen


def test_the_controls_of_a_layer_without_units_fall_back_to_weights() -> None:
    assert edits.settings_of(Recipe(), LAYERS, FC2, Settings(granularity="unit")).granularity == "weight"


def test_a_rule_for_all_shows_as_scope_global() -> None:
    recipe = Recipe().prune("*", threshold=0.02, scope="global")
    assert edits.settings_of(recipe, LAYERS, CONV, Settings()).scope == "global"


def test_a_locked_layer_still_shows_its_rule() -> None:
    recipe = Recipe().prune("fc1.weight", threshold=0.02).keep("fc1.weight")
    assert holds(recipe) is None
    assert edits.prune_rule(recipe, LAYERS, "fc1.weight", "weight").threshold == 0.02


def test_another_mode_keeps_the_threshold() -> None:
    recipe = edits.cut(Recipe(), FC1, Settings(), 0.02)
    rule = holds(edits.with_settings(recipe, LAYERS, FC1, Settings(mode="scale", factor=0.4), 0.37))
    assert (rule.threshold, rule.sparsity, rule.mode, rule.factor) == (0.02, None, "scale", 0.4)


def test_another_criterion_keeps_the_fraction() -> None:
    recipe = edits.cut(Recipe(), FC1, Settings(), 0.02)
    rule = holds(edits.with_settings(recipe, LAYERS, FC1, Settings(criterion="random"), 0.37))
    assert (rule.threshold, rule.sparsity, rule.criterion) == (None, 0.37, "random")


def test_another_scope_keeps_the_fraction() -> None:
    recipe = edits.cut(Recipe(), FC1, Settings(), 0.02)
    changed = edits.with_settings(recipe, LAYERS, FC1, Settings(scope="global"), 0.37)
    assert (holds(changed, CONV).sparsity, holds(changed, CONV).scope) == (0.37, "global")


def test_a_layer_that_a_cut_of_all_leaves_whole_can_be_taken_out_of_it() -> None:
    everywhere = edits.cut(Recipe(), FC1, Settings(scope="global"), 0.02)
    changed = edits.with_settings(everywhere, LAYERS, FC1, Settings(), 0.0)
    assert holds(changed, FC1) is None and holds(changed, CONV).threshold == 0.02
    assert edits.settings_of(changed, LAYERS, FC1, Settings()).scope == "layer"


def test_controls_without_a_cut_change_no_recipe() -> None:
    assert edits.with_settings(Recipe(), LAYERS, FC1, Settings(criterion="l2"), 0.0) == Recipe()


def test_a_pattern_fixes_the_cut_at_once() -> None:
    rule = holds(edits.with_settings(Recipe(), LAYERS, FC1, Settings("2:4", scope="global", mode="shrink"), 0.0), CONV)
    assert (rule.granularity, rule.sparsity, rule.threshold, rule.mode, rule.scope) == ("2:4", None, None, "hard", "layer")


@pytest.mark.parametrize("scope,others", [("layer", None), ("global", 4)])
def test_bits_follow_the_scope(scope: str, others: int | None) -> None:
    recipe = edits.quantize(Recipe(), FC1, scope, 4, "affine", "channel")
    assert edits.quantize_rule(recipe, LAYERS, "fc1.weight").bits == 4
    assert getattr(edits.quantize_rule(recipe, LAYERS, "conv1.weight"), "bits", None) == others
    assert edits.quantize(recipe, FC1, scope, None, "affine", "channel") == Recipe()


def test_same_for_all_like_this_means_the_kind_of_layer() -> None:
    recipe = Recipe().prune("fc1.weight", threshold=0.02).quantize("fc1.weight", bits=3)
    recipe = edits.same_for_all_like(recipe, LAYERS, FC1, {WEIGHT_PRUNE: 0.6})
    for layer in (FC1, FC2):
        assert (holds(recipe, layer).sparsity, holds(recipe, layer).threshold) == (0.6, None)
        assert edits.quantize_rule(recipe, LAYERS, layer.name).bits == 3
    assert holds(recipe, CONV) is None and edits.quantize_rule(recipe, LAYERS, "conv1.weight") is None


def test_units_go_only_from_layers_that_have_them() -> None:
    recipe = Recipe().prune("fc1.weight", sparsity=0.5, granularity="unit")
    recipe = edits.same_for_all_like(recipe, LAYERS, FC1, {"unit-prune": 0.5})
    assert holds(recipe, FC1, "unit-prune").sparsity == 0.5 and holds(recipe, FC2, "unit-prune") is None


def test_a_lock_protects_and_lifts() -> None:
    recipe = edits.cut(Recipe(), FC1, Settings(), 0.02)
    locked = edits.toggle_lock(recipe, LAYERS, FC1)
    assert "fc1.weight" in effective(locked.rules, LAYERS)[1] and holds(locked) is None
    assert edits.toggle_lock(locked, LAYERS, FC1) == recipe


def test_a_lock_of_all_can_be_lifted_for_one() -> None:
    recipe = edits.toggle_lock(Recipe().keep("*"), LAYERS, FC1)
    assert effective(recipe.rules, LAYERS)[1] == {"conv1.weight", "fc2.weight"}
    assert isinstance(recipe.rules[-1], Clear)


def test_blocks_are_cut_in_all_layers_at_once_beside_units_and_weights() -> None:
    depth = Settings("layer", mode="scale", scope="layer")
    depth = edits.settings_of(Recipe(), LAYERS, FC1, depth)
    assert (depth.granularity, depth.mode) == ("layer", "hard")
    units = edits.cut(Recipe(), FC1, Settings(granularity="unit"), 3.0)
    both = edits.cut(units, FC1, depth, 0.5)
    assert [(rule.kind, rule.targets) for rule in both.rules] == [("unit-prune", (FC1.name,)), ("layer-prune", (edits.ALL,))]
    assert edits.settings_of(both, LAYERS, FC2, depth).granularity == "layer"
    assert edits.clear_cut(both, FC2, depth).rules[0] == units.rules[0] and edits.clear_cut(both, FC2, depth).rules[1:] == ()


def test_scores_below_zero_can_be_cut_and_below_all_of_them_nothing_is() -> None:
    settings = Settings(criterion="movement")
    recipe = edits.cut(Recipe(), FC1, settings, -0.02, -0.5)
    assert holds(recipe).threshold == -0.02
    assert edits.cut(recipe, FC1, settings, 0.0, -0.5).rules != ()
    assert edits.cut(recipe, FC1, settings, -0.6, -0.5) == Recipe()
    soft = edits.with_settings(recipe, LAYERS, FC1, Settings(criterion="movement", mode="scale"), 0.4)
    assert holds(soft).threshold == -0.02 and holds(soft).mode == "scale"
    assert edits.unit_threshold([-2.0, 1.0, 3.0], 1, True) == pytest.approx(-0.25)


def test_gates_are_cut_by_their_number() -> None:
    lstm = Layer("lstm.weight_hh_l0", "lstm", (256, 64), 16384)
    assert edits.has_gates(lstm) and not edits.has_gates(FC1)
    chosen = Settings(granularity="gate", criterion="snip")
    assert edits.settings_of(Recipe(), [lstm], lstm, chosen).granularity == "gate"
    assert edits.settings_of(Recipe(), LAYERS, FC1, chosen).granularity == "weight"
    recipe = edits.cut_gates(Recipe(), lstm, chosen, 2, 4)
    assert recipe == Recipe().prune("lstm.weight_hh_l0", sparsity=0.5, criterion="snip", granularity="gate")
    assert edits.settings_of(recipe, [lstm], lstm, Settings()).granularity == "gate"
    (rule,) = edits.cut_gates(recipe, lstm, chosen, 4, 4).rules
    assert rule.sparsity == 0.75 and edits.cut_gates(recipe, lstm, chosen, 0, 4) == Recipe()
