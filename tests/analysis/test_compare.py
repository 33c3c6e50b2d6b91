"""Rank correlations against scipy's and pandas', and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.analysis.compare import correlations, kendall, ranks, spearman, table
from explorer.core.errors import RecipeError
from explorer.core.message import Message
from tests.contract.nets import few, tiny


def test_ranks_share_ties() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


def test_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert spearman(a, b) == pytest.approx(1 - 6 * 2 / (4 * 15)) and kendall(a, b) == pytest.approx((5 - 1) / 6)
    assert spearman(a, -a) == kendall(a, -a) == pytest.approx(-1.0)
    assert np.isnan(spearman(a, np.ones(4))) and np.isnan(kendall(a, np.ones(4)))


@pytest.mark.parametrize("seed", range(3))
def test_as_scipy_with_ties(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 20, 150).astype(float), generator.normal(size=150).round(1)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_tables_of_units_and_of_weights(device: str) -> None:
    one = few("fashion-mlp", device=device)
    units = table(one, "fc1", ["l1", "fpgm", "random"], samples=16)
    assert units.shape == (300, 3) and units.index.name == "unit"
    weights = table(one, "fc1.weight", ["l1", "snip"], samples=16)
    assert weights.shape == (2000, 2) and weights.index.is_unique and weights.index.max() < 235_200
    flat = one.weight("fc1.weight").abs().flatten().cpu().numpy()
    assert np.allclose(weights["l1"], flat[weights.index])
    found = correlations(units)
    assert (
        np.allclose(np.diag(found), 1)
        and np.allclose(found, found.T)
        and found.loc["l1", "fpgm"] > 0.5 > abs(found.loc["l1", "random"])
    )
    assert correlations(units, "kendall").loc["l1", "fpgm"] < found.loc["l1", "fpgm"]
    with pytest.raises(RecipeError, match="accepted: spearman, kendall") as caught:
        correlations(table(tiny(device=device), "fc.0", ["l1", "l2"]), "pearson")
    assert isinstance(caught.value.message, Message)
