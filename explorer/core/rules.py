"""The rules of a recipe: frozen, validated where they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import as_targets, choice, number, place, shown, whole, wrong
from .message import say

WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE = "weight-prune", "unit-prune", "layer-prune"
WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE = "weight-quantize", "activation-quantize"
FOLD, EQUALIZE, BIAS_CORRECTION = "fold", "equalize", "bias-correction"
PREPARATIONS = (FOLD, EQUALIZE, BIAS_CORRECTION)
KINDS = (WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE, WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE, *PREPARATIONS)
ALIASES = {
    "prune": (WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE),
    "quantize": (WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE),
    "prepare": PREPARATIONS,
    "keep": ("keep",),
}

GATE = "gate"  # the granularity of whole gates of an LSTM or GRU

_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")
_BLOCK = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def pattern(granularity: str) -> tuple[int, int] | None:
    """``"2:4"`` -> (2, 4): N of M consecutive weights stay; None for any other granularity."""
    found = _PATTERN.fullmatch(granularity)
    return (int(found[1]), int(found[2])) if found else None


def block(granularity: str) -> tuple[int, int] | None:
    """``"4x1"`` -> (4, 1): rows x columns of a block; None for any other granularity."""
    found = _BLOCK.fullmatch(granularity)
    return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class Prune:
    """Remove or attenuate the least important weights or units of its targets."""

    targets: tuple[str, ...]
    sparsity: float | None = None
    threshold: float | None = None
    criterion: str = "l1"
    granularity: str = "weight"
    scope: Literal["layer", "global"] = "layer"
    mode: Literal["hard", "scale", "shrink"] = "hard"
    factor: float | None = None
    multiple: int = 1
    at_least: int = 1
    units: tuple[int, ...] | None = None
    rule: ClassVar[str] = "prune"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        where = place("prune", self.targets)
        choice("scope", self.scope, where, ("layer", "global"))
        choice("mode", self.mode, where, ("hard", "scale", "shrink"))
        if not isinstance(self.criterion, str) or not isinstance(self.granularity, str):
            raise wrong(
                where,
                say(
                    "criterion and granularity are names, got {criterion}, {granularity}",
                    criterion=shown(self.criterion),
                    granularity=shown(self.granularity),
                ),
            )
        fixed = pattern(self.granularity)
        if not (self.granularity in ("weight", "unit", "layer", GATE) or fixed or block(self.granularity)):
            accepted = say('weight, unit, layer, gate, a pattern such as "2:4" or a block such as "4x1"')
            raise wrong(
                where,
                say(
                    "granularity={granularity}; accepted: {accepted}",
                    granularity=shown(self.granularity),
                    accepted=accepted,
                ),
            )
        if fixed:
            if fixed[0] >= fixed[1]:
                raise wrong(
                    where,
                    say("{granularity} keeps every weight; accepted: N:M with N < M", granularity=self.granularity),
                )
            if self.sparsity is not None or self.threshold is not None or self.scope == "global":
                raise wrong(
                    where,
                    say(
                        "{granularity} fixes the cut; leave sparsity, threshold and scope out",
                        granularity=self.granularity,
                    ),
                )
        elif self.units is not None:
            object.__setattr__(self, "units", _units(self, where))
        elif (self.sparsity is None) == (self.threshold is None):
            raise wrong(where, say("give either sparsity= or threshold=, one of them"))
        if self.sparsity is not None:
            value = number("sparsity", self.sparsity, where, say("a number in [0, 1)"))
            if not 0 <= value < 1:
                raise wrong(
                    where,
                    say(
                        "sparsity={sparsity!r} is outside [0, 1); to prune all, use threshold=", sparsity=self.sparsity
                    ),
                )
            object.__setattr__(self, "sparsity", value)
        if self.threshold is not None:
            object.__setattr__(self, "threshold", number("threshold", self.threshold, where, say("a finite number")))
        if self.mode == "scale":
            value = number("factor", self.factor, where, say("a number in [0, 1)"))
            if not 0 <= value < 1:
                raise wrong(where, say("factor={factor!r} is outside [0, 1)", factor=self.factor))
            object.__setattr__(self, "factor", value)
        elif self.factor is not None:
            raise wrong(where, say("factor= belongs to mode='scale', not to mode={mode!r}", mode=self.mode))
        for name in ("multiple", "at_least"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise wrong(where, say("{name}={value!r}; accepted: a whole number from 1", name=name, value=value))
            if value > 1 and self.granularity != "unit":
                raise wrong(where, say("{name}= counts units; accepted with granularity='unit' only", name=name))
        if self.granularity == "layer" and self.mode != "hard":
            raise wrong(where, say("mode={mode!r}; accepted with granularity='layer': hard", mode=self.mode))
        if self.mode == "shrink" and (self.granularity != "weight" or self.criterion != "l1"):
            raise wrong(
                where, say("mode='shrink' moves |w| by a threshold; accepted: granularity='weight', criterion='l1'")
            )

    @property
    def kind(self) -> str:
        """``unit-prune`` and ``layer-prune`` for structured pruning, else ``weight-prune``."""
        return {"unit": UNIT_PRUNE, "layer": LAYER_PRUNE}.get(self.granularity, WEIGHT_PRUNE)


def _units(rule: Prune, where: str) -> tuple[int, ...]:
    """The units that a rule names one by one, ascending."""
    named: object = rule.units
    if not (isinstance(named, (list, tuple)) and named and all(whole(unit) and unit >= 0 for unit in named)):
        raise wrong(where, say("units={units}; accepted: one index or more, from 0", units=shown(named)))
    alone = rule.granularity == "unit" and rule.sparsity is None and rule.threshold is None and rule.scope == "layer"
    if not alone or rule.multiple > 1 or rule.at_least > 1:
        raise wrong(where, say("units= fixes the cut; accepted with granularity='unit', without sparsity, threshold, scope and multiple"))
    return tuple(sorted(set(named)))


@dataclass(frozen=True)
class Quantize:
    """Round the weights of its targets, or the activations that these multiply, to few levels (fake quantization).

    What a quantizer accepts of bits, scheme and granularity is the quantizer's own matter, and checked by ``resolve``.
    """

    targets: tuple[str, ...]
    bits: int = 8
    quantizer: str = "minmax"
    scheme: Literal["symmetric", "affine"] = "symmetric"
    granularity: Literal["tensor", "channel", "group", "gate"] = "tensor"
    group_size: int | None = None
    what: Literal["weight", "activation"] = "weight"
    clip: tuple[float, float] | None = None
    samples: int = 128
    rule: ClassVar[str] = "quantize"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        where = place("quantize", self.targets)
        if not whole(self.bits) or self.bits not in (*range(1, 9), 16):
            raise wrong(where, say("bits={bits}; accepted: a whole number from 1 to 8, or 16", bits=shown(self.bits)))
        if not isinstance(self.quantizer, str):
            raise wrong(where, say("quantizer={quantizer} is not a name", quantizer=shown(self.quantizer)))
        choice("scheme", self.scheme, where, ("symmetric", "affine"))
        choice("granularity", self.granularity, where, ("tensor", "channel", "group", "gate"))
        choice("what", self.what, where, ("weight", "activation"))
        if (self.granularity == "group") != (self.group_size is not None):
            raise wrong(where, say("granularity='group' and group_size= belong together"))
        if self.group_size is not None and not (whole(self.group_size) and 2 <= self.group_size <= 1_000_000):
            raise wrong(where, say("group_size={size}; accepted: a whole number from 2", size=shown(self.group_size)))
        if not whole(self.samples) or not 1 <= self.samples <= 1_000_000:
            raise wrong(where, say("samples={n}; accepted: a whole number from 1", n=shown(self.samples)))
        if self.what == "activation":
            self._check_activation(where)
        elif self.clip is not None or self.samples != 128:
            raise wrong(where, say("clip= and samples= belong to what='activation'"))

    def _check_activation(self, where: str) -> None:
        if self.granularity != "tensor":
            raise wrong(
                where, say("granularity={value}; accepted for activations: tensor", value=shown(self.granularity))
            )
        if not 2 <= self.bits <= 8:
            raise wrong(where, say("bits={bits}; accepted for activations: 2 to 8", bits=self.bits))
        if self.clip is None:
            return
        if not isinstance(self.clip, (tuple, list)) or len(self.clip) != 2:
            raise wrong(where, say("clip={value}; accepted: a pair (low, high)", value=shown(self.clip)))
        accepted = say("finite numbers, low <= 0 <= high")
        low, high = (number("clip", one, where, accepted) for one in self.clip)
        if not low <= 0 <= high or low == high:
            raise wrong(where, say("clip=({low}, {high}); accepted: low <= 0 <= high, not both 0", low=low, high=high))
        object.__setattr__(self, "clip", (low, high))

    @property
    def kind(self) -> str:
        """``activation-quantize`` or ``weight-quantize``; for each layer the last match of each kind holds."""
        return ACTIVATION_QUANTIZE if self.what == "activation" else WEIGHT_QUANTIZE


@dataclass(frozen=True)
class Prepare:
    """Make its targets easier to quantize, in one of three ways: see ``Recipe.prepare``."""

    targets: tuple[str, ...]
    step: Literal["fold", "equalize", "bias-correction"] = "fold"
    rule: ClassVar[str] = "prepare"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        choice("step", self.step, place("prepare", self.targets), PREPARATIONS)

    @property
    def kind(self) -> str:
        """The step."""
        return self.step


@dataclass(frozen=True)
class Clear:
    """Undo, for its targets, earlier rules of the given kinds."""

    targets: tuple[str, ...]
    kinds: tuple[str, ...] = (*KINDS, "keep")
    rule: ClassVar[str] = "clear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        object.__setattr__(self, "kinds", tuple(self.kinds))
        for kind in self.kinds:
            choice("kind", kind, place("clear", self.targets), (*KINDS, "keep"))

    @property
    def kind(self) -> str:
        return "clear"


@dataclass(frozen=True)
class Keep:
    """Protect its targets: no rule, earlier or later, prunes their weights or units or quantizes them.

    Their inputs may still become fewer, when units of an earlier layer are removed. ``clear`` lifts it.
    """

    targets: tuple[str, ...]
    rule: ClassVar[str] = "keep"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))

    @property
    def kind(self) -> str:
        return "keep"


Rule = Prune | Quantize | Prepare | Clear | Keep
