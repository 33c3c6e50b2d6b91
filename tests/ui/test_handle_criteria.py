"""The handle over the scores of any criterion, and over gates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import explorer
from explorer.analysis.criteria import criteria
from explorer.analysis.criteria import registry as criteria_registry
from explorer.analysis.histogram import histogram
from explorer.analysis.importance import importance
from explorer.core.recipe import Recipe
from explorer.ui import edits
from explorer.ui.edits import Settings
from explorer.ui.panels import handle
from tests.contract.nets import few, tiny
from tests.ui.test_handle import draw


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.ui.i18n.language", lambda: "en")  # there is no session to ask


CRITERIA = [name for name in criteria() if not criteria_registry[name].slow]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_handle_stands_over_any_criterions_score(criterion: str, device: str) -> None:
    """Dragged to a threshold that a person can set, it cuts what lies at or below it, and is drawn there again."""
    subject, entry = few("fashion-resnet", device=device), criteria_registry[criterion]()
    layer = subject.layer("b2.conv1.weight")
    if entry.of_weights:
        settings = Settings(criterion=criterion)
        empty = draw(subject, layer.name, settings, Recipe())
        scores = importance(subject, criterion, layers=[layer.name])[layer.name].cpu()
        assert sum(empty["counts"]) == layer.numel and empty["lo"] < empty["hi"]
        assert empty["value"]["t"] < float(scores.min()) or empty["value"]["t"] == 0
        t = float(scores.flatten().float().sort().values[layer.numel * 2 // 5])
        made = handle.edit(Recipe(), subject, layer, settings, {"t": t})
        back = draw(subject, layer.name, settings, made)
        assert back["value"]["t"] == pytest.approx(t, rel=1e-4)
        cut = ~explorer.resolve(subject, made).masks[layer.name].cpu()
        assert int(cut.sum()) == int((scores <= edits.rounded(t)).sum()) and 0.35 < back["readout"]["cut"] < 0.45
    if entry.of_units and entry.is_compatible(subject, "b2.conv1") is None:
        settings = Settings(criterion=criterion, granularity="unit")
        for k in (1, 20, 63):
            made = handle.edit(Recipe(), subject, layer, settings, {"k": k})
            back = draw(subject, layer.name, settings, made)
            assert back["value"]["k"] == k == 64 - len(explorer.resolve(subject, made).kept["b2.conv1"])


def test_skewed_scores_are_spread_out(device: str) -> None:
    """Most bins of a warped histogram hold something, though half of the scores lie below a thousandth of the largest."""
    subject = few("fashion-resnet", device=device)
    shown = draw(subject, "b2.conv1.weight", Settings(criterion="taylor"), Recipe())
    assert shown["warp"] < 1 and sum(count > 0 for count in shown["counts"]) > 80
    found = histogram(subject, "b2.conv1.weight", "taylor")
    assert shown["hi"] == pytest.approx(found.high ** shown["warp"]) and max(found.counts) < 0.2 * found.entries
    assert draw(subject, "b2.conv1.weight", Settings(), Recipe())["warp"] == 1


def test_gates_are_shown_by_their_names_and_cut_by_number(device: str) -> None:
    subject = few("surnames-gru", device=device)
    layer, settings = subject.layer("gru.weight_hh_l0"), Settings(granularity="gate")
    shown = draw(subject, layer.name, settings, Recipe())
    assert (
        shown["view"] == "units"
        and set(shown["units"]) == {"reset gate", "update gate", "new gate"}
        and shown["text"]["units"] == "gates"
    )
    assert shown["scores"] == sorted(shown["scores"])
    made = handle.edit(Recipe(), subject, layer, settings, {"k": 1})
    assert draw(subject, layer.name, settings, made)["value"]["k"] == 1
    weakest = ["reset gate", "update gate", "new gate"].index(shown["units"][0])
    assert not explorer.resolve(subject, made).masks[layer.name].chunk(3)[weakest].any()


def test_weights_beside_a_huge_one_can_still_be_told_apart(device: str) -> None:
    """On an even scale 1,023 of 1,024 weights would stand in one bin, and one pixel would cut them all."""
    torch.manual_seed(0)
    net = nn.Linear(32, 32, bias=False)
    with torch.no_grad():
        net.weight[3, 3] = 1e6
    subject = tiny(net, (32,), device=device)
    found = histogram(subject, "weight")
    assert found.signed and found.warp < 1 and sum(found.counts) == 1024 and max(found.counts) < 300
    shown = draw(subject, "weight", Settings(), Recipe())
    assert shown["view"] == "weights" and shown["hi"] == pytest.approx(1e6 ** shown["warp"]) == pytest.approx(-shown["lo"])
