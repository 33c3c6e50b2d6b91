"""The entropy range against its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from explorer.compress.codes import Uniform
from explorer.compress.divergence import Histograms
from explorer.compress.quantizers import registry
from explorer.compress.ranges import clipped, uniform
from explorer.compress.slices import Slices


@pytest.mark.parametrize("bits", [3, 5])
def test_the_entropy_range_is_that_of_plain_loops(bits: int, device: str) -> None:
    weight = (torch.randn(4000) ** 3).to(device)
    codes = registry["entropy"]().fit(weight, bits, "symmetric", Slices())
    assert isinstance(codes, Uniform)
    size, most, levels = weight.abs().cpu().numpy(), float(weight.abs().max()), 2 ** (bits - 1) - 1
    counts_, edges = np.histogram(size, 2048, (0, most))
    centers = (edges[1:] + edges[:-1]) / 2
    found = {}
    for factor in np.linspace(1, 0.01, 100):
        clip = most * factor
        inside = centers <= clip
        p = np.where(inside, counts_, 0).astype(float)
        p[np.flatnonzero(inside)[-1]] += counts_[~inside].sum()
        code = np.minimum(np.round(centers / (clip / levels)), levels)
        q = np.zeros_like(p)
        for one in np.unique(code[inside]):
            mine = inside & (code == one)
            occupied = mine & (p > 0)
            q[occupied] = counts_[mine].sum() / max(occupied.sum(), 1)
        p, q = p / p.sum(), q / q.sum()
        found[factor] = sum(a * math.log(a / max(b, 1e-9)) for a, b in zip(p, q, strict=True) if a > 0)
    chosen = float(codes.scale) * levels / most
    assert min(found, key=found.get) == pytest.approx(chosen, abs=0.011)  # type: ignore[arg-type]
    assert chosen < 0.99, "a tail as heavy as this one has to be clipped"


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_the_divergence_by_prefix_sums_is_that_of_plain_loops(scheme: str, bits: int, device: str) -> None:
    """Several slices at once, one empty, one with an outlier, one on one side of zero; ranges down to a single bin."""
    torch.manual_seed(0)
    rows = torch.stack([torch.randn(300), torch.zeros(300), torch.randn(300) ** 5, torch.rand(300)]).to(device)
    least, most = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    bins = 64
    step = ((most - least) / bins).clamp(min=1e-38)
    places = ((rows - least[:, None]) / step[:, None]).long().clamp(0, bins - 1)
    counts = torch.zeros(4, bins, device=device).scatter_add_(1, places, (rows != 0).float())
    found = Histograms(counts, least, step)
    for factor in (1.0, 0.71, 0.33, 0.05, 0.012):
        low, high = clipped(least, most, factor)
        codes = uniform(low, high, bits, scheme, Slices((4, 300), 0))
        mine = found.divergence(codes, low, high, torch.arange(4, device=low.device))
        for i in (0, 2, 3):
            centers = float(least[i]) + (np.arange(bins) + 0.5) * float(step[i])
            c = counts[i].cpu().numpy().astype(float)
            inside = np.flatnonzero((centers >= float(low[i])) & (centers <= float(high[i])))
            if not len(inside):
                continue  # a range within one bin: no plain answer
            p = np.zeros(bins)
            p[inside] = c[inside]
            p[inside[0]] += c[: inside[0]].sum()
            p[inside[-1]] += c[inside[-1] + 1 :].sum()
            code = np.clip(
                np.round(centers / float(codes.scale[i])) + float(codes.zero_point[i]), codes.low, codes.high
            )
            q = np.zeros(bins)
            for one in np.unique(code[inside]):
                of = inside[code[inside] == one]
                full = of[p[of] > 0]
                q[full] = c[of].sum() / max(len(full), 1)
            p, q = p / p.sum(), q / max(q.sum(), 1e-30)
            plain = sum(a * math.log(a / max(b, 1e-9)) for a, b in zip(p, q, strict=True) if a > 0)
            assert float(mine[i]) == pytest.approx(plain, abs=1e-9), (factor, i)
        assert torch.isfinite(mine).all()
