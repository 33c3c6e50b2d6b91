"""Links, and what a workspace remembers."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

from explorer.core.errors import RecipeError
from explorer.core.recipe import Recipe
from explorer.ui.history import History
from explorer.ui.state import MAX_LINK, Workspace, pack, unpack

RECIPES = [
    Recipe(),
    Recipe(name="半剪枝 ½"),
    Recipe().prune("fc1.weight", threshold=0.0213).quantize("*", bits=4, scheme="affine", granularity="channel").keep("conv1"),
    Recipe().prune(["a.weight", "b.*"], sparsity=0.5, granularity="unit", scope="global").clear("a.weight").named("x"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_link_brings_the_recipe_back(recipe: Recipe) -> None:
    text = pack(recipe)
    assert unpack(text) == recipe and unpack(text).name == recipe.name
    assert not set(text) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_links_are_short() -> None:
    recipe = Recipe()
    for i in range(12):
        recipe = recipe.prune(f"blocks.{i}.weight", threshold=0.01 * (i + 1)).quantize(f"blocks.{i}.weight", bits=4)
    assert len(pack(recipe)) < len(recipe.to_json()) / 3


def packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(content)).decode().rstrip("=")


GOOD = pack(RECIPES[2])
BAD = {
    "empty": "", "not base64": "%%%%", "odd": "a", "random": "aGVsbG8gd29ybGQ", "cut": GOOD[:-9], "half": GOOD[: len(GOOD) // 2],
    "other alphabet": "ÄÖÜ", "not json": packed(b"{"), "not utf-8": packed(b"\xff\xfe\x00"), "not a recipe": packed(b"[1, 2]"),
    "newer": packed(json.dumps({"format": "compression-explorer-recipe", "version": 99, "rules": []}).encode()),
    "bad rule": packed(json.dumps({"format": "compression-explorer-recipe", "version": 1, "rules": [{"rule": "prune"}]}).encode()),
    "bomb": packed(b" " * (MAX_LINK * 50)), "flipped": GOOD[:20] + ("A" if GOOD[20] != "A" else "B") + GOOD[21:],
}  # fmt: skip


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_link_is_a_short_message(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        unpack(text)
    assert 10 < len(str(caught.value)) < 400


def test_a_link_that_is_too_long_says_so() -> None:
    with pytest.raises(RecipeError, match="too long"):
        unpack(BAD["bomb"])


def test_a_gesture_is_one_step_and_leaves_the_controls() -> None:
    space = Workspace("m", live=RECIPES[1])
    space.commit(RECIPES[2])
    assert (space.history.present, space.live, space.generation, len(space.history.past)) == (RECIPES[2], None, 0, 1)


def test_undo_redraws_the_controls() -> None:
    space = Workspace("m")
    space.commit(RECIPES[2])
    space.live = RECIPES[3]
    space.replace(space.history.undo())
    assert (space.history.present, space.live, space.generation) == (Recipe(), None, 1)
    space.replace(History())
    assert space.generation == 2


def test_selecting_the_selected_layer_is_nothing() -> None:
    space = Workspace("m", layer="a")
    space.select("a")
    assert space.generation == 0
    space.select("b")
    assert (space.layer, space.generation) == ("b", 1)


def test_a_message_stays_until_the_next_step() -> None:
    for act in (lambda s: s.commit(RECIPES[2]), lambda s: s.replace(History())):
        space = Workspace("m", message="the link was cut short")
        space.select("b")
        assert space.message
        act(space)
        assert not space.message
