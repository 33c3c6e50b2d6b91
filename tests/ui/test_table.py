"""The table of layers has a column for what there is to say."""

from __future__ import annotations

import pytest

from explorer.core.recipe import Recipe
from explorer.ui.panels.table import frame, told
from explorer.ui.state import Workspace
from tests.contract.nets import few

ALWAYS = ["layer", "kind", "shape", "weights", "nonzero", "sparsity", "bits", "bytes"]
CUT = Recipe().prune("conv2.weight", sparsity=0.5)


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        (Recipe(), []),
        (CUT, ["bytes_before"]),
        (CUT.quantize("fc1.weight", bits=4), ["scheme", "bytes_before"]),
        (CUT.keep("fc2.weight"), ["bytes_before", "protected"]),
        (Recipe().prune("conv1.weight", sparsity=0.5, mode="scale", factor=0.5), ["attenuated"]),
        (Recipe().prune("conv1.weight", sparsity=0.5, granularity="unit"), ["shape_left", "left", "bytes_before"]),
    ],
)
def test_columns_that_say_nothing_are_not_shown(recipe: Recipe, more: list[str], device: str) -> None:
    space = Workspace("fashion-lenet5")
    space.commit(recipe)
    shown = told(frame(space, few("fashion-lenet5", device=device)))
    assert sorted(shown) == sorted([*ALWAYS, *more, "group", "why_no_units"])


def test_a_model_without_units_has_no_column_for_them(device: str) -> None:
    data = frame(Workspace("bikes-mlp"), few("bikes-mlp", device=device))
    assert not {"group", "why_no_units"} & set(told(data.assign(group="", why_no_units="")))
