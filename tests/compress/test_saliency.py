"""Rules by any criterion: patterns, blocks, and thresholds on scores that may be negative."""

from __future__ import annotations

import torch

from explorer.analysis.importance import importance
from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from tests.contract.nets import MLP, tiny


def test_patterns_keep_the_best_of_every_run_by_the_criterion(device: str) -> None:
    one = tiny(MLP((8, 12, 3)), (8,), device=device)
    for criterion in ("taylor", "wanda", "grasp"):
        scores = importance(one, criterion)["fc.0.weight"]
        mask = resolve(one, Recipe().prune("fc.0.weight", granularity="2:4", criterion=criterion)).masks["fc.0.weight"]
        for row in range(12):
            for run in (slice(0, 4), slice(4, 8)):
                best = set(scores[row, run].topk(2).indices.tolist())
                assert set(mask[row, run].nonzero().flatten().tolist()) == best


def test_blocks_are_ranked_by_the_sum_of_their_scores(device: str) -> None:
    one = tiny(MLP((8, 12, 3)), (8,), device=device)
    scores = importance(one, "snip")["fc.0.weight"]
    mask = resolve(one, Recipe().prune("fc.0.weight", granularity="4x2", sparsity=0.5, criterion="snip")).masks[
        "fc.0.weight"
    ]
    sums = {(r, c): float(scores[r : r + 4, c : c + 2].sum()) for r in (0, 4, 8) for c in (0, 2, 4, 6)}
    lowest = sorted(sums, key=sums.__getitem__)[:6]
    for r, c in sums:
        assert (
            bool(mask[r : r + 4, c : c + 2].any()) == ((r, c) not in lowest) == bool(mask[r : r + 4, c : c + 2].all())
        )


def test_thresholds_may_be_negative(device: str) -> None:
    one = tiny(device=device)
    scores = importance(one, "movement")["fc.0.weight"]
    cut = float(scores.quantile(0.3))
    assert cut < 0
    mask = resolve(one, Recipe().prune("fc.0.weight", threshold=cut, criterion="movement")).masks["fc.0.weight"]
    assert torch.equal(mask, scores > cut)


def test_one_ranking_over_units_of_signed_scores_is_over_their_size(device: str) -> None:
    one = tiny(MLP((6, 8, 8, 3)), device=device)
    kept = resolve(
        one, Recipe().prune("*", sparsity=0.5, granularity="unit", scope="global", criterion="movement")
    ).kept
    scores = importance(one, "movement", granularity="unit")
    normal = torch.cat([scores[name] / scores[name].abs().mean() for name in ("fc.0", "fc.1")])
    lowest = set(normal.topk(8, largest=False).indices.tolist())
    gone = {
        8 * i + u
        for i, name in enumerate(("fc.0", "fc.1"))
        for u in range(8)
        if u not in kept.get(name, torch.arange(8)).tolist()
    }
    assert gone == lowest
