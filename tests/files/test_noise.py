"""Noise instead of data: it runs, it is seeded, and it says what it is."""

from __future__ import annotations

import pytest
import torch

import explorer
from explorer.files.noise import WARNING
from tests.contract.nets import MLP, CharLM, randomize


def test_agreement_on_noise_moves_with_the_model(device: str) -> None:
    net = randomize(MLP(widths=(6, 8, 4))).to(device)
    subject = explorer.Subject(net, explorer.noise_task((6,), samples=64), "noise")
    same = explorer.evaluate(subject, device=device)
    assert same.metrics["agreement"] == 1.0 and same.n == 64
    cut = explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.9), device=device)
    assert cut.metrics["cosine"] < same.metrics["cosine"]
    x, y = subject.task.batch("validation", range(64))[0], explorer.noise_task((6,), samples=64).splits["validation"].inputs
    assert torch.equal(x, y) and abs(float(x.mean())) < 0.2 and 0.8 < float(x.std()) < 1.2
    assert not torch.equal(x, subject.task.batch("train", range(64))[0])
    assert "say nothing about accuracy" in WARNING


def test_tokens(device: str) -> None:
    task = explorer.noise_task((12,), samples=32, vocabulary=9)
    tokens = task.splits["validation"].inputs
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() == 8 and tokens.shape == (32, 12)
    subject = explorer.Subject(CharLM().to(device), task, "tokens")
    assert explorer.evaluate(subject, device=device).metrics["agreement"] == 1.0


@pytest.mark.parametrize(
    "wrong", [{"shape": (0,)}, {"shape": (-1, 2)}, {"shape": (2.5,)}, {"shape": (1 << 20, 1 << 10)}, {"shape": (3,), "samples": 0}, {"shape": (True,)}]
)
def test_what_is_no_shape(wrong: dict[str, object]) -> None:
    with pytest.raises(explorer.TaskError, match="accepted: whole numbers above 0"):
        explorer.noise_task(**wrong)  # type: ignore[arg-type]
