"""Inputs for a model that came without any: noise, on which a model can be run, and about which nothing can be concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.errors import TaskError
from ..core.message import say
from ..models.task import Task
from .tables import tables

WARNING = say("The inputs are noise: figures on noise say nothing about accuracy on real data")
Kind = Literal["normal", "tokens", "ones", "false"]
MOST = 1 << 28  # entries of all inputs together


@dataclass(frozen=True)
class Noise:
    """One input. shape: of a sample. kind: normal (float32, standard normal), tokens (int64, from 0 to ``vocabulary`` - 1, or in the
    range of the table that the model looks them up in), ones (int64: a mask that leaves everything), false (bool)."""

    shape: tuple[int, ...]
    kind: Kind = "normal"
    vocabulary: int | None = None

    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """[samples, *shape] on the CPU."""
        size = (samples, *self.shape)
        if self.kind == "tokens":
            return torch.randint(int(self.vocabulary or 1), size, generator=generator)
        if self.kind == "normal":
            return torch.randn(size, generator=generator)
        return torch.ones(size, dtype=torch.int64) if self.kind == "ones" else torch.zeros(size, dtype=torch.bool)


class Rows:
    """Samples of several inputs: dicts, or tuples."""

    def __init__(self, inputs: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values() if isinstance(self.inputs, Mapping) else self.inputs)))

    def __getitem__(self, index: int) -> dict[str, Tensor] | tuple[Tensor, ...]:
        if isinstance(self.inputs, Mapping):
            return {name: one[index] for name, one in self.inputs.items()}
        return tuple(one[index] for one in self.inputs)


def noise_task(
    shape: Sequence[int] | Noise | Mapping[str, Noise] | Sequence[Noise], *, samples: int = 256, vocabulary: int | None = None,
    seed: int = 0, module: nn.Module | None = None,
) -> Task:  # fmt: skip
    """Agreement with the original's own outputs on noise.

    shape: that of a sample of the only input, standard normal, or with ``vocabulary`` whole numbers below it; or a ``Noise``
    for each input, by name or in order. module: where tokens say no vocabulary, it is run to see in which tables they are looked up.
    It shows whether a compressed model runs and how far its outputs move on noise. Figures on noise say nothing about accuracy: real inputs lie
    elsewhere, and so do the activations that pruning and calibration look at. Train and validation are drawn apart. Raises :class:`TaskError`.
    """
    wanted = _wanted(shape, vocabulary)
    _check(wanted, samples)
    wanted = _with_tables(wanted, module)
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Any:
        drawn = {name: one.draw(samples, generator) for name, one in wanted.items()}
        if isinstance(shape, Mapping):
            return Rows({str(name): tensor for name, tensor in drawn.items()})
        return drawn[0] if _alone(shape) else Rows([*drawn.values()])

    return Task.agreement(draw(), train=draw())


def _alone(inputs: Any) -> bool:
    """Whether it is one input, and no list of them."""
    return isinstance(inputs, Noise) or not any(isinstance(one, Noise) for one in inputs)


def _wanted(inputs: Any, vocabulary: int | None) -> dict[Any, Noise]:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, Noise):
        return {0: inputs}
    if _alone(inputs):
        return {0: Noise(tuple(inputs), "normal" if vocabulary is None else "tokens", vocabulary)}
    return dict(enumerate(inputs))


def _check(wanted: Mapping[Any, Noise], samples: int) -> None:
    entries = 0
    for name, one in wanted.items():
        if not isinstance(one, Noise):
            raise TaskError(
                say("input {name}: {type}; accepted: explorer.Noise(shape, kind)", name=name, type=type(one).__name__)
            )
        numbers = (*one.shape, samples, *([one.vocabulary] if one.vocabulary is not None else []))
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
        entries += torch.Size(one.shape).numel() * samples if whole else 0
        if not whole or 2 * entries > MOST or one.kind not in ("normal", "tokens", "ones", "false"):
            raise TaskError(
                say(
                    "shape={shape}, samples={samples}, vocabulary={vocabulary}; accepted: whole numbers above 0, together at most {most:,} values",
                    shape=str(tuple(one.shape))[:80], samples=samples, vocabulary=one.vocabulary, most=MOST // 2,
                )
            )  # fmt: skip


def _with_tables(wanted: Mapping[Any, Noise], module: nn.Module | None) -> dict[Any, Noise]:
    """Tokens that say no vocabulary get that of the tables that they are looked up in."""
    open_ = [name for name, one in wanted.items() if one.kind == "tokens" and one.vocabulary is None]
    found: Mapping[Any, int] = {}
    if open_ and module is not None:
        draw = torch.Generator().manual_seed(0)
        sample = {name: one.draw(1, draw) * (name not in open_) for name, one in wanted.items()}
        found = tables(module, sample, open_)
    for name in open_:
        if name not in found:
            raise TaskError(
                say(
                    "input {name}: tokens that no table of the model tells the range of; accepted: vocabulary=, above every token",
                    name=name,
                )
            )
    return {name: replace(one, vocabulary=found[name]) if name in found else one for name, one in wanted.items()}
