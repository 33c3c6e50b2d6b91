"""Large layers counted from their file: the screen's figures come from there, and are those of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import explorer
from explorer.analysis import histogram as histograms
from explorer.analysis.histogram import histogram
from explorer.evaluate import costs
from explorer.files import prefill


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_figures_of_a_counted_file(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (histograms, prefill, costs):
        monkeypatch.setattr(module, "LARGE", 1000)
    weight = torch.randn(80, 90).to(dtype)
    weight[:20] = 0
    save_file({"a.weight": weight, "small.weight": torch.ones(3, 3), "moved.weight": torch.randn(50, 60)}, tmp_path / "a.safetensors")
    subject = explorer.load(tmp_path / "a.safetensors")
    told: list[int] = []
    assert prefill.count_weights(subject, tmp_path / "a.safetensors", lambda done, total: told.append(total - done)) == 2 and told[-1] == 0
    monkeypatch.setattr("explorer.analysis.words.tally_of", lambda _: pytest.fail("a weight was read again"))
    found = histogram(subject, "a.weight", bins=41)
    m = float(weight.abs().max())
    assert found.entries == 7200 == sum(found.counts) and found.signed and found.high == pytest.approx(m, rel=1 / 128)
    at = torch.linspace(0, 7199, 513, dtype=torch.float64).round().long()
    expected = weight.float().abs().flatten().sort().values[at]
    np.testing.assert_allclose(found.quantiles, expected, rtol=0 if dtype == torch.bfloat16 else 0.008)
    if dtype == torch.bfloat16:
        np.testing.assert_array_equal(found.counts, np.histogram(weight.double().flatten(), 41, (-m, m))[0])
    assert costs.nonzero_of(subject, "a.weight") == 5400 and costs.nonzero_of(subject, "small.weight") == 9


def test_what_is_not_streamed_is_left(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.randn(3, 3)}, tmp_path / "a.pt")
    assert prefill.count_weights(explorer.load(tmp_path / "a.pt"), tmp_path / "a.pt") == 0
