"""Unit-prune rules: which groups a rule means, which of their units stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..analysis.criteria import registry as criteria
from ..analysis.importance import unit_scores
from ..analysis.look import Look
from ..core.checks import shown
from ..core.errors import RecipeError, UnsupportedError
from ..core.layers import Layer
from ..core.message import say
from ..core.rules import UNIT_PRUNE, Prune
from ..core.targets import matches, select
from ..models.structure import Cut
from ..models.subject import Subject
from .masks import round_units, units_that_stay


def groups_of(
    subject: Subject, rules: Sequence[object], holds: Mapping[str, Mapping[str, int]], protected: frozenset[str]
) -> dict[int, list[Cut]]:
    """{index of a unit-prune rule: the groups it cuts}; a group follows the last rule that one of its producers has."""
    chosen: dict[int, list[Cut]] = {}
    passed: dict[int, Cut] = {}  # widths of which a rule names only some of the layers
    for cut in subject.structure.cuts.values():
        if protected.intersection(cut.group.producers):
            continue
        found = {holds[name][UNIT_PRUNE] for name in cut.group.producers if UNIT_PRUNE in holds[name]}
        if meant := {index for index in found if _means(rules[index], cut)}:
            chosen.setdefault(max(meant), []).append(cut)
        passed.update({index: cut for index in found - meant})
    for index, rule in enumerate(rules):
        if (
            isinstance(rule, Prune)
            and rule.kind == UNIT_PRUNE
            and any(UNIT_PRUNE in h and h[UNIT_PRUNE] == index for h in holds.values())
        ):
            for target in rule.targets:
                _must_have_units(subject, target)
        if isinstance(rule, Prune) and index in passed and index not in chosen and not protected:
            group = passed[index].group
            raise UnsupportedError(
                say(
                    "{targets}: of these layers only the width {group!r} of the residual stream can be cut, which {count} "
                    "layers write; to cut it, name {group!r} or one of the layers",
                    targets=", ".join(rule.targets),
                    group=group.name,
                    count=len(group.producers),
                )
            )
    return chosen


def _means(rule: object, cut: Cut) -> bool:
    """Whether a rule that names a producer means the group. Layers all over a model write a residual stream's width: it is meant
    where one of them is named by itself, or all of them are; a module or pattern that holds a few of them means its own units."""
    group = cut.group
    if group.kind != "width" or len(group.producers) < 2 or not isinstance(rule, Prune):
        return True
    if any(
        target == group.name or target in group.producers or f"{target}.weight" in group.producers
        for target in rule.targets
    ):
        return True
    return all(any(matches(target, name) for target in rule.targets) for name in group.producers)


def _must_have_units(subject: Subject, target: str) -> None:
    named: tuple[Layer, ...] = select([target], subject.layers, subject.name)
    if all(layer.group is None for layer in named):
        first = named[0]
        why = subject.structure.refused.get(first.name, say("it produces no units"))
        able = ", ".join(subject.structure.cuts) or say("none")
        raise UnsupportedError(
            say(
                "{layer} ({kind}, {shape}): units cannot be removed: {why}; groups with removable units: {able}",
                layer=first.name,
                kind=first.kind,
                shape="x".join(map(str, first.shape)),
                why=why,
                able=able,
            )
        )


def kept_units(subject: Subject, rule: Prune, cuts: Sequence[Cut]) -> dict[str, Tensor]:
    """{group: sorted indices that stay}. A global scope ranks all groups at once, scores over their group's mean (of |score| where
    scores may be negative)."""
    if rule.mode == "shrink":
        raise RecipeError(say("mode='shrink' is defined for weights; for units use hard or scale"))
    if rule.units is not None:
        return {cut.group.name: _without(rule, rule.units, cut) for cut in cuts}
    scores = list(unit_scores(subject, criteria[rule.criterion](), cuts, Look()).values())
    if rule.scope == "global":
        scores = [s / m if (m := s.abs().mean()) > 0 else s for s in scores]
        stays = units_that_stay(scores, rule.sparsity, rule.threshold)
    else:
        stays = [units_that_stay([s], rule.sparsity, rule.threshold)[0] for s in scores]
    stays = [round_units(s, kept, rule.multiple, rule.at_least) for s, kept in zip(scores, stays, strict=True)]
    return {cut.group.name: kept for cut, kept in zip(cuts, stays, strict=True)}


def _without(rule: Prune, units: Sequence[int], cut: Cut) -> Tensor:
    """The units of a group but those that a rule names."""
    there = cut.group.units
    if units[-1] >= there or len(units) >= there:
        raise RecipeError(
            say(
                "{targets}: units={units}; accepted: indices of {group}, 0 to {last}, and one at least stays",
                targets=", ".join(rule.targets),
                units=shown(list(units)),
                group=cut.group.name,
                last=there - 1,
            )
        )
    stays = torch.ones(there, dtype=torch.bool)
    stays[list(units)] = False
    return stays.nonzero().flatten()


def soft_gains(
    cuts: Sequence[tuple[Cut, Tensor]], factor: float, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """{consumer weight: factors}: a unit is attenuated where it is read, which scales exactly its output."""
    gains: dict[str, Tensor] = {}
    for cut, kept in cuts:
        norm = next((piece.tensor for piece in cut.slices if piece.role == "norm"), None)
        if norm is not None:
            raise UnsupportedError(
                say(
                    "{group}: mode='scale' cannot attenuate units over which {norm} takes its statistics; use mode='hard'",
                    group=cut.group.name,
                    norm=norm,
                )
            )
        gone = torch.ones(cut.group.units, dtype=torch.bool)
        gone[kept] = False
        for piece in cut.slices:
            if piece.role == "consumer" and piece.tensor in shapes:
                gain = gains.setdefault(piece.tensor, torch.ones(shapes[piece.tensor]))
                index = piece.index[gone].reshape(-1)
                gain.index_copy_(piece.dim, index, gain.index_select(piece.dim, index) * factor)
    return gains
