"""Layer-prune rules: which removable blocks a rule means, which of them go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..analysis.criteria import registry as criteria
from ..analysis.importance import block_score
from ..analysis.look import Look
from ..core.errors import UnsupportedError
from ..core.message import say
from ..core.rules import LAYER_PRUNE, Prune
from ..core.targets import select
from ..models.blocks import Block
from ..models.subject import Subject
from .masks import lowest


def blocks_of(
    subject: Subject, rules: Sequence[object], holds: Mapping[str, Mapping[str, int]], protected: frozenset[str]
) -> dict[int, list[Block]]:
    """{index of a layer-prune rule: the blocks that it ranks}.

    A rule that holds for all layers of a block means it. One that holds for some of them means the innermost block around these.
    """
    chosen: dict[int, list[Block]] = {}
    blocks = list(subject.depth.blocks.values())
    for block in blocks:
        layers = set(block.group.producers)
        if protected & layers:
            continue
        inner = {name for other in blocks if layers > set(other.group.producers) for name in other.group.producers}
        found = {holds[name][LAYER_PRUNE] for name in layers - inner if LAYER_PRUNE in holds[name]}
        whole = {holds[name].get(LAYER_PRUNE, -1) for name in layers}
        if found or (len(whole) == 1 and whole != {-1}):
            chosen.setdefault(max(found or whole), []).append(block)
    for index, rule in enumerate(rules):
        if (
            isinstance(rule, Prune)
            and rule.kind == LAYER_PRUNE
            and any(kinds.get(LAYER_PRUNE) == index for kinds in holds.values())
        ):
            for target in rule.targets:
                _must_have_a_block(subject, target)
    return chosen


def _must_have_a_block(subject: Subject, target: str) -> None:
    named = select([target], subject.layers, subject.name)
    inside = {name for group in subject.blocks for name in group.producers}
    if not inside & {layer.name for layer in named}:
        why = subject.depth.refused.get(named[0].name, "")
        able = ", ".join(group.name for group in subject.blocks) or "none"
        raise UnsupportedError(
            say(
                "{layer}: the block around it cannot be removed: {why}; removable blocks: {able}",
                layer=named[0].name,
                why=why,
                able=able,
            )
        )


def scores_of(subject: Subject, criterion: str, blocks: Sequence[Block]) -> Tensor:
    """[blocks]: mean scores a weight, so that sizes do not decide. Kept, since they do not change while a threshold moves."""
    entry = criteria[criterion]()

    def one(block: Block) -> float:
        key = ("block score", subject.version, entry.key, block.group.name)
        return subject.memo.get(key, lambda: block_score(subject, entry, block.group, Look()))

    return torch.tensor([one(block) for block in blocks])


def blocks_that_go(subject: Subject, rule: Prune, blocks: Sequence[Block]) -> list[Block]:
    """The lowest ``round(sparsity * n)``, or those at or below the threshold. All may go: what the residual carries remains."""
    scores = scores_of(subject, rule.criterion, blocks)
    cut = (
        scores <= rule.threshold
        if rule.threshold is not None
        else lowest(scores, round((rule.sparsity or 0.0) * len(blocks)))
    )
    return [block for block, goes in zip(blocks, cut.tolist(), strict=True) if goes]
