from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import ExplorerError, RecipeError
from explorer.core.recipe import Recipe
from explorer.core.rules import Clear, Keep, Prune, Quantize

NAMES = ("conv1.weight", "conv1", "fc*", "rnn.weight_hh_l0", "编码器.weight", "a'b\"c\\")


@st.composite
def targets(draw: Any) -> Any:
    found = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    return found[0] if len(found) == 1 and draw(st.booleans()) else found


@st.composite
def prunes(draw: Any) -> dict[str, Any]:
    granularity = draw(st.sampled_from(["weight", "unit", "2:4", "1:2", "4x1"]))
    out: dict[str, Any] = {"granularity": granularity, "criterion": draw(st.sampled_from(["l1", "l2", "random"]))}
    if ":" not in granularity:
        out["scope"] = draw(st.sampled_from(["layer", "global"]))
        if draw(st.booleans()):
            out["sparsity"] = draw(st.floats(0, 1, exclude_max=True, allow_nan=False))
        else:
            out["threshold"] = draw(st.floats(-1e30, 1e30, allow_nan=False))
    mode = draw(st.sampled_from(["hard", "scale", "shrink"]))
    if mode == "scale":
        out |= {"mode": mode, "factor": draw(st.floats(0, 1, exclude_max=True, allow_nan=False))}
    elif mode == "shrink" and granularity == "weight":
        out |= {"mode": mode, "criterion": "l1"}
    return out


@st.composite
def quantizes(draw: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"scheme": draw(st.sampled_from([None, "symmetric", "affine"]))}
    if draw(st.booleans()):
        out |= {"what": "activation", "bits": draw(st.integers(2, 8)), "samples": draw(st.integers(1, 300))}
        return out | {
            "clip": draw(st.sampled_from([None, (-1.5, 2), (0, 6.0)])),
            "quantizer": draw(st.sampled_from(["minmax", "entropy"])),
        }
    granularity = draw(st.sampled_from(["tensor", "channel", "group", "gate"]))
    size = {"group_size": draw(st.integers(2, 64))} if granularity == "group" else {}
    return out | size | {"bits": draw(st.sampled_from([1, 2, 3, 8, 16])), "granularity": granularity}


@st.composite
def recipes(draw: Any, size: int = 6) -> Recipe:
    recipe = Recipe()
    for _ in range(draw(st.integers(0, size))):
        step = draw(st.sampled_from(["prune", "prune", "quantize", "quantize", "clear", "keep"]))
        to = draw(targets())
        if step == "prune":
            recipe = recipe.prune(to, **draw(prunes()))
        elif step == "quantize":
            recipe = recipe.quantize(to, **draw(quantizes()))
        elif step == "clear":
            recipe = recipe.clear(to, kind=draw(st.sampled_from([None, "prune", "quantize", "keep", "weight-prune"])))
        else:
            recipe = recipe.keep(to)
    return recipe.named(draw(st.sampled_from(["", "mine", "我的"])))


@settings(max_examples=300, deadline=None)
@given(recipes())
def test_json_round_trip(recipe: Recipe) -> None:
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and hash(again) == hash(recipe) and again.digest == recipe.digest
    assert Recipe.from_json(recipe.to_json().encode()) == recipe
    assert again.to_json() == recipe.to_json()


@settings(max_examples=300, deadline=None)
@given(recipes())
def test_python_round_trip(recipe: Recipe) -> None:
    made = eval(recipe.to_python(), {"explorer": SimpleNamespace(Recipe=Recipe)})
    assert made == recipe, recipe.to_python()


def test_python_says_what_kinds_a_clear_has() -> None:
    odd = Recipe((Prune(("a",), 0.5), Keep(("b",)), Clear(("a", "b"), ("weight-prune", "keep")), Quantize(("a",), 4)))
    made = eval(odd.to_python(), {"explorer": SimpleNamespace(Recipe=Recipe)})
    kinds = {kind for rule in made.rules if isinstance(rule, Clear) for kind in rule.kinds}
    assert kinds <= {"weight-prune", "keep"}


@settings(max_examples=100, deadline=None)
@given(recipes(), recipes())
def test_digest_is_of_the_rules_alone(a: Recipe, b: Recipe) -> None:
    assert a.named("x").digest == a.named("y").digest
    assert (a.digest == b.digest) == (a.rules == b.rules)


def test_digest_is_stable_across_releases() -> None:
    recipe = Recipe().prune("conv1.weight", sparsity=0.5).quantize("fc", bits=4, granularity="channel").keep("head")
    assert recipe.digest == Recipe.from_json(recipe.to_json()).digest
    document = json.loads(recipe.to_json())
    assert document == {
        "format": "compression-explorer-recipe",
        "version": 1,
        "rules": [
            {"rule": "prune", "targets": ["conv1.weight"], "sparsity": 0.5},
            {"rule": "quantize", "targets": ["fc"], "bits": 4, "granularity": "channel"},
            {"rule": "keep", "targets": ["head"]},
        ],
    }
    assert recipe.digest == "ad85b1c8d228c41c"


