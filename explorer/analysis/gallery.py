"""The units that a criterion would remove first, as pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.device import exact
from ..models.structure import Cut
from ..models.subject import Subject
from ..models.task import to_device
from ..models.unrolled import ready
from .histogram import sorted_units
from .taps import Watch, single_steps

KERNELS = 16  # of a filter, at most
SEQUENCES = 4  # samples whose activations are drawn over time


@dataclass(frozen=True, eq=False)
class Picture:
    """One unit. kind: "kernels" [n, H, W], "image" [H, W], "row" [n], "time" [samples, T] or "attention" [L, S]."""

    unit: int
    score: float
    kind: str
    values: np.ndarray


def gallery(subject: Subject, group: str, criterion: str = "l1", count: int = 12) -> list[Picture]:
    """The ``count`` units of a group with the lowest scores, lowest first, each drawn as what it is: a filter's kernels, a neuron's
    weights (as an image where it reads one), a hidden unit's activation over time, a head's mean attention."""
    scores, order = sorted_units(subject, group, criterion)
    cut = subject.structure.cuts[group]
    made = _moving(subject, cut) if cut.group.kind in ("hidden", "head") else None
    out = []
    for unit, score in list(zip(order, scores, strict=True))[:count]:
        if made is not None:
            out.append(Picture(unit, score, "time" if cut.group.kind == "hidden" else "attention", made[unit]))
        else:
            out.append(Picture(unit, score, *_weights(subject, cut, unit)))
    return out


def _weights(subject: Subject, cut: Cut, unit: int) -> tuple[str, np.ndarray]:
    """The unit's rows in the group's first producer."""
    piece = next(piece for piece in cut.slices if piece.role == "producer")
    rows = subject.weight(piece.tensor).movedim(piece.dim, 0)[piece.index[unit]].float().cpu().numpy()  # [k, ...]
    if rows.ndim == 4:
        return "kernels", rows[0][:KERNELS]
    flat = rows.reshape(-1)
    sample = subject.task.dataset("validation")[0][0]
    if (
        isinstance(sample, Tensor)
        and subject.task.display == "image"
        and sample.numel() == flat.size
        and sample.shape[0] == 1
    ):
        return "image", flat.reshape(sample.shape[-2:])
    return "row", flat


def _moving(subject: Subject, cut: Cut) -> np.ndarray | None:
    """What hidden units say, [units, samples, T], or how heads attend, [units, L, S]; None where it cannot be seen."""

    def find() -> dict[str, Any]:
        return {"found": _states(subject, cut) if cut.group.kind == "hidden" else _attention(subject, cut)}

    return subject.memo.get(("gallery", subject.version, cut.group.name), find)["found"]  # type: ignore[no-any-return]


def _run(subject: Subject, mode: Any, samples: int) -> None:
    first = next(subject.module.parameters())
    module = ready(subject.module, first.device)
    data = subject.task.dataset("validation")
    inputs = subject.task.batch("validation", range(min(samples, len(data))))[0]
    named = dict(module.named_parameters())
    with torch.no_grad(), exact(first.device), mode({id(p): name for name, p in named.items()}):
        subject.task.forward(module, to_device(inputs, first.device, first.dtype))


def _states(subject: Subject, cut: Cut) -> np.ndarray | None:
    """What the recurrent weights read: the state before each step."""
    watches: list[Watch] = []

    def mode(names: dict[int, str]) -> Watch:
        watches.append(Watch(names))
        return watches[0]

    piece = next((p for p in cut.slices if p.role == "consumer" and "weight_hh" in p.tensor), None)
    if piece is None:
        return None
    _run(subject, mode, SEQUENCES)
    seen = [inputs for inputs, _ in single_steps(watches[0].of(piece.tensor))]
    if len(seen) < 2 or any(one.shape != seen[0].shape for one in seen):
        return None
    states = torch.stack(seen)[..., piece.index[:, 0].to(seen[0].device)]  # [T, N, units]
    return states.permute(2, 1, 0).float().cpu().numpy()


class _Attended(Watch):
    """Also sees scaled_dot_product_attention, and which products came before it."""

    def __init__(self, names: dict[int, str], producers: set[str]) -> None:
        super().__init__(names)
        self.producers = producers
        self.weights: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (
            func is F.scaled_dot_product_attention
            and self.weights is None
            and {tap.name for tap in self.calls} >= self.producers
        ):
            given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | (
                kwargs or {}
            )
            self.weights = _softmax(given)
        return super().__torch_function__(func, types, args, kwargs)


def _softmax(given: dict[str, Any]) -> Tensor:
    """[N, heads, L, S]: softmax of the scaled products, masked as torch does."""
    q, k, mask = given["query"], given["key"], given.get("attn_mask")
    scores = q @ k.transpose(-2, -1) * (given.get("scale") or q.shape[-1] ** -0.5)
    if given.get("is_causal"):
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


def _attention(subject: Subject, cut: Cut) -> np.ndarray | None:
    modes: list[_Attended] = []

    def mode(names: dict[int, str]) -> _Attended:
        modes.append(_Attended(names, set(cut.group.producers)))
        return modes[0]

    _run(subject, mode, 64)
    weights = modes[0].weights
    if weights is None or weights.ndim != 4 or weights.shape[1] != cut.group.units:
        return None
    return weights.mean(0).float().cpu().numpy()  # type: ignore[no-any-return]
