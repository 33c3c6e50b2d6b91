"""Scores of weights and of units under a criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..core.checks import as_targets
from ..core.errors import RecipeError, UnsupportedError, near
from ..core.layers import Group
from ..core.message import joined, say
from ..models.structure import Cut
from ..models.subject import Subject, checked
from .criteria import Criterion, registry
from .look import Look

MOST = 3  # reasons that a message spells out


def importance(
    subject: Subject,
    criterion: str = "l1",
    *,
    granularity: Literal["weight", "unit", "layer"] = "weight",
    layers: Sequence[str] | None = None,
    samples: int = 1024,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> dict[str, Tensor]:
    """Scores under a criterion; small means unimportant.

    granularity "weight": {layer: Tensor of the weight's shape}; "unit": {group: Tensor [units]};
    "layer": {removable block: Tensor [1]}, the mean a weight. layers: only these layers (or groups, or blocks); None: all to which the criterion applies.
    samples, seed: for criteria that look at data: how many of the train split, stratified, and their order.
    device, progress(done, total), cancel(): for the passes over data. Gradients and activations of all first-order criteria come
    from one pass, which is kept. The module, its gradients and its requires_grad stay as they are.
    Raises :class:`RecipeError` for unknown names, :class:`UnsupportedError` where the criterion does not apply.
    """
    checked(subject)
    entry = registry[criterion]()
    look = Look(samples, seed, progress, cancel, device)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise RecipeError(say("samples={samples!r}; accepted: a whole number from 1", samples=samples))
    if granularity == "weight":
        names = _chosen(subject, entry, layers, {layer.name: [layer.name] for layer in subject.layers})
        return _own(weight_scores(subject, entry, names, look))
    if granularity == "layer":
        blocks = {group.name: group for group in subject.blocks}
        chosen = _chosen(subject, entry, layers, {name: list(group.producers) for name, group in blocks.items()})
        return {name: torch.tensor([block_score(subject, entry, blocks[name], look)]) for name in chosen}
    if granularity != "unit":
        raise RecipeError(say("granularity={granularity!r}; accepted: weight, unit, layer", granularity=granularity))
    cuts = subject.structure.cuts
    chosen = _chosen(subject, entry, layers, {name: [name] for name in cuts})
    return _own(unit_scores(subject, entry, [cuts[name] for name in chosen], look))


def _own(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The caller's to write to: what is kept stays as it is."""
    return {name: scores.clone() for name, scores in kept.items()}


def _chosen(
    subject: Subject, entry: Criterion, names: Sequence[str] | None, there: Mapping[str, list[str]]
) -> list[str]:
    """The names asked for; or all that can be scored, of which there must be one where there is anything.

    there: {name: the layers or groups that the criterion has to fit for it}.
    """
    names = None if names is None else as_targets(names, "layers", empty=True)
    for name in names or ():
        if name not in there:
            raise RecipeError(say("no layer or group {name!r} to score; {hint}", name=name, hint=near(name, there)))
    if names is not None:
        return list(names)
    reasons = {
        name: next((why for one in parts if (why := entry.is_compatible(subject, one))), None)
        for name, parts in there.items()
    }
    able = [name for name, why in reasons.items() if why is None]
    if there and not able:
        first = next(iter(there))
        raise UnsupportedError(say("{name}: {why}", name=first, why=reasons[first]))
    return able


def weight_scores(subject: Subject, entry: Criterion, names: list[str], look: Look) -> dict[str, Tensor]:
    """{layer: scores of its shape}, cached; non-finite scores are refused, since no ranking of them means anything."""
    keys = {name: ("scores", subject.version, entry.key, name, look.key) for name in names}
    found = {name: kept for name in names if (kept := subject.memo.peek(keys[name])) is not None}
    missing = [name for name in names if name not in found]
    _must_fit(subject, entry, missing, len(names))
    if missing:
        for name, scores in entry.scores(subject, missing, look).items():
            _must_be_finite(name, scores)
            found[name] = scores.detach()
            subject.memo.put(keys[name], found[name])
    return {name: found[name] for name in names}


def unit_scores(subject: Subject, entry: Criterion, cuts: Sequence[Cut], look: Look) -> dict[str, Tensor]:
    """{group: scores of its units}, each on the device of the group's first producer; cached."""
    keys = {cut.group.name: ("unit scores", subject.version, entry.key, cut.group.name, look.key) for cut in cuts}
    _must_fit(subject, entry, [name for name, key in keys.items() if subject.memo.peek(key) is None], len(cuts))

    def find(cut: Cut) -> Tensor:
        scores = entry.unit_scores(subject, cut, look).detach()
        _must_be_finite(cut.group.name, scores)
        return scores.float().to(subject.weight(cut.group.producers[0]).device)

    return {cut.group.name: subject.memo.get(keys[cut.group.name], lambda cut=cut: find(cut)) for cut in cuts}  # type: ignore[misc]


def block_score(subject: Subject, entry: Criterion, group: Group, look: Look) -> float:
    """The criterion aggregated over all weights of a block, over what it gives for as many ones: a mean for a sum,
    a root mean square for a root of squares. So blocks of different sizes compare."""
    found = weight_scores(subject, entry, list(group.producers), look)
    flat = torch.cat([found[name].reshape(1, -1).float().cpu() for name in group.producers], 1)
    return float(entry.aggregate(flat) / entry.aggregate(torch.ones_like(flat)))


def _must_fit(subject: Subject, entry: Criterion, names: Sequence[str], asked: int) -> None:
    """Refuse all at once, before any work: a ranking that left some out in silence would not be what was asked for."""
    reasons = {name: why for name in names if (why := entry.is_compatible(subject, name)) is not None}
    if not reasons:
        return
    if asked == 1:
        name, why = next(iter(reasons.items()))
        raise UnsupportedError(say("{name}: {why}", name=name, why=why))
    said = [say("{name}: {why}", name=name, why=why) for name, why in list(reasons.items())[:MOST]]
    if len(reasons) > MOST:
        said.append(say("and {count} more", count=len(reasons) - MOST))
    raise UnsupportedError(
        say(
            "{criterion} cannot score {count} of the {asked} that are meant. {reasons}. Accepted: another criterion; or the others "
            "alone: name them, or protect these (Recipe.keep, on screen the lock)",
            criterion=entry.title, count=len(reasons), asked=asked, reasons=joined(said, "; "),
        )
    )  # fmt: skip


def _must_be_finite(name: str, scores: Tensor) -> None:
    if not bool(torch.isfinite(scores).all()):
        raise UnsupportedError(
            say("{name}: its scores hold NaN or infinity (as its weights may); nothing to rank", name=name)
        )
