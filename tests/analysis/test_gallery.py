"""Pictures of units: the lowest first, each drawn as what it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from explorer.analysis.gallery import gallery
from explorer.analysis.histogram import sorted_units
from explorer.figures.palette import LIGHT
from explorer.figures.units import folded, mosaic, units
from explorer.models.subject import Subject
from tests.contract.nets import classification, few


def test_filters_and_pixels(device: str) -> None:
    one = few("fashion-resnet", device=device)
    found = gallery(one, "b1.conv1", "fpgm", 5)
    scores, order = sorted_units(one, "b1.conv1", "fpgm")
    assert [(p.unit, p.score) for p in found] == list(zip(order, scores, strict=True))[:5]
    assert all(
        p.kind == "kernels" and np.array_equal(p.values, one.weight("b1.conv1.weight")[p.unit].cpu().numpy()[:16])
        for p in found
    )
    one = few("bikes-mlp", device=device)
    assert gallery(one, "fc1")[0].kind == "row"
    whole = few("fashion-mlp", device=device)
    named = Subject(whole.module, classification((1, 28, 28), display="image"), "images")
    picture = gallery(named, "fc1", count=1)[0]
    assert picture.kind == "image" and picture.values.shape == (28, 28)


def test_hidden_units_over_time(device: str) -> None:
    one = few("vowels-rnn", device=device)
    found = gallery(one, "rnn.l0", "l1", 3)
    inputs = one.task.batch("validation", range(4))[0].to(device)
    first = nn.RNN(12, 10, batch_first=True).to(device)
    state = {name: one.module.get_parameter(f"rnn.{name}").detach() for name in first.state_dict()}
    first.load_state_dict(state)
    with torch.no_grad():
        h = first(inputs)[0].cpu().numpy()  # [4, T, 10]
    for picture in found:
        assert picture.kind == "time" and picture.values.shape == (4, 29)
        assert np.allclose(picture.values[:, 1:], h[:, :-1, picture.unit], atol=1e-5) and not picture.values[:, 0].any()


def test_heads_are_drawn_as_their_attention(device: str) -> None:
    one = few("fashion-vit", device=device)
    found = gallery(one, "blocks.1.attn", "relevance")
    assert len(found) == 4 and all(p.kind == "attention" and p.values.shape == (16, 16) for p in found)
    inputs = one.task.batch("validation", range(48))[0].to(device)
    seen: list[torch.Tensor] = []
    original = F.scaled_dot_product_attention

    def watched(q, k, v, *rest, **more):  # type: ignore[no-untyped-def]
        seen.append((q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).mean(0))
        return original(q, k, v, *rest, **more)

    F.scaled_dot_product_attention = watched  # type: ignore[assignment]
    try:
        with torch.no_grad():
            one.copy()(inputs)
    finally:
        F.scaled_dot_product_attention = original  # type: ignore[assignment]
    for picture in found:
        assert np.allclose(picture.values, seen[1][picture.unit].cpu().numpy(), atol=1e-5)


def test_the_figure_has_a_plot_a_unit(device: str) -> None:
    found = gallery(few("fashion-resnet", device=device), "stem", count=8)
    figure = units(found, LIGHT, "filter")
    assert len(figure.data) == 8 and figure.layout.annotations[0].text.startswith(f"filter {found[0].unit} · ")
    assert {trace.zmax for trace in figure.data} == {max(float(np.abs(p.values).max()) for p in found)}
    drawn = mosaic(np.arange(8.0).reshape(2, 2, 2))
    assert drawn.shape == (2, 5) and np.isnan(drawn[:, 2]).all() and drawn[1].tolist()[3:] == [6.0, 7.0]
    assert folded(np.arange(5.0)).shape == (2, 3) and np.isnan(folded(np.arange(5.0))[1, 2])
    timed = units(gallery(few("vowels-rnn", device=device), "rnn.l1", count=2), LIGHT)
    assert len(timed.data) == 8 and timed.data[0].mode == "lines"
