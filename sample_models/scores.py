"""Scores of a model on a split, as they stand on the cards."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sample_models.datasets import Split

MAIN = {"classification": "accuracy", "regression": "r2", "language_model": "cross_entropy"}
LOWER_IS_BETTER = {"cross_entropy"}


@torch.no_grad()
def score(module: nn.Module, split: Split, task: str, chunk: int = 500) -> dict[str, float]:
    """Return `n`, the number of samples, and the metrics of `task` over all of them, in evaluation mode.

    Classification: accuracy, cross_entropy (nats). Language model: next_token_accuracy, cross_entropy (nats a
    token), perplexity = exp(cross_entropy), tokens. Regression: r2, rmse, mae (the last two in the target's unit).
    """
    module.eval()
    measure = _regression if task == "regression" else _classification
    sums: dict[str, float] = {}
    for indices in torch.arange(len(split)).split(chunk):
        x, y = split.batch(indices)
        for key, value in measure(module(x), y).items():
            sums[key] = sums.get(key, 0.0) + float(value)
    if task == "regression":
        return {"n": len(split), **_regression_scores(sums)}
    accuracy, entropy = sums["correct"] / sums["count"], sums["entropy"] / sums["count"]
    if task == "classification":
        return {"n": len(split), "accuracy": accuracy, "cross_entropy": entropy}
    scores = {"cross_entropy": entropy, "perplexity": math.exp(entropy), "next_token_accuracy": accuracy}
    return {"n": len(split), "tokens": int(sums["count"]), **scores}


def _classification(logits: Tensor, y: Tensor) -> dict[str, Tensor | int]:
    """Sums over logits (..., C) and classes (...)."""
    logits, y = logits.flatten(0, -2), y.flatten()
    correct = (logits.argmax(-1) == y).sum()
    return {"count": len(y), "correct": correct, "entropy": F.cross_entropy(logits, y, reduction="sum")}


def _regression(outputs: Tensor, y: Tensor) -> dict[str, Tensor | int]:
    """Sums over outputs (B, 1) and targets (B, 1), in float64 because squares of counts are large."""
    error, y = (outputs - y).double(), y.double()
    sums = {"square": (error**2).sum(), "absolute": error.abs().sum(), "y": y.sum(), "yy": (y**2).sum()}
    return {"count": len(y), **sums}


def _regression_scores(sums: dict[str, float]) -> dict[str, float]:
    n = sums["count"]
    variation = sums["yy"] - sums["y"] ** 2 / n  # sum of squares about the mean
    return {
        "r2": 1 - sums["square"] / variation,
        "rmse": math.sqrt(sums["square"] / n),
        "mae": sums["absolute"] / n,
    }
