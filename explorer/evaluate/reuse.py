"""What rectifies, adds or scales may write into memory that nothing reads again: the same bits, with less to move and to allocate."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from . import column_major
from .expand import folded
from .fuse import convolution, linear
from .recurrent import stepped, straight

MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # what these return is their own
PRODUCTS = (folded, linear, convolution, column_major.linear)
ADDING = (operator.add, torch.add)
TIMES = (operator.mul, torch.mul)
STEPS: tuple[Any, ...] = (stepped, straight)  # make a sequence, and states beside it
RECTIFYING = (torch.relu, nn.functional.relu)

Fetch = Callable[[str], Any]


def add_into(x: Any, y: Any) -> Any:
    """x + y, in x's memory where the sum fits there."""
    fits = isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and x.dtype == y.dtype
    return x.add_(y) if fits else x + y


def scale_into(x: Any, y: Any) -> Any:
    """x * y, in x's memory where the product fits there: y may have dims of one."""
    fits = isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == y.ndim and x.dtype == y.dtype
    fits = fits and all(n in (1, m) for m, n in zip(x.shape, y.shape, strict=True))
    return x.mul_(y) if fits else x * y


def in_place(
    node: fx.Node, needed: Collection[fx.Node], wanted: Collection[fx.Node], fetch: Fetch
) -> tuple[Any, tuple[Any, ...]] | None:
    """(function, arguments) by which a node is computed in its input's memory; None where that must not be.

    needed: the nodes that are computed together with it; wanted: those whose values are asked for. The input has to be one that an
    operation has just made, in this run, for this node alone.
    """

    def own(x: Any) -> bool:
        made = isinstance(x, fx.Node) and x in needed and x not in wanted and set(x.users) == {node}
        return made and _fresh(x, fetch)

    if len(node.args) == 1 and not set(node.kwargs) - {"inplace"} and _rectifies(node) and own(node.args[0]):
        return torch.relu_, node.args
    if node.op == "call_function" and node.target in (*ADDING, *TIMES) and len(node.args) == 2 and not node.kwargs:
        for x, y in (node.args, node.args[::-1]):
            if own(x) and x is not y:
                return add_into if node.target in ADDING else scale_into, (x, y)
    return None


def _rectifies(node: fx.Node) -> bool:
    """A function or a method: a module is called, since a plan may change what it answers."""
    return (
        node.target in RECTIFYING if node.op == "call_function" else node.op == "call_method" and node.target == "relu"
    )


def _fresh(node: fx.Node, fetch: Fetch) -> bool:
    """Whether a node's value lies in memory of its own."""
    if node.op == "call_function":
        if node.target is operator.getitem:
            return isinstance(node.args[0], fx.Node) and node.args[0].target in STEPS and node.args[1:] == (0,)
        return node.target in PRODUCTS or (node.target in (*ADDING, *TIMES) and not node.kwargs)
    if node.op != "call_module":
        return False
    module = fetch(str(node.target))
    return type(module) in MODULES and not _watched(module)


def _watched(module: nn.Module) -> bool:
    """Whether somebody sees what a module returns, and may keep it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
