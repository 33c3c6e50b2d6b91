"""Perplexity, cross-entropy (nats a token), next-token accuracy. Targets of -100 are ignored."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import EvaluationError
from ...core.message import say
from ...core.report import Change, Figure
from ...models.task import Task
from .. import intervals
from . import Columns, Metrics, expect, figure, largest_changes, once


def right_tokens(logits: Tensor, targets: Tensor) -> Tensor:
    """bool [M]: whether the first largest of finite logits float32 [M, V] is the target's; targets [M], -100 where none counts."""
    if logits.device.type != "cpu":
        return (logits.argmax(1) == targets) & (targets != -100)
    from .tokens import right  # numba takes a moment to import

    return torch.from_numpy(right(logits.detach().numpy(), targets.contiguous().numpy()))


class LanguageModel(Metrics):
    """Columns, sums over one sequence: nll float [N], hits [N], tokens [N]."""

    def __init__(self) -> None:
        from . import tokens as compiled  # noqa: F401 (made before an evaluation, whose pace is measured)

    def columns(self, task: Task, outputs: Any, targets: Any) -> dict[str, Tensor]:
        logits = expect(outputs, (3,), say("logits [N, T, V]"))
        if logits.shape[:2] != targets.shape:
            raise EvaluationError(
                say(
                    "logits {logits}, targets {targets}; accepted: [N, T, V] and [N, T]",
                    logits=tuple(logits.shape),
                    targets=tuple(targets.shape),
                )
            )
        inside = targets[targets != -100]
        if len(inside) and not 0 <= int(inside.min()) <= int(inside.max()) < logits.shape[2]:
            raise EvaluationError(
                say(
                    "targets run from {low} to {high}, logits have {tokens} tokens; accepted: token indices, -100 where none "
                    "counts",
                    low=int(inside.min()),
                    high=int(inside.max()),
                    tokens=logits.shape[2],
                )
            )
        rows, counted = logits.float().flatten(0, 1).contiguous(), targets != -100
        nll = nn.functional.cross_entropy(rows, targets.flatten(), reduction="none")
        hits = right_tokens(rows, targets.flatten()).view(targets.shape)
        return {"nll": nll.view(targets.shape).cpu().double().sum(1), "hits": hits.sum(1), "tokens": counted.sum(1)}

    @once
    def figures(self, columns: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        tokens, n = columns["tokens"], len(columns["tokens"])
        entropy = columns["nll"].sum().item() / max(1, int(tokens.sum()))
        accuracy = int(columns["hits"].sum()) / max(1, int(tokens.sum()))
        perplexity = math.exp(entropy) if entropy < 700 else math.inf
        return {
            "perplexity": figure(perplexity, split, n),
            "cross_entropy": figure(entropy, split, n, intervals.ratio(columns["nll"], tokens, within)),
            "next_token_accuracy": figure(accuracy, split, n, intervals.ratio(columns["hits"], tokens, within)),
            "loss": figure(entropy, split, n, intervals.ratio(columns["nll"], tokens, within)),
        }

    def changes(self, before: Columns, after: Columns, split: str, within: intervals.Within | None = None) -> dict[str, Figure]:
        first, second = self.figures(before, split, within), self.figures(after, split, within)
        n = len(after["tokens"])
        out = {name: figure(second[name].value - first[name].value, split, n) for name in second}
        for name, column in (("cross_entropy", "nll"), ("next_token_accuracy", "hits"), ("loss", "nll")):
            paired = intervals.ratio(after[column].double() - before[column].double(), after["tokens"], within)
            out[name] = figure(out[name].value, split, n, paired)
        return out

    def changed(self, before: Columns, after: Columns, indices: Tensor) -> list[Change]:
        tokens = after["tokens"].clamp(min=1)
        return largest_changes(before["nll"] / tokens, after["nll"] / tokens, indices, None)
