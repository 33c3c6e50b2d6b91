"""The user's intent: a small frozen value. Every edit makes a new one; undo is the previous value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from .checks import as_targets
from .errors import RecipeError
from .message import say
from .rules import ACTIVATION_QUANTIZE, ALIASES, KINDS, Clear, Keep, Prepare, Prune, Quantize, Rule

Targets = str | Sequence[str]


def _tidy(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Without each Clear before which nothing stands that it could undo."""
    out: list[Rule] = []
    for rule in rules:
        if not isinstance(rule, Clear) or any(earlier.kind in rule.kinds for earlier in out):
            out.append(rule)
    return tuple(out)


@dataclass(frozen=True)
class Recipe:
    """An ordered tuple of rules; for each layer the last matching rule of its kind holds.

    >>> r = Recipe().prune("conv1.weight", sparsity=0.5).quantize("conv1.weight", bits=4)
    >>> Recipe.from_json(r.to_json()) == r
    True
    """

    rules: tuple[Rule, ...] = ()
    name: str = ""

    def prune(
        self,
        targets: Targets,
        *,
        sparsity: float | None = None,
        threshold: float | None = None,
        criterion: str = "l1",
        granularity: str = "weight",
        scope: Literal["layer", "global"] = "layer",
        mode: Literal["hard", "scale", "shrink"] = "hard",
        factor: float | None = None,
        multiple: int = 1,
        at_least: int = 1,
        units: Sequence[int] | None = None,
    ) -> Recipe:
        """Add a pruning rule.

        sparsity: fraction in [0, 1) of the entries (or units) to prune, exactly ``round(s * n)``; or
        threshold: prune where the criterion's score is <= it. granularity: "weight", "unit" (structured: whole
        channels or neurons, removed), "layer" (depth: whole branches beside a residual; one ranking over all that the targets
        mean, by their mean score a weight), "N:M" (neither sparsity nor threshold), "RxC" blocks, or "gate": the whole
        input or recurrent matrix of a gate of an LSTM or GRU.
        units: instead of a sparsity or threshold, with granularity="unit", the indices of the units that go.
        multiple, at_least: for units, the number that stays in a group is rounded to a multiple (of 8, say, which
        hardware likes) and is never below at_least. mode: "hard" sets to zero; "scale" multiplies by ``factor``; "shrink" is sign(w) max(|w| - t, 0)
        (soft thresholding; Donoho 1995, IEEE Trans. Inf. Theory 41(3), eq. 4). Raises :class:`RecipeError`.
        """
        return self._with(
            Prune(as_targets(targets), sparsity, threshold, criterion, granularity, scope, mode, factor, multiple, at_least, units)  # type: ignore[arg-type]
        )

    def quantize(
        self,
        targets: Targets,
        *,
        bits: int,
        quantizer: str = "minmax",
        scheme: Literal["symmetric", "affine"] | None = None,
        granularity: Literal["tensor", "channel", "group", "gate"] = "tensor",
        group_size: int | None = None,
        what: Literal["weight", "activation"] = "weight",
        clip: tuple[float, float] | None = None,
        samples: int = 128,
    ) -> Recipe:
        """Add a quantization rule. Raises :class:`RecipeError`.

        bits: 2 to 8 for uniform quantizers, 1 for binary, 16 for fp16 and bf16 ...: each quantizer's help says which.
        quantizer: a name of ``quantizers()``, or of ``observers()`` for activations. scheme: "symmetric" or "affine"; None
        is symmetric for weights and affine for activations. granularity: one scale (or codebook) a "tensor", an output
        "channel", a "group" of ``group_size`` consecutive weights of one channel (a channel's last group may be shorter),
        or a "gate" of a recurrent matrix. what: "activation" rounds what enters the targets' product (a recurrent layer's
        input and hidden state, each by its own matrix), one scale a tensor, with a range that is calibrated on ``samples``
        of the train split unless ``clip`` = (low, high) states it.
        """
        scheme = scheme or ("affine" if what == "activation" else "symmetric")
        return self._with(
            Quantize(as_targets(targets), bits, quantizer, scheme, granularity, group_size, what, clip, samples)
        )

    def prepare(self, step: Literal["fold", "equalize", "bias-correction"], targets: Targets = "*") -> Recipe:
        """Make layers easier to quantize. Raises :class:`RecipeError`.

        step "fold": a BatchNorm is folded into the layer in front of it, so that the weights which are rounded are those that
        an inference engine computes with. "equalize": the ranges of channels are evened out between a layer and the next
        (cross-layer equalization), both among the targets, with ReLU, pooling and BatchNorm at most between them; folds too.
        "bias-correction": the mean error that rounding weights adds to a layer's output, on 128 train samples, is taken off its
        bias; a constant cannot make up for an error that comes and goes with the input (empty background), so compare. The first two leave the model's function as it is. They come after pruning, whose scores and thresholds are
        those of the original weights, and before quantization.
        """
        return self._with(Prepare(as_targets(targets), step))

    def clear(self, targets: Targets, kind: str | None = None) -> Recipe:
        """Undo earlier rules for the targets: of one kind (prune, quantize, prepare, keep, or one of a finer kind), or all."""
        if kind is None:
            kinds: tuple[str, ...] = (*KINDS, "keep")
        elif kind in ALIASES:
            kinds = ALIASES[kind]
        elif kind in KINDS:
            kinds = (kind,)
        else:
            raise RecipeError(
                say("kind={kind!r}; accepted: {kinds} or None", kind=kind, kinds=", ".join((*ALIASES, *KINDS)))
            )
        named = as_targets(targets)
        rest = tuple(r for r in self.rules if not (set(r.targets) <= set(named) and r.kind in kinds))
        undone = Clear(named, kinds)
        return replace(self, rules=_tidy((*(r for r in rest if r != undone), undone)))

    def keep(self, targets: Targets) -> Recipe:
        """Protect layers from every pruning and quantization rule, earlier or later, until cleared."""
        return self._with(Keep(as_targets(targets)))

    def named(self, name: str) -> Recipe:
        """The same rules under another name."""
        return replace(self, name=name)

    def _with(self, rule: Rule) -> Recipe:
        same = {(type(rule), rule.kind, frozenset(rule.targets))}
        rest = tuple(r for r in self.rules if (type(r), r.kind, frozenset(r.targets)) not in same)
        return replace(self, rules=_tidy((*rest, rule)))

    def to_json(self) -> str:
        """JSON text with a format marker and a version."""
        from .recipe_json import dump

        return dump(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Read what :meth:`to_json` wrote. Raises :class:`RecipeError`, naming the rule and field at fault."""
        from .recipe_json import parse

        return parse(text)

    def to_python(self) -> str:
        """An expression that makes this recipe."""
        lines = ["explorer.Recipe()"]
        for rule in self.rules:
            targets: Any = rule.targets[0] if len(rule.targets) == 1 else list(rule.targets)
            arguments = [repr(targets)]
            if isinstance(rule, Prepare):
                lines.append(f"    .prepare({rule.step!r}, {targets!r})")
                continue
            if isinstance(rule, Clear):
                everything = set(rule.kinds) == {*KINDS, "keep"}
                alias = next((k for k, v in ALIASES.items() if set(v) == set(rule.kinds)), None)
                kinds: Sequence[str | None] = [None] if everything else [alias] if alias else rule.kinds
                for kind in kinds:
                    lines.append(f"    .clear({', '.join([*arguments, *([f'kind={kind!r}'] if kind else [])])})")
                continue
            for field in fields(rule)[1:]:
                value = getattr(rule, field.name)
                if value != field.default or field.name == "bits" or (field.name == "scheme" and rule.kind == ACTIVATION_QUANTIZE):
                    arguments.append(f"{field.name}={value!r}")
            lines.append(f"    .{rule.rule}({', '.join(arguments)})")
        if self.name:
            lines.append(f"    .named({self.name!r})")
        body = "\n".join(lines)
        return f"(\n    {body}\n)" if len(lines) > 1 else body

    @property
    def digest(self) -> str:
        """Content hash of the rules (not of the name)."""
        from .recipe_json import dump

        return hashlib.sha256(dump(replace(self, name="")).encode()).hexdigest()[:16]
