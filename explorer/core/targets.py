"""Which layers a recipe's targets mean, and which rule holds for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from .errors import RecipeError, near
from .layers import Layer
from .message import say
from .rules import Clear, Keep, Rule

UNNAMED = say("the subject")
WILD = frozenset("*?[")  # what makes a pattern of a name


def matches(target: str, name: str) -> bool:
    """Whether a target (parameter FQN, module FQN or pattern) means the parameter ``name``.

    A module means everything inside it; a pattern is tried on the parameter and on the modules around it.
    """
    if target == name or name.startswith(target + "."):
        return True
    while name and not WILD.isdisjoint(target):
        if fnmatchcase(name, target):
            return True
        name = name.rpartition(".")[0]
    return False


def select(targets: Iterable[str], layers: Sequence[Layer], subject: str = UNNAMED) -> tuple[Layer, ...]:
    """The layers that the targets mean, in layer order. A target that means none is a :class:`RecipeError`."""
    found: set[str] = set()
    for target in targets:
        hits = {layer.name for layer in layers if matches(target, layer.name)}
        if not hits:
            names = [layer.name for layer in layers]
            names += sorted({layer.module for layer in layers if layer.module} - set(names))
            raise RecipeError(
                say(
                    "{target!r} names no layer of {subject}; {hint}",
                    target=target,
                    subject=subject,
                    hint=near(target, names),
                )
            )
        found |= hits
    return tuple(layer for layer in layers if layer.name in found)


def effective(
    rules: Sequence[Rule], layers: Sequence[Layer], subject: str = UNNAMED
) -> tuple[Mapping[str, Mapping[str, int]], frozenset[str]]:
    """For each layer the index of the rule that holds, by kind; and the protected layers.

    Returns ({layer: {kind: index into rules}}, protected).
    """
    holds: dict[str, dict[str, int]] = {layer.name: {} for layer in layers}
    kept: set[str] = set()
    for index, rule in enumerate(rules):
        for layer in select(rule.targets, layers, subject):
            if isinstance(rule, Clear):
                for kind in rule.kinds:
                    holds[layer.name].pop(kind, None)
                if "keep" in rule.kinds:
                    kept.discard(layer.name)
            elif isinstance(rule, Keep):
                kept.add(layer.name)
            else:
                holds[layer.name][rule.kind] = index
    return {name: {} if name in kept else kinds for name, kinds in holds.items()}, frozenset(kept)
