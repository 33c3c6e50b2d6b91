"""What a control beside the histogram does to the history."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import explorer
from explorer.compress.build import effective_weights
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.ui import edits
from explorer.ui.edits import Settings
from explorer.ui.history import History
from explorer.ui.panels import controls
from explorer.ui.state import Workspace
from tests.recover.small import small

CONV, HEAD = "conv.weight", "head.weight"


def scene(subject: Subject, recipe: Recipe, layer: str, chosen: Settings | None = None) -> controls.Scene:
    space = Workspace("small", History().push(recipe), layer, chosen or Settings())
    return controls.Scene(space, subject, subject.layer(layer), controls.current(space, subject, subject.layer(layer)))


def weights(subject: Subject, recipe: Recipe) -> list[Tensor]:
    changed = effective_weights(subject, explorer.resolve(subject, recipe))
    return [changed.get(layer.name, subject.weight(layer.name)) for layer in subject.layers]


def scope(one: controls.Scene) -> str:
    return controls.current(one.space, one.subject, one.layer).scope


@pytest.mark.parametrize("threshold", [0.2, 1e-6])  # of all layers; the second takes nothing
def test_to_take_one_layer_out_of_a_cut_of_all_is_no_step(threshold: float, device: str) -> None:
    subject = small(device)
    recipe = edits.cut(Recipe(), subject.layer(HEAD), Settings(scope="global"), threshold)
    one = scene(subject, recipe, HEAD)
    before = weights(subject, recipe)
    assert scope(one) == "global"
    controls._changed(one, "scope", "layer")
    history = one.space.history
    assert scope(one) == "layer" and all(map(torch.equal, weights(subject, history.present), before))
    assert history.past == (Recipe(),) and one.space.stale  # Undo takes the cut away, which is seen
    assert history.undo().redo() == history


def test_to_give_all_layers_the_cut_of_one_is_a_step(device: str) -> None:
    subject = small(device)
    recipe = edits.cut(Recipe(), subject.layer(HEAD), Settings(), 0.2)
    one = scene(subject, recipe, HEAD)
    controls._changed(one, "scope", "global")
    history = one.space.history
    assert scope(one) == "global" and explorer.resolve(subject, history.present).cut_fraction(CONV) > 0
    assert history.undo().present == recipe
    one.space.replace(history.undo())
    assert scope(one) == "layer"


def test_without_a_cut_the_switch_changes_no_recipe(device: str) -> None:
    one = scene(small(device), Recipe().quantize(CONV, bits=4), HEAD)
    before = one.space.history
    controls._changed(one, "scope", "global")
    assert scope(one) == "global" and one.space.history == before
