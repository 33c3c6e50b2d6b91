"""What was seen: metrics, sizes, costs. Frozen; every figure says how it came about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from .errors import ExplorerError, near
from .kept import kept_property
from .message import say
from .recipe import Recipe
from .training import Cost, Entry, cost

Kind = Literal["measured", "counted", "estimated"]
ChangeKind = Literal["now wrong", "now right", "wrong differently", "changed"]
FRACTIONS = frozenset({"accuracy", "precision", "recall", "f1", "next_token_accuracy", "agreement"})  # told in percent, changes in points
LOWER_IS_BETTER = frozenset({"loss", "cross_entropy", "perplexity", "rmse", "mae"})


@dataclass(frozen=True)
class Figure:
    """One number with what it says: its kind, split, sample count and 95 % interval (None where there is none)."""

    value: float
    kind: Kind
    split: str | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LayerCount:
    """One layer after the recipe (counted).

    original: entries before. remaining: entries after units are gone. nonzero: of the remaining, those not zero.
    attenuated: of the remaining, those made smaller by a soft mode. bits: the quantization's, or those of
    the type that the weight is stored in. bytes: the smallest representation. shape: after removal. width: bits of a value that is
    stored without codes.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    original: int
    remaining: int
    nonzero: int
    attenuated: int
    bits: int
    bytes: int
    width: int = 32

    @property
    def sparsity(self) -> float:
        """1 - non-zero / original; removed entries count as pruned."""
        return 1 - self.nonzero / self.original if self.original else 0.0

    @property
    def zeros_left(self) -> float:
        """Fraction of zeros within what remains."""
        return 1 - self.nonzero / self.remaining if self.remaining else 0.0


@dataclass(frozen=True)
class Counts:
    """What the compressed model consists of (counted, not measured). dtypes: of the original's layers, the one of most weights first."""

    layers: Mapping[str, LayerCount]
    parameters: int
    nonzero: int
    sizes: Mapping[str, int]
    bytes: int
    macs: int | None
    macs_if_zeros_skipped: int | None
    macs_reason: str = ""
    dtypes: tuple[str, ...] = ("fp32",)

    @property
    def sparsity(self) -> float:
        """Over the weights of all layers."""
        original = sum(layer.original for layer in self.layers.values())
        return 1 - sum(layer.nonzero for layer in self.layers.values()) / original if original else 0.0

    @property
    def zeros_left(self) -> float:
        """Fraction of zeros within the weights that remain."""
        remaining = sum(layer.remaining for layer in self.layers.values())
        return 1 - sum(layer.nonzero for layer in self.layers.values()) / remaining if remaining else 0.0


@dataclass(frozen=True)
class Change:
    """One sample whose answer differs from the original model's.

    index: position in the split. before, after, target: class indices, or the score for tasks without classes.
    """

    index: int
    kind: ChangeKind
    before: float
    after: float
    target: float | None = None


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class over the samples seen; ``*_before``: the original model's, on the same samples."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    precision_before: float
    recall_before: float
    f1_before: float


class Later(Mapping[str, Figure]):
    """Figures that are computed when the first one is read."""

    def __init__(self, compute: Callable[[], Mapping[str, Figure]]) -> None:
        self._compute: Callable[[], Mapping[str, Figure]] | None = compute
        self._found: Mapping[str, Figure] = {}

    def _all(self) -> Mapping[str, Figure]:
        compute = self._compute
        if compute is not None:
            self._found, self._compute = compute(), None
        return self._found

    def __getitem__(self, name: str) -> Figure:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: None stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, eq=False)