def test_edits_leave_the_old_value() -> None:
    first = Recipe().prune("a", sparsity=0.5)
    second = first.prune("b", sparsity=0.25)
    assert len(first.rules) == 1 and len(second.rules) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "x"  # type: ignore[misc]
    assert {first: 1}[Recipe().prune("a", sparsity=0.5)] == 1


def test_whole_numbers_and_floats_make_the_same_recipe() -> None:
    assert Recipe().prune("a", threshold=1) == Recipe().prune("a", threshold=1.0)
    assert Recipe().prune("a", threshold=1).digest == Recipe().prune("a", threshold=1.0).digest
    assert Recipe().prune("a", sparsity=0).digest == Recipe().prune("a", sparsity=0.0).digest


def test_equal_recipes_have_equal_digests_also_for_minus_zero() -> None:
    a, b = Recipe().prune("a", threshold=0.0), Recipe().prune("a", threshold=-0.0)
    assert (a == b) == (a.digest == b.digest)


def test_readding_identical_targets_replaces_and_moves_last() -> None:
    recipe = Recipe().prune("a", sparsity=0.1).prune("b", sparsity=0.2).prune("a", sparsity=0.3)
    assert [(r.targets, r.sparsity) for r in recipe.rules] == [(("b",), 0.2), (("a",), 0.3)]  # type: ignore[union-attr]
    swapped = Recipe().prune(["a", "b"], sparsity=0.1).prune(["b", "a"], sparsity=0.3)
    assert len(swapped.rules) == 1
    kinds = Recipe().prune("a", sparsity=0.1).prune("a", sparsity=0.3, granularity="unit").quantize("a", bits=3)
    assert [r.kind for r in kinds.rules] == ["weight-prune", "unit-prune", "weight-quantize"]
    pattern = Recipe().prune("a", sparsity=0.1).prune("a", granularity="2:4")
    assert [r.granularity for r in pattern.rules] == ["2:4"]  # type: ignore[union-attr]


def test_clear_of_all_that_was_said_leaves_nothing() -> None:
    recipe = Recipe().prune("a", sparsity=0.5).quantize("a", bits=4).keep("a")
    assert recipe.clear("a") == Recipe()
    assert recipe.clear("a", kind="prune").rules == Recipe().quantize("a", bits=4).keep("a").rules
    assert recipe.clear("a", kind="quantize").rules == Recipe().prune("a", sparsity=0.5).keep("a").rules
    assert recipe.clear("a", kind="keep").rules == Recipe().prune("a", sparsity=0.5).quantize("a", bits=4).rules


def test_clear_within_a_pattern_is_remembered() -> None:
    recipe = Recipe().prune("fc*", sparsity=0.5).clear("fc1")
    assert isinstance(recipe.rules[-1], Clear) and len(recipe.rules) == 2
    assert recipe.clear("fc1").rules == recipe.rules
    assert recipe.clear("fc*") == Recipe()


BAD = [
    (dict(), "either sparsity= or threshold="),
    (dict(sparsity=0.5, threshold=0.1), "either sparsity= or threshold="),
    (dict(sparsity=1.0), "[0, 1)"),
    (dict(sparsity=-0.1), "[0, 1)"),
    (dict(sparsity=1.5), "[0, 1)"),
    (dict(sparsity=math.nan), "finite"),
    (dict(sparsity="0.5"), "'0.5'"),
    (dict(sparsity=True), "True"),
    (dict(threshold=math.nan), "nan"),
    (dict(threshold=math.inf), "inf"),
    (dict(threshold=10**400), "finite"),
    (dict(threshold=True), "True"),
    (dict(threshold=1j), "finite"),
    (dict(sparsity=0.5, scope="everything"), "layer, global"),
    (dict(sparsity=0.5, mode="medium"), "hard, scale, shrink"),
    (dict(sparsity=0.5, mode=["hard"]), "hard, scale, shrink"),
    (dict(sparsity=0.5, mode="scale"), "factor"),
    (dict(sparsity=0.5, mode="scale", factor=1.0), "[0, 1)"),
    (dict(sparsity=0.5, mode="scale", factor=-0.5), "[0, 1)"),
    (dict(sparsity=0.5, mode="scale", factor=math.nan), "finite"),
    (dict(sparsity=0.5, mode="scale", factor=False), "False"),
    (dict(sparsity=0.5, factor=0.5), "mode='scale'"),
    (dict(sparsity=0.5, granularity="rows"), "weight, unit"),
    (dict(sparsity=0.5, granularity=4), "names"),
    (dict(sparsity=0.5, criterion=None), "names"),
    (dict(granularity="4:4"), "N < M"),
    (dict(granularity="4:2"), "N < M"),
    (dict(granularity="0:4", sparsity=0.5), "weight, unit"),
    (dict(granularity="2:4", sparsity=0.5), "fixes the cut"),
    (dict(granularity="2:4", threshold=0.5), "fixes the cut"),
    (dict(granularity="2:4", scope="global"), "fixes the cut"),
    (dict(sparsity=0.5, mode="shrink", criterion="l2"), "shrink"),
    (dict(sparsity=0.5, mode="shrink", granularity="unit"), "shrink"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(a)[:50] for a, _ in BAD])
