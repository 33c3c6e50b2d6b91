"""torch.fx graphs of modules, traced without disturbing other threads."""

from __future__ import annotations

import builtins
import copy
import inspect
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import fx, nn

from .calls import Call
from .lengths import code, followed
from .plain import simplify

_PACKED = (nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence)
_FACTORIES = (torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace, torch.eye)
_lock = threading.Lock()


class _Tracer(fx.Tracer):
    """Modules for which ``leaf`` is true stay one node; everything else is traced into."""

    proxy_buffer_attributes = True  # so that a buffer may be indexed by sizes of the input

    def __init__(self, leaf: Callable[[nn.Module], bool], code: list[ModuleType]) -> None:
        super().__init__(autowrap_functions=_FACTORIES + _PACKED)
        # so that torch.zeros(x.size(0), ...) becomes a node, too, whoever calls it under whichever name
        self._autowrap_search += [torch, nn.utils.rnn, *code]
        self._thread = threading.get_ident()
        self._leaf = leaf

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # while torch.fx traces, it patches nn.Module.__call__ for the whole process: others just run
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """``for part in x.chunk(3)``: the number of parts is written in the call."""
        count = {"chunk": 1, "tensor_split": 1, "split": 1, "split_with_sizes": 1}
        name = obj.node.target if isinstance(obj.node.target, str) else getattr(obj.node.target, "__name__", "")
        given = obj.node.args[1] if name in count and len(obj.node.args) > 1 else None
        if isinstance(given, int) and name in ("chunk", "tensor_split"):
            return iter([obj[i] for i in range(given)])  # type: ignore[index]
        if isinstance(given, (list, tuple)) and name in ("split", "split_with_sizes"):
            return iter([obj[i] for i in range(len(given))])  # type: ignore[index]
        return super().iter(obj)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._leaf(m) and not (m._forward_hooks or m._forward_pre_hooks)


def trace(
    module: nn.Module, call: Call, leaf: Callable[[nn.Module], bool], own: bool = False
) -> tuple[nn.Module, fx.Graph]:
    """Trace a copy; arguments that the call does not give are fixed at their defaults.

    own: the caller gives the module away, which may be traced itself: a trace leaves constants on it.
    """
    copied = module.eval() if own else copy.deepcopy(module).eval()
    simplify(copied)
    parameters = inspect.signature(type(copied).forward).parameters
    names = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)][1:]
    given = set(names[: len(call.args)]) | set(call.kwargs)
    fixed = {name: parameters[name].default for name in names if name not in given}
    with _lock, followed(copied):  # two patches undone in the wrong order would stay
        forget_missing()
        graph = _Tracer(leaf, code(copied)).trace(copied, concrete_args=fixed or None)
    for node in list(graph.nodes):  # a fixed argument leaves an unused input and a check of it
        if node.op == "placeholder" and node.target not in given and not node.target.startswith("*"):
            _erase(graph, node)
    return copied, graph


def forget_missing() -> None:
    """Written graphs and libraries ask torch.fx to wrap functions by dotted names, which are no names of a module: every trace would fail."""
    wanted = getattr(fx._symbolic_trace, "_wrapped_fns_to_patch", {})
    for key, frame in list(wanted.items()):
        if key[1] not in frame and not hasattr(builtins, key[1]):
            del wanted[key]


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)