class Report:
    """The outcome of evaluating one recipe on one split. What is costly is computed when first read, then kept.

    timing: seconds of this evaluation: "queue" (waiting for others), "prefix" (chunks that ran from the input on), "suffix"
    (chunks that ran from kept values). machine: how it was computed: tier, and the reason where it is not the best one, layout,
    batch, bytes of kept values and their budget. history: how the subject came from its original; empty for an original.
    """

    subject: str
    recipe: Recipe
    plan: str
    task: str
    split: str
    n: int
    total: int
    precision: str
    device: str
    figures: Mapping[str, Figure]
    changes: Mapping[str, Figure]
    lower_is_better: frozenset[str] = LOWER_IS_BETTER
    timing: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    lazy: Mapping[str, Callable[[], Any]] = field(default_factory=dict, repr=False)
    history: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Name -> value; fractions, not percent. The first is the main one."""
        return MappingProxyType({name: figure.value for name, figure in self.figures.items()})

    @property
    def main(self) -> str:
        """Name of the main metric."""
        return next(iter(self.figures))

    @property
    def cost(self) -> Cost | None:
        """What recovering the subject took, over its history; None without one."""
        return cost(self.history)

    @property
    def complete(self) -> bool:
        """Whether every sample of the split was seen."""
        return self.n == self.total

    def figure(self, name: str) -> Figure:
        """The metric or count ``name`` with its kind, split, n and interval."""
        if name in self.figures:
            return self.figures[name]
        if name in ("sparsity", "parameters", "nonzero", "bytes", "macs"):
            value = getattr(self, name)
            return Figure(float("nan") if value is None else value, "counted")
        hint = near(name, [*self.figures, "sparsity", "bytes", "macs"])
        raise ExplorerError(say("no figure {name!r}; {hint}", name=name, hint=hint))

    def change(self, name: str) -> Figure:
        """Compressed minus original on the same samples and in the same precision, with its paired interval."""
        if name not in self.changes:
            raise ExplorerError(say("no change of {name!r}; {hint}", name=name, hint=near(name, self.changes)))
        return self.changes[name]

    @kept_property
    def counts(self) -> Counts:
        """Per layer and in all: entries, non-zeros, bits, bytes, MACs."""
        return self.lazy["counts"]()  # type: ignore[no-any-return]

    @property
    def sparsity(self) -> float:
        """1 - remaining non-zero weights / original weights; removed ones count as pruned."""
        return self.counts.sparsity

    @property
    def parameters(self) -> int:
        """Entries of all parameters that remain, biases and norms included."""
        return self.counts.parameters

    @property
    def nonzero(self) -> int:
        """Of these, those that are not zero."""
        return self.counts.nonzero

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one sample after removal, counted dense on the meta device; None where it fails."""
        return self.counts.macs

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each representation of the whole model: dense, sparse, quantized, smallest."""
        return self.counts.sizes

    @property
    def bytes(self) -> int:
        """Sum over tensors of the smallest representation, without file headers."""
        return self.counts.bytes

    @kept_property
    def changed(self) -> tuple[Change, ...]:
        """Samples whose prediction differs from the original's, the largest change first where there are no classes."""
        return tuple(self.lazy["changed"]())

    @kept_property
    def flips(self) -> tuple[int, int]:
        """(samples that are now wrong, now right) of those in :attr:`changed`, counted alone; (0, 0) without right answers."""
        return self.lazy["flips"]()  # type: ignore[no-any-return]

    @kept_property
    def per_class(self) -> Mapping[str, ClassScore]:
        """Scores by class; empty for tasks without classes."""
        return self.lazy["per_class"]()  # type: ignore[no-any-return]

    @kept_property
    def confusion(self) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        """Confusion matrices (before, after), rows = target, columns = prediction; empty without classes."""
        return self.lazy["confusion"]()  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON values; a figure that does not exist (NaN, infinity) is None."""
        return _finite(self._plain())  # type: ignore[no-any-return]

    def _plain(self) -> dict[str, Any]:
        counts = self.counts
        seen = {name: {"sparsity": one.sparsity, "zeros_left": one.zeros_left} for name, one in counts.layers.items()}
        layers = {name: asdict(layer) | seen[name] for name, layer in counts.layers.items()}
        return {
            "subject": self.subject,
            "recipe": self.recipe.digest,
            **{name: getattr(self, name) for name in ("plan", "task", "split", "n", "total", "precision", "device")},
            "metrics": {name: asdict(figure) for name, figure in self.figures.items()},
            "changes": {name: asdict(figure) for name, figure in self.changes.items()},
            "counted": {
                **{name: getattr(counts, name) for name in ("sparsity", "zeros_left", "parameters", "nonzero", "bytes")},
                "sizes": dict(counts.sizes),
                **{name: getattr(counts, name) for name in ("macs", "macs_if_zeros_skipped", "macs_reason")},
                "layers": layers,
            },
            "per_class": {name: asdict(score) for name, score in self.per_class.items()},
            "changed": [asdict(change) for change in self.changed],
            "cost": asdict(self.cost) if self.cost is not None else None,
            "history": [one.to_dict() for one in self.history],
        }