def test_bad_prune(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().prune("conv1.weight", **arguments)
    assert message in str(caught.value) and "conv1.weight" in str(caught.value)


@pytest.mark.parametrize("bits", [9, 0, -4, 15, 32, 4.0, "4", True, None, math.nan, 10**30])
def test_bad_bits(bits: Any) -> None:
    with pytest.raises(RecipeError, match="1 to 8") as caught:
        Recipe().quantize("fc.weight", bits=bits)
    assert "fc.weight" in str(caught.value) and repr(bits) in str(caught.value)


BAD_QUANTIZE: list[tuple[dict[str, Any], str]] = [
    ({"scheme": "log"}, "symmetric, affine"), ({"granularity": "row"}, "tensor, channel, group, gate"), ({"what": "bias"}, "weight, activation"),
    ({"quantizer": 3}, "not a name"), ({"granularity": "group"}, "group_size="), ({"group_size": 32}, "granularity='group'"),
    *(({"granularity": "group", "group_size": size}, "from 2") for size in (1, 0, -8, 2.0, True, "32", 10**9)),
    ({"clip": (0, 1)}, "what='activation'"), ({"samples": 64}, "what='activation'"),
    *(({"what": "activation", "clip": clip}, "clip") for clip in ((1, 2), (-2, -1), (0, 0), (0,), "ab", 3, (0, math.nan), (0, math.inf), (0, 10**400))),
    *(({"what": "activation", "samples": n}, "samples") for n in (0, -1, 1.5, True, None)),
    ({"what": "activation", "granularity": "channel"}, "tensor"), ({"what": "activation", "bits": 1}, "2 to 8"), ({"what": "activation", "bits": 16}, "2 to 8"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "message"), BAD_QUANTIZE, ids=[str(a)[:50] for a, _ in BAD_QUANTIZE])
def test_bad_quantize(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match="fc.weight") as caught:
        Recipe().quantize("fc.weight", **({"bits": 4} | more))
    assert message in str(caught.value)


def test_weights_and_activations_have_rules_of_their_own() -> None:
    recipe = Recipe().quantize("fc", bits=4).quantize("fc", bits=8, what="activation", clip=[0, 6])  # type: ignore[arg-type]
    assert [rule.kind for rule in recipe.rules] == ["weight-quantize", "activation-quantize"]
    assert [rule.scheme for rule in recipe.rules] == ["symmetric", "affine"] and recipe.rules[1].clip == (0.0, 6.0)  # type: ignore[union-attr]
    again = recipe.quantize("fc", bits=8, what="activation", scheme="symmetric")
    assert len(again.rules) == 2 and again != recipe and Recipe.from_json(again.to_json()) == again
    assert (
        recipe.clear("fc", kind="activation-quantize").rules == recipe.rules[:1]
        and not recipe.clear("fc", kind="quantize").rules
    )


@pytest.mark.parametrize("targets", [(), [], "", [""], None, 3, [3], ["a", None], [b"a"]])
def test_bad_targets(targets: Any) -> None:
    for build in (
        lambda: Recipe().prune(targets, sparsity=0.5),
        lambda: Recipe().quantize(targets, bits=4),
        lambda: Recipe().keep(targets),
        lambda: Recipe().clear(targets),
    ):
        with pytest.raises(RecipeError, match="accepted"):
            build()


def test_a_lone_surrogate_is_no_name() -> None:
    """It could neither be hashed nor be written to a UTF-8 file later."""
    with pytest.raises(RecipeError):
        Recipe().prune("\ud800", sparsity=0.5)
    with pytest.raises(RecipeError):
        Recipe.from_json('{"format": "compression-explorer-recipe", "version": 1, "rules": [], "name": "\\ud800"}')


def test_unknown_kind_of_clear() -> None:
    with pytest.raises(RecipeError, match="weight-prune"):
        Recipe().clear("a", kind="everything")


def test_errors_are_one_family() -> None:
    assert issubclass(RecipeError, ExplorerError) and issubclass(RecipeError, ValueError)
