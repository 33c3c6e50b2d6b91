"""torch.export programs of structurally pruned samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import explorer
from explorer.models.calls import calls
from explorer.models.trial import difference
from tests.contract.nets import sample

HALF = {
    "fashion-resnet": ["*"],
    "fashion-vit": ["blocks.*.attn.q", "blocks.*.fc1"],
    "vowels-lstm": ["lstm.weight_hh_l0"],  # one layer alone: a stack of different sizes
    "surnames-gru": ["gru"],
}
SLOW = ("fashion-resnet", "fashion-vit")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in HALF])
def test_a_smaller_model_comes_back_from_its_program(name: str, tmp_path: Path, device: str) -> None:
    subject = sample(name, device)
    recipe = explorer.Recipe().prune(HALF[name], granularity="unit", sparsity=0.5)
    bundle = explorer.export(subject, recipe, tmp_path / "出 out", formats=["pt2"], device=device)
    module = explorer.compress(subject, recipe).cpu()
    loaded = torch.export.load(bundle.folder / "model.pt2").module()
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in module.parameters())
    for call in calls(subject, module, (1, 7)):  # 7: a batch size that the exporter never tried
        assert difference(call(module), call(loaded)) <= 1e-5
    assert bundle.checks["model.pt2"] <= 1e-5
    assert "pickle" in (bundle.folder / "README.md").read_text(encoding="utf-8")
