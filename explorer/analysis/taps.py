"""Watches every product with a weight while a module runs: what goes in, and the gradient of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..models.steps import recurrence
from .recurrence import run
from .room import Room
from .still import still

CONVOLUTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
TRANSPOSED = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}
KINDS: dict[Callable[..., Any], str] = {F.linear: "linear", F.embedding: "embedding"}
KINDS |= dict.fromkeys(CONVOLUTIONS, "conv") | dict.fromkeys(TRANSPOSED, "transposed")
CONV = ("bias", "stride", "padding", "dilation", "groups")
BACK = ("bias", "stride", "padding", "output_padding", "groups", "dilation")


@dataclass(eq=False)
class Tap:
    """One product with the weight ``name``. inputs: its input (indices, of an embedding). Once the loss went backward, gradient:
    dL / d output; back: dL / d input through this product alone, where that was asked for; met [N, H]: of the states of a
    recurrent layer, that times the input, summed over steps, where only this was asked for. steps: the first dim of these counts the
    steps of a recurrent layer. stride, padding, dilation: of convolutions, an int a dimension; groups."""

    name: str
    kind: str
    inputs: Tensor
    output: tuple[int, ...]
    groups: int = 1
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    padding_idx: int | None = None
    steps: bool = False
    gradient: Tensor | None = None
    back: Tensor | None = None
    met: Tensor | None = None


class Watch(TorchFunctionMode):
    """``with Watch({id(parameter): name}) as watch``: fills ``watch.calls``, in order. Outputs are made to require gradients where
    nothing before them does, so that the weights need not. back: names whose inputs' gradients are wanted. A module that
    overwrites what another one read would fail in training too, and was refused by the probe. gradients: names of which the outputs'
    gradients are wanted, None for all. seen(tap), returned(tap): called as soon as a product is there, and its
    ``gradient`` or ``back``: what is done with them at once finds them in the cache, and they need not be kept. Not of the products of a recurrent layer,
    whose gradients lie in the room; summed: names whose ``met`` is enough."""

    def __init__(
        self,
        names: Mapping[int, str],
        back: Collection[str] = (),
        gradients: Collection[str] | None = None,
        seen: Callable[[Tap], None] | None = None,
        returned: Callable[[Tap], None] | None = None,
        room: Room | None = None,
        summed: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.names, self.back, self.gradients = names, back, gradients
        self.seen, self.returned, self.room, self.summed = seen, returned, room or Room(), summed
        self.calls: list[Tap] = []
        self._by: dict[str, list[Tap]] = {}

    def of(self, name: str) -> list[Tap]:
        """The products with a weight, in order."""
        return self._by.get(name, [])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is recurrence:
            return self._recurrence(*args)
        if func is F.batch_norm:
            return still(*args, **kwargs)
        kind = KINDS.get(func) if callable(func) else None
        if kind is None:
            return func(*args, **kwargs)
        weight = args[1] if len(args) > 1 else kwargs.get("weight")
        name = self.names.get(id(weight))
        if name is None or not isinstance(weight, Tensor):
            return func(*args, **kwargs)
        read = args[0] if args else kwargs["input"]
        follow = name in self.back and read.requires_grad and torch.is_grad_enabled()
        if follow:  # an alias: its gradient is that of this product alone, whoever else reads the same
            read = read.view_as(read)
            args = (read, *args[1:])
            kwargs = {key: value for key, value in kwargs.items() if key != "input"}
        out = func(*args, **kwargs)
        tap = Tap(name, kind, read.detach(), tuple(out.shape))
        if follow:
            read.register_hook(partial(_note, tap, "back", self.returned))
        if kind in ("conv", "transposed"):
            _geometry(tap, func, args, kwargs, weight)
        elif kind == "embedding":
            tap.padding_idx = args[2] if len(args) > 2 else kwargs.get("padding_idx")
            if tap.padding_idx is not None and tap.padding_idx < 0:
                tap.padding_idx += weight.shape[0]
        if torch.is_grad_enabled():
            if not out.requires_grad:
                out = out.detach().requires_grad_().clone()  # a copy, since a leaf may not be written to in place
            if self.gradients is None or name in self.gradients:
                out.register_hook(partial(_note, tap, "gradient", self.returned))
        self._add(tap)
        if self.seen is not None:
            self.seen(tap)
        return out

    def _add(self, tap: Tap) -> None:
        self.calls.append(tap)
        self._by.setdefault(tap.name, []).append(tap)

    def _recurrence(
        self, mode: str, act: str, x: Tensor, _packed: None, time: int, state: list[Tensor], own: dict[str, Tensor]
    ) -> Any:
        """A direction of a recurrent layer: two products, of all its steps."""
        x = x.transpose(0, 1) if time else x
        names = [self.names.get(id(own[what]), "") for what in ("weight_ih", "weight_hh")]
        taps = Tap(names[0], "linear", x, ()), Tap(names[1], "linear", x, ())
        follow = names[0] in self.back and x.requires_grad, names[1] in self.back, names[1] in self.summed
        out, final = run(taps, follow, self.room, mode, act, x, state, own)
        for tap in taps:
            if tap.name:
                self._add(tap)
        return out.transpose(0, 1) if time else out, final


def single_steps(taps: Sequence[Tap]) -> list[tuple[Tensor, Tensor | None]]:
    """(inputs, gradient) of the products with a recurrent weight, step by step, however they were seen."""
    found: list[tuple[Tensor, Tensor | None]] = []
    for tap in taps:
        if tap.steps:
            gradients = [None] * len(tap.inputs) if tap.gradient is None else tap.gradient.unbind(0)
            found += zip(tap.inputs.unbind(0), gradients, strict=True)
        else:
            found.append((tap.inputs, tap.gradient))
    return found


def _note(tap: Tap, what: str, then: Callable[[Tap], None] | None, gradient: Tensor) -> None:
    setattr(tap, what, gradient)
    if then is not None:
        then(tap)


def _geometry(tap: Tap, func: Any, args: Any, kwargs: Any, weight: Tensor) -> None:
    dims = (CONVOLUTIONS | TRANSPOSED)[func]
    names = CONV if tap.kind == "conv" else BACK
    given = dict(zip(names, args[2:], strict=False)) | {name: kwargs[name] for name in names if name in kwargs}

    def spread(value: Any) -> tuple[int, ...]:
        many = tuple(int(v) for v in value) if isinstance(value, (tuple, list)) else (int(value),)
        return many * dims if len(many) == 1 else many

    tap.stride, tap.dilation = spread(given.get("stride", 1)), spread(given.get("dilation", 1))
    tap.groups = int(given.get("groups", 1))
    padding = given.get("padding", 0)
    kernel = weight.shape[2:]
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(tap.dilation, kernel, strict=True)]
        tap.padding = tuple((t // 2, t - t // 2) for t in total)
    else:
        each = (0,) * dims if padding == "valid" else spread(padding)
        tap.padding = tuple((p, p) for p in each)
