"""Watches every product with a weight while a module runs: what goes in, and the gradient of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
TRANSPOSED = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}
KINDS: dict[Callable[..., Any], str] = {F.linear: "linear", F.embedding: "embedding"}
KINDS |= dict.fromkeys(CONVOLUTIONS, "conv") | dict.fromkeys(TRANSPOSED, "transposed")
CONV = ("bias", "stride", "padding", "dilation", "groups")
BACK = ("bias", "stride", "padding", "output_padding", "groups", "dilation")


@dataclass(eq=False)
class Tap:
    """One product with the weight ``name``. inputs: its input (indices, of an embedding); gradient: dL / d output, once
    the loss went backward. stride, padding, dilation: of convolutions, an int a dimension; groups."""

    name: str
    kind: str
    inputs: Tensor
    output: tuple[int, ...]
    groups: int = 1
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    padding_idx: int | None = None
    gradient: Tensor | None = None
    version: int = 0

    @property
    def overwritten(self) -> bool:
        """Whether the input was written to after the product."""
        return self.inputs._version != self.version


@dataclass(eq=False)
class Taps:
    """The products seen, in order."""

    calls: list[Tap] = field(default_factory=list)

    def of(self, name: str) -> list[Tap]:
        return [tap for tap in self.calls if tap.name == name]


class Watch(TorchFunctionMode):
    """``with Watch({id(parameter): name}) as watch``: fills ``watch.taps``; outputs are made to require gradients where
    nothing before them does, so that the weights themselves need not. keep: copy inputs, where modules overwrite them."""

    def __init__(self, names: Mapping[int, str], keep: bool = False) -> None:
        super().__init__()
        self.names, self.keep, self.taps = names, keep, Taps()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = KINDS.get(func) if callable(func) else None
        if kind is None:
            return func(*args, **kwargs)
        weight = args[1] if len(args) > 1 else kwargs.get("weight")
        name = self.names.get(id(weight))
        out = func(*args, **kwargs)
        if name is None or not isinstance(out, Tensor) or not isinstance(weight, Tensor):
            return out
        inputs = (args[0] if args else kwargs["input"]).detach()
        tap = Tap(name, kind, inputs.clone() if self.keep else inputs, tuple(out.shape))
        tap.version = tap.inputs._version if not tap.inputs.is_inference() else 0
        if kind in ("conv", "transposed"):
            _geometry(tap, func, args, kwargs, weight)
        elif kind == "embedding":
            tap.padding_idx = args[2] if len(args) > 2 else kwargs.get("padding_idx")
            if tap.padding_idx is not None and tap.padding_idx < 0:
                tap.padding_idx += weight.shape[0]
        if torch.is_grad_enabled():
            if not out.requires_grad:
                out = out.detach().requires_grad_().clone()  # a copy, since a leaf may not be written to in place

            def note(gradient: Tensor) -> None:
                tap.gradient = gradient

            out.register_hook(note)
        self.taps.calls.append(tap)
        return out


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
