"""What a sensitivity scan tries: one layer or group changed alone, by one step of sparsity or bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..compress.resolve import resolve
from ..core.checks import as_targets
from ..core.errors import RecipeError, UnsupportedError, near
from ..core.message import say
from ..core.recipe import Recipe
from ..core.targets import matches
from ..models.subject import Subject, checked

SPARSITIES = tuple(i / 10 for i in range(1, 10))
BITS = (8, 7, 6, 5, 4, 3, 2)
FACTOR = 0.5  # of soft pruning, where none is named


@dataclass(frozen=True)
class Sweep:
    """How every target is changed, and by which steps (sparsities or bits)."""

    by: Any = "sparsity"
    points: tuple[float, ...] = SPARSITIES
    granularities: tuple[str, ...] = ("weight",)  # "unit" beside at most one of weights
    criterion: str = "l1"
    mode: Any = "hard"
    factor: float | None = None
    quantizer: str = "minmax"
    scheme: Any = None  # the quantizer's own

    def edit(self, base: Recipe, target: Target, point: float) -> Recipe:
        """The base with one target changed."""
        way: Any = target.granularity
        if self.by == "bits":
            return base.quantize(
                target.rule, bits=int(point), quantizer=self.quantizer, scheme=self.scheme, granularity=way
            )
        return base.prune(
            target.rule, sparsity=point, criterion=self.criterion, granularity=way, mode=self.mode, factor=self.factor
        )


@dataclass(frozen=True)
class Target:
    """One curve. name: of the layer or group; layers: those that it changes (of a group, its producers); kind: of layer or unit."""

    name: str
    layers: tuple[str, ...]
    kind: str
    granularity: str = "weight"
    group: str = ""

    @property
    def rule(self) -> str:
        """What a recipe's rule names."""
        return self.layers[0] if self.group else self.name


def sweep_of(
    by: str = "sparsity",
    sparsities: Sequence[float] = SPARSITIES,
    bits: Sequence[int] = BITS,
    granularity: str | Sequence[str] | None = None,
    criterion: str = "l1",
    mode: str = "hard",
    factor: float | None = None,
    quantizer: str = "minmax",
    scheme: str | None = None,
) -> Sweep:
    """The settings of a scan, checked. Raises :class:`RecipeError`."""
    if by not in ("sparsity", "bits"):
        raise RecipeError(say("by={by!r}; accepted: sparsity, bits", by=by))
    given: Any = bits if by == "bits" else sparsities
    points: tuple[float, ...] = tuple(given) if isinstance(given, Iterable) else ()
    for point in points:
        number = isinstance(point, (int, float)) and not isinstance(point, bool)
        if by == "sparsity" and not (number and 0 <= point < 1):
            raise RecipeError(say("sparsity={sparsity!r}; accepted: 0 <= sparsity < 1", sparsity=point))
        if by == "bits" and not (number and point in (*range(1, 9), 16)):
            raise RecipeError(say("bits={bits!r}; accepted: a whole number from 1 to 8, or 16", bits=point))
    if not len(points):
        raise RecipeError(say("no {by} to scan; accepted: one value or more", by=by))
    if by == "bits" and mode != "hard":
        raise RecipeError(say("mode={mode!r} belongs to by='sparsity'; quantization has no modes", mode=mode))
    factor = FACTOR if mode == "scale" and factor is None else factor
    ways = _granularities(by, granularity)
    steps = tuple(sorted(dict.fromkeys(points), reverse=by == "bits"))
    return Sweep(by, steps, ways, criterion, mode, factor, quantizer, scheme)


def _granularities(by: str, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One way to change a layer's weights, "unit", or both: a curve is named by its layer or group."""
    if given is None:
        return ("weight" if by == "sparsity" else "channel",)
    ways = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given)) if isinstance(given, Iterable) else ()
    of_weights = [way for way in ways if way != "unit" or by == "bits"]
    if not ways or len(of_weights) > 1:
        raise RecipeError(
            say(
                "granularity={given!r}; accepted: one granularity, or for sparsities one of weights and unit, as in ('weight', 'unit')",
                given=given,
            )
        )
    return ways


def targets_of(subject: Subject, sweep: Sweep, named: Sequence[str] | str | None) -> list[Target]:
    """The layers, or for units the groups, that are meant; None: all."""
    there = []
    checked(subject)
    for way in sweep.granularities:
        if sweep.by == "sparsity" and way == "unit":
            there += [Target(g.name, g.producers, g.kind, way, g.name) for g in subject.groups]
        else:
            there += [Target(layer.name, (layer.name,), layer.kind, way) for layer in subject.layers]
    if named is None:
        return there
    wanted = as_targets(named, empty=True)
    for one in wanted:
        if not any(_means(one, target) for target in there):
            names = [target.name for target in there]
            raise RecipeError(
                say(
                    "{name!r} names nothing to scan in {subject}; {hint}",
                    name=one,
                    subject=subject.name,
                    hint=near(one, names),
                )
            )
    return [target for target in there if any(_means(one, target) for one in wanted)]


def _means(wanted: str, target: Target) -> bool:
    return wanted == target.group or any(matches(wanted, layer) for layer in target.layers)


def able(
    subject: Subject, sweep: Sweep, targets: Sequence[Target], base: Recipe, must: bool
) -> tuple[list[Target], dict[str, str]]:
    """(targets that can be changed so, {name: why another one cannot}); with ``must`` the first such reason is raised."""
    fit, skipped = [], {}
    for target in targets:
        try:
            resolve(subject, sweep.edit(base, target, sweep.points[-1]))
            fit.append(target)
        except UnsupportedError as error:
            skipped[target.name] = error.message
            if must or len(skipped) == len(targets):
                raise
    return fit, skipped


def protected(subject: Subject, base: Recipe, targets: Sequence[Target]) -> frozenset[str]:
    """Names of targets that the base protects: their curves would be flat for that reason alone."""
    kept = resolve(subject, base).protected
    return frozenset(target.name for target in targets if kept.intersection(target.layers))
