"""The rules of a recipe: frozen, validated where they are made."""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .errors import RecipeError
from .message import say

WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE = "weight-prune", "unit-prune", "layer-prune"
WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE = "weight-quantize", "activation-quantize"
KINDS = (WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE, WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE)
ALIASES = {"prune": (WEIGHT_PRUNE, UNIT_PRUNE, LAYER_PRUNE), "quantize": (WEIGHT_QUANTIZE, ACTIVATION_QUANTIZE), "keep": ("keep",)}

GATE = "gate"  # the granularity of whole gates of an LSTM or GRU

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

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


def shown(value: object) -> str:
    """``repr`` for a message: short, also of what is huge or deeply nested."""
    return _SHORT.repr(value)


def _where(rule: str, targets: tuple[str, ...]) -> str:
    named = ", ".join(targets)
    return f"{rule}({named if len(named) <= 200 else named[:200] + '...'})"


def wrong(where: str, what: str) -> RecipeError:
    """The error of a rule, or of a place in a file."""
    return RecipeError(say("{where}: {what}", where=where, what=what))


def is_text(value: object) -> bool:
    """Whether a value is a text that UTF-8 can hold (a lone surrogate cannot be hashed or written to a file)."""
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _number(name: str, value: object, where: str, accepted: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise wrong(
            where,
            say(
                "{name}={value} is not a finite number; accepted: {accepted}",
                name=name,
                value=shown(value),
                accepted=accepted,
            ),
        )
    return number + 0.0  # -0.0 and 0.0 are one value, and one digest


def _choice(name: str, value: object, where: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise wrong(
            where,
            say("{name}={value}; accepted: {accepted}", name=name, value=shown(value), accepted=", ".join(accepted)),
        )


def as_targets(targets: object) -> tuple[str, ...]:
    """A name, a pattern or a list of these, as a tuple."""
    found = (targets,) if isinstance(targets, str) else targets
    try:
        listed: tuple[Any, ...] = tuple(found)  # type: ignore[arg-type]
    except TypeError:
        listed = ()
    if not listed or not all(one and is_text(one) for one in listed):
        raise RecipeError(
            say(
                "targets={targets}; accepted: a parameter or module name, a pattern, or a list of these",
                targets=shown(targets),
            )
        )
    return listed


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
    rule: ClassVar[str] = "prune"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        where = _where("prune", self.targets)
        _choice("scope", self.scope, where, ("layer", "global"))
        _choice("mode", self.mode, where, ("hard", "scale", "shrink"))
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
        elif (self.sparsity is None) == (self.threshold is None):
            raise wrong(where, say("give either sparsity= or threshold=, one of them"))
        if self.sparsity is not None:
            value = _number("sparsity", self.sparsity, where, say("a number in [0, 1)"))
            if not 0 <= value < 1:
                raise wrong(
                    where,
                    say(
                        "sparsity={sparsity!r} is outside [0, 1); to prune all, use threshold=", sparsity=self.sparsity
                    ),
                )
            object.__setattr__(self, "sparsity", value)
        if self.threshold is not None:
            object.__setattr__(self, "threshold", _number("threshold", self.threshold, where, say("a finite number")))
        if self.mode == "scale":
            value = _number("factor", self.factor, where, say("a number in [0, 1)"))
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


@dataclass(frozen=True)
class Quantize:
    """Round the weights of its targets to ``2**bits`` levels (fake quantization)."""

    targets: tuple[str, ...]
    bits: int = 8
    quantizer: str = "minmax"
    scheme: Literal["symmetric", "affine"] = "symmetric"
    granularity: Literal["tensor", "channel"] = "tensor"
    what: Literal["weight"] = "weight"
    rule: ClassVar[str] = "quantize"

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", as_targets(self.targets))
        where = _where("quantize", self.targets)
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 8:
            raise wrong(where, say("bits={bits}; accepted: a whole number from 2 to 8", bits=shown(self.bits)))
        if not isinstance(self.quantizer, str):
            raise wrong(where, say("quantizer={quantizer} is not a name", quantizer=shown(self.quantizer)))
        _choice("scheme", self.scheme, where, ("symmetric", "affine"))
        _choice("granularity", self.granularity, where, ("tensor", "channel"))
        _choice("what", self.what, where, ("weight",))

    @property
    def kind(self) -> str:
        """The kind of rule, of which the last match holds."""
        return WEIGHT_QUANTIZE


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
            _choice("kind", kind, _where("clear", self.targets), (*KINDS, "keep"))

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


Rule = Prune | Quantize | Clear | Keep
