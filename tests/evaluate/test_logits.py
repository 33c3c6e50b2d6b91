"""Logits looked at by compiled code: losses and predictions as torch's, of every layout and type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explorer.evaluate.metrics.classification import losses_and_predictions


@pytest.mark.parametrize("n", [1, 7, 1000])
@pytest.mark.parametrize("classes", [1, 2, 10, 65])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_and_predictions_are_torchs_and_the_logits_stay(n: int, classes: int, by_column: bool, dtype: torch.dtype, device: str) -> None:
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(0)).round().to(device, dtype)  # many ties
    logits = logits.t().contiguous().t() if by_column else logits
    before, targets = logits.clone(), torch.arange(n, device=device) % classes
    loss, prediction = losses_and_predictions([logits], targets)
    assert torch.equal(logits, before)
    assert prediction.tolist() == [row.index(max(row)) for row in before.tolist()]
    torch.testing.assert_close(loss, nn.functional.cross_entropy(before.float(), targets, reduction="none"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_of_logits_far_apart_and_of_classes_ruled_out(dtype: torch.dtype, device: str) -> None:
    far = [[0.0, 1e4, -1e4], [80.0, -80.0, 0.0], [-torch.inf, 1.0, 2.0], [3e38, 3e38, 0.0], [1e-40, 0.0, -1e-40], [-20.0, -20.5, -19.0]]
    logits = torch.tensor(far, device=device, dtype=dtype)
    for target in range(3):
        targets = torch.full((len(far),), target, device=device)
        loss, prediction = losses_and_predictions([logits], targets)
        exact = nn.functional.cross_entropy(logits.cpu().double(), targets.cpu(), reduction="none")
        torch.testing.assert_close(loss.cpu().double(), exact, rtol=1e-5, atol=1e-6)
        assert torch.equal(prediction.cpu(), logits.cpu().float().argmax(1))
