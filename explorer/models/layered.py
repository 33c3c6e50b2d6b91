"""Weights that are made when a layer is about to run and dropped behind it, for models whose changed weights would be a second copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

PIECE = 1 << 20  # bytes of a tensor below which it is simply put in place for as long as the others take turns
CONTAINERS = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.TransformerEncoder, nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.Transformer,
)  # fmt: skip
# What asks a tensor about itself needs none of its values.
_READS = {getattr(Tensor, name).__get__ for name in ("data", "T", "mT", "H", "mH", "real", "imag")}
_ASKS = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.stride,
    Tensor.is_floating_point,
    Tensor.element_size,
    Tensor.__len__,
}


class Layered:
    """Puts weights into a module, each for as long as the layer that holds it runs.

    A layer is a module of torch.nn that runs as one (nn.Linear, nn.LSTM, nn.MultiheadAttention, nn.TransformerEncoderLayer): all of its own weights
    are there together, and torch's fused kernels are taken as ever. Whatever else reads a weight (a tied embedding, a parent that
    calls a function) is handed the other one operation by operation. The module's ``forward`` methods are wrapped once; the wrappers do
    nothing outside of :meth:`lent`. So what is there beside the original is bounded by the largest such layer, a whole nn.TransformerEncoderLayer or
    all stacked layers of an nn.LSTM, and by one tensor more; an ONNX graph runs as one, so there it is all that changed. What reaches for a weight's memory without a torch function (a hand-written kernel) sees the original.
    """

    def __init__(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        self._names = {id(one): name for name, one in parameters.items()}
        self._make: Mapping[str, Callable[[], Tensor]] = {}
        self._placed: set[str] = set()
        self._mode = _Substitution(self)
        self.fixed: set[str] = set()  # held by modules whose forward is compiled: nothing can be put in between
        for child in module.modules():
            own = {self._names[id(p)] for p in (*child.parameters(), *child.buffers())}
            if isinstance(child, torch.jit.ScriptModule) or type(child).__name__ == "OptimizedModule":
                self.fixed |= own
            elif type(child).__module__.startswith("torch.nn"):
                self._wrap(child, frozenset() if isinstance(child, CONTAINERS) else frozenset(own), False)
            else:
                self._wrap(child, frozenset(), True)

    def _wrap(self, child: nn.Module, own: frozenset[str], listens: bool) -> None:
        given = child.__dict__.get("forward")

        @wraps(child.forward)
        def forward(*args: Any, **kwargs: Any) -> Any:
            # of the class that it is now: one that rounds its inputs is another
            run = given if given is not None else type(child).forward.__get__(child)
            if not self._make:
                return run(*args, **kwargs)
            with _stack(self._mode, listens), self._in_place(own):
                return run(*args, **kwargs)

        child.forward = forward  # type: ignore[method-assign]

    @contextmanager
    def lent(self, make: Mapping[str, Callable[[], Tensor]]) -> Iterator[None]:
        """Within the block the module computes with ``make`` {name: what makes its tensor, of the parameter's shape, dtype and device}."""
        if not make:
            yield
            return
        before, self._make = self._make, make
        try:
            with _stack(self._mode, True):
                yield
        finally:
            self._make = before

    @contextmanager
    def _in_place(self, own: frozenset[str]) -> Iterator[None]:
        mine = [name for name in own if name in self._make and name not in self._placed]
        base = {name: self._parameters[name].data for name in mine}
        try:
            for name in mine:
                self._parameters[name].data = self._make[name]()
                self._placed.add(name)
            yield
        finally:
            for name in mine:
                self._parameters[name].data = base[name]
                self._placed.discard(name)

    def instead(self, value: Any) -> Any:
        """An argument of an operation, with other weights in the place of parameters."""
        if isinstance(value, Tensor):
            name = self._names.get(id(value), "")
            return self._make[name]() if name in self._make and name not in self._placed else value
        if type(value) in (tuple, list):
            return type(value)(self.instead(one) for one in value)
        return value


class _Substitution(TorchFunctionMode):
    """Hands operations what their weights are to be."""

    def __init__(self, owner: Layered) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ASKS or getattr(func, "__name__", "") == "__get__" and func not in _READS:
            return func(*args, **kwargs)
        instead = self.owner.instead
        return func(*map(instead, args), **{key: instead(one) for key, one in kwargs.items()})


@contextmanager
def _stack(mode: TorchFunctionMode, on: bool) -> Iterator[None]:
    """Within the block a mode listens, or does not; below all others, which are to see the parameters themselves.

    While any listens, torch leaves its fused kernels.
    """
    before = _get_current_function_mode_stack()
    if (mode in before) == on:
        yield
        return
    _set([mode, *before] if on else [one for one in before if one is not mode])
    try:
        yield
    finally:
        _set(before)


def _set(stack: list[TorchFunctionMode]) -> None:
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for one in stack:
        _push_mode(one)
