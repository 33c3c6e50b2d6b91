from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe

FULL = (
    Recipe()
    .prune(["conv*", "编码"], sparsity=0.5, scope="global", criterion="l2")
    .prune("fc1", threshold=0.125, mode="scale", factor=0.25)
    .prune("rnn", granularity="2:4")
    .quantize("fc*", bits=4, scheme="affine", granularity="channel")
    .clear("fc1", kind="quantize")
    .keep("head")
    .named("三")
)


def with_rule(**rule: Any) -> str:
    return json.dumps({"format": "compression-explorer-recipe", "version": 1, "rules": [rule]})


def test_truncated_at_every_byte() -> None:
    raw = FULL.to_json().encode()
    for cut in range(len(raw)):
        with pytest.raises(RecipeError):
            Recipe.from_json(raw[:cut])


def test_corrupt_at_every_byte() -> None:
    """Any single changed byte is either refused or still a recipe that can be written again."""
    raw = FULL.to_json().encode()
    for at in range(len(raw)):
        for byte in (0x00, 0x22, 0x2C, 0x30, 0x7D, 0xFF):
            broken = raw[:at] + bytes([byte]) + raw[at + 1 :]
            try:
                again = Recipe.from_json(broken)
            except RecipeError:
                continue
            assert Recipe.from_json(again.to_json()) == again


RULES: list[tuple[dict[str, Any], str]] = [
    ({}, "rule=None"),
    ({"rule": "trim", "targets": ["a"]}, "prune, quantize, prepare, clear, keep"),
    ({"rule": ["prune"], "targets": ["a"]}, "prune, quantize, prepare, clear, keep"),
    ({"rule": {"a": 1}, "targets": ["a"]}, "prune, quantize, prepare, clear, keep"),
    ({"rule": "prune", "targets": ["a"], "sparsity": 0.5, "colour": 1}, "colour"),
    ({"rule": "prune", "sparsity": 0.5}, "targets"),
    ({"rule": "prune", "targets": "a", "sparsity": 0.5}, "list"),
    ({"rule": "prune", "targets": [], "sparsity": 0.5}, "targets"),
    ({"rule": "prune", "targets": [["a"]], "sparsity": 0.5}, "targets"),
    ({"rule": "prune", "targets": {"a": 1}, "sparsity": 0.5}, "targets"),
    ({"rule": "prune", "targets": ["a"], "sparsity": True}, "True"),
    ({"rule": "prune", "targets": ["a"], "sparsity": "half"}, "half"),
    ({"rule": "prune", "targets": ["a"], "sparsity": [0.5]}, "0.5"),
    ({"rule": "prune", "targets": ["a"], "threshold": 10**400}, "finite"),
    ({"rule": "prune", "targets": ["a"], "sparsity": 0.5, "scope": {}}, "layer, global"),
    ({"rule": "prune", "targets": ["a"], "sparsity": 0.5, "mode": None}, "hard"),
    ({"rule": "prune", "targets": ["a"], "sparsity": 0.5, "criterion": 5}, "names"),
    ({"rule": "quantize", "targets": ["a"], "bits": 4.5}, "1 to 8"),
    ({"rule": "quantize", "targets": ["a"], "bits": True}, "1 to 8"),
    ({"rule": "clear", "targets": ["a"], "kinds": "prune"}, "kinds"),
    ({"rule": "clear", "targets": ["a"], "kinds": ["everything"]}, "everything"),
    ({"rule": "clear", "targets": ["a"], "kinds": [["keep"]]}, "kind"),
    ({"rule": "clear", "targets": ["a"], "kinds": [{}]}, "kind"),
    ({"rule": "keep", "targets": ["a"], "sparsity": 0.5}, "sparsity"),
]


@pytest.mark.parametrize(("rule", "message"), RULES, ids=[json.dumps(r)[:60] for r, _ in RULES])
def test_bad_rules_are_named(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(with_rule(**rule))
    assert message in str(caught.value) and "rule 1" in str(caught.value)


@pytest.mark.parametrize("rules", [None, {}, "[]", 3, [None], [3], ["prune"], [[]], [[["prune"]]]])
def test_rules_must_be_a_list_of_rules(rules: Any) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_json(json.dumps({"format": "compression-explorer-recipe", "version": 1, "rules": rules}))


@pytest.mark.parametrize(
    "document", ["", "null", "[]", "3", '"x"', "{}", "NaN", '{"format": 1}', '{"version": 1, "rules": []}']
)
def test_other_json_is_not_a_recipe(document: str) -> None:
    with pytest.raises(RecipeError, match="recipe"):
        Recipe.from_json(document)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, [1]])
def test_bad_versions(version: Any) -> None:
    with pytest.raises(RecipeError, match="accepted: 1 to 1"):
        Recipe.from_json(json.dumps({"format": "compression-explorer-recipe", "version": version, "rules": []}))


def test_newer_version_says_so() -> None:
    with pytest.raises(RecipeError, match="newer release"):
        Recipe.from_json(json.dumps({"format": "compression-explorer-recipe", "version": 2, "shiny": []}))


def test_nan_and_infinity_in_json() -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999"):
        with pytest.raises(RecipeError, match="finite"):
            Recipe.from_json(with_rule(rule="prune", targets=["a"], threshold=0).replace(": 0}", f": {value}}}"))


@pytest.mark.parametrize(
    "opening", ["[", '{"a":', '{"format": "compression-explorer-recipe", "version": 1, "rules": [']
)
def test_deep_nesting(opening: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_json(opening * 100_000)
    with pytest.raises(RecipeError):
        Recipe.from_json("[" * 300_000 + "]" * 300_000)


def test_deep_nesting_within_a_rule_at_any_depth() -> None:
    for depth in (10, *range(900, 1010), 5000):
        nested = "[" * depth + "]" * depth
        for text in (
            with_rule(rule="X"),
            with_rule(rule="prune", targets="X"),
            with_rule(rule="prune", targets=["a"], scope="X"),
        ):
            with pytest.raises(RecipeError):
                Recipe.from_json(text.replace('"X"', nested))


def test_huge_text_is_refused_and_messages_stay_short() -> None:
    with pytest.raises(RecipeError, match="at most"):
        Recipe.from_json("x" * 1_000_001)
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(with_rule(rule="y" * 500_000, targets=["a"]))
    assert len(str(caught.value)) < 1000
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(with_rule(rule="prune", targets=["a"], scope="y" * 500_000, sparsity=0.5))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", [None, 3, ["{}"], {"format": "compression-explorer-recipe"}])
def test_what_is_no_text(text: Any) -> None:
    with pytest.raises(RecipeError, match="JSON"):
        Recipe.from_json(text)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["prune", "a"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["rule", "targets", "sparsity", "bits", "kinds", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_anything_else_is_refused_or_read(value: Any) -> None:
    text = json.dumps({"format": "compression-explorer-recipe", "version": 1, "rules": value})
    try:
        recipe = Recipe.from_json(text)
    except RecipeError:
        return
    assert Recipe.from_json(recipe.to_json()) == recipe


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_json(raw)
