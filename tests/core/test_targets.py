from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import RecipeError
from explorer.core.layers import Layer
from explorer.core.recipe import Recipe
from explorer.core.targets import effective, matches, select

NAMES = (
    "conv1.weight",
    "conv10.weight",
    "block.conv1.weight",
    "block.fc.weight",
    "rnn.weight_hh_l0",
    "rnn.weight_ih_l0",
)
LAYERS = tuple(Layer(name, "linear", (2, 3), 6) for name in NAMES)


def hits(*targets: str) -> list[str]:
    return [layer.name for layer in select(targets, LAYERS)]


def test_parameters_modules_and_patterns() -> None:
    assert hits("conv1.weight") == ["conv1.weight"]
    assert hits("conv1") == ["conv1.weight"]
    assert hits("conv1*") == ["conv1.weight", "conv10.weight"]
    assert hits("block") == ["block.conv1.weight", "block.fc.weight"]
    assert hits("*.conv1") == ["block.conv1.weight"]
    assert hits("rnn") == ["rnn.weight_hh_l0", "rnn.weight_ih_l0"]
    assert hits("*hh*") == ["rnn.weight_hh_l0"]
    assert hits("*") == list(NAMES)
    assert hits("conv?") == ["conv1.weight"]
    assert hits("conv[0-9].weight") == ["conv1.weight"]


def test_order_is_the_layers_and_doubles_count_once() -> None:
    assert hits("rnn", "conv1", "rnn.weight_hh_l0") == ["conv1.weight", "rnn.weight_hh_l0", "rnn.weight_ih_l0"]


def test_case_counts() -> None:
    with pytest.raises(RecipeError):
        hits("CONV1")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("conv1.wieght", "conv1.weight"),
        ("con1", "conv1"),
        ("blok.fc", "block.fc"),
        ("rnn.weight_hh", "rnn.weight_hh_l0"),
    ],
)
def test_near_matches(wrong: str, near: str) -> None:
    with pytest.raises(RecipeError, match=f"did you mean .*{near}"):
        hits(wrong)


def test_each_target_must_mean_something() -> None:
    with pytest.raises(RecipeError, match="nothing"):
        hits("conv1", "nothing")


@settings(max_examples=200, deadline=None)
@given(st.text("ab.*?[]!-\\1", min_size=1, max_size=8), st.sampled_from(NAMES))
def test_matching_is_a_pattern_on_the_name_or_on_a_module_around_it(target: str, name: str) -> None:
    parts = name.split(".")
    around = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    assert matches(target, name) == (target in around or any(fnmatch.fnmatchcase(one, target) for one in around))


def holds(recipe: Recipe) -> dict[str, dict[str, int]]:
    return {name: dict(kinds) for name, kinds in effective(recipe.rules, LAYERS)[0].items() if kinds}


def test_the_last_match_of_each_kind_holds() -> None:
    recipe = (
        Recipe()
        .prune("*", sparsity=0.1)
        .prune("conv1", sparsity=0.2)
        .quantize("*", bits=8)
        .prune("conv*", sparsity=0.3)
    )
    found = holds(recipe)
    assert found["conv1.weight"] == {"weight-prune": 3, "weight-quantize": 2}
    assert found["block.fc.weight"] == {"weight-prune": 0, "weight-quantize": 2}
    units = Recipe().prune("*", sparsity=0.5, granularity="unit").prune("conv1", sparsity=0.2)
    assert holds(units)["conv1.weight"] == {"unit-prune": 0, "weight-prune": 1}


def test_clear_undoes_what_came_before_only() -> None:
    recipe = Recipe().prune("*", sparsity=0.1).clear("conv1").prune("conv*", sparsity=0.2, criterion="l2")
    assert holds(recipe)["conv1.weight"] == {"weight-prune": 2}
    recipe = Recipe().prune("*", sparsity=0.1).quantize("*", bits=4).clear("conv1", kind="prune")
    assert holds(recipe)["conv1.weight"] == {"weight-quantize": 1}
    assert holds(recipe)["conv10.weight"] == {"weight-prune": 0, "weight-quantize": 1}


@pytest.mark.parametrize("first", [True, False])
def test_keep_protects_from_rules_before_and_after(first: bool) -> None:
    recipe = (
        Recipe().keep("block").prune("*", sparsity=0.5) if first else Recipe().prune("*", sparsity=0.5).keep("block")
    )
    found, kept = effective(recipe.rules, LAYERS)
    assert kept == {"block.conv1.weight", "block.fc.weight"}
    assert not found["block.fc.weight"] and found["conv1.weight"]
    lifted, kept = effective(recipe.clear("block", kind="keep").rules, LAYERS)
    assert not kept and lifted["block.fc.weight"]


def test_every_rule_is_checked_also_keep_and_clear() -> None:
    for recipe in (Recipe().keep("nope"), Recipe().prune("*", sparsity=0.5).clear("nope")):
        with pytest.raises(RecipeError, match="nope"):
            effective(recipe.rules, LAYERS)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["prune", "units", "quantize", "keep", "clear", "clear prune", "clear keep"]),
        st.sampled_from(["*", "conv1", "conv*", "block", "rnn", "*hh*", ("conv1", "block")]),
        st.integers(1, 9),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_recipes_edit_as_the_definition_says(edits: list[tuple[str, str, int]]) -> None:
    """Against a model that remembers, for each layer and kind, the last thing said."""
    recipe, said = Recipe(), {name: {} for name in NAMES}
    for what, target, value in edits:
        named = [layer.name for layer in select([target] if isinstance(target, str) else target, LAYERS)]
        if what == "prune":
            recipe = recipe.prune(target, sparsity=value / 10)
        elif what == "units":
            recipe = recipe.prune(target, sparsity=value / 10, granularity="unit")
        elif what == "quantize":
            recipe = recipe.quantize(target, bits=max(2, value % 9))
        elif what == "keep":
            recipe = recipe.keep(target)
        else:
            recipe = recipe.clear(target, kind=what.partition(" ")[2] or None)
        for name in named:
            mine = said[name]
            if what in ("clear", "clear prune"):
                mine.pop("weight-prune", None)
                mine.pop("unit-prune", None)
            if what == "clear":
                mine.pop("weight-quantize", None)
            if what in ("clear", "clear keep"):
                mine.pop("keep", None)
            if what == "prune":
                mine["weight-prune"] = value / 10
            if what == "units":
                mine["unit-prune"] = value / 10
            if what == "quantize":
                mine["weight-quantize"] = max(2, value % 9)
            if what == "keep":
                mine["keep"] = True
    found, kept = effective(recipe.rules, LAYERS)
    for name in NAMES:
        expected = dict(said[name])
        protected = expected.pop("keep", False)
        assert (name in kept) == protected
        values = {
            kind: getattr(rule := recipe.rules[i], "sparsity", None) or getattr(rule, "bits", None)
            for kind, i in found[name].items()
        }
        assert values == ({} if protected else expected)
