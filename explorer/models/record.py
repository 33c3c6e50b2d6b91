"""Graphs of modules that torch.fx cannot trace: what one call computed, written down operation by operation.

Sizes, lengths and branches are those of the call. Such a graph shows how units flow; it never takes the module's place.
"""

from __future__ import annotations

import dis
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from ..core.errors import cause
from .calls import Call
from .decisions import METADATA, Decisions, Watched

Leaf = Callable[[nn.Module], bool]


@dataclass(eq=False)
class Record:
    """One recorded call.

    made: (where, outcome, scope) of every decision; a scope is the FQN of the module whose forward runs. visible: {scope: nodes that its
    forward has in hand}. used: ids of the parameters that were used. broken: why the call failed, where that says nothing about the model.
    raised: whether the module's own code raised. unwatched: {scope: where its forward turned data into plain numbers}.
    """

    module: nn.Module
    graph: fx.Graph
    made: list[tuple[str, bool, str]] = field(default_factory=list)
    visible: dict[str, set[fx.Node]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    unwatched: dict[str, str] = field(default_factory=dict)
    broken: str | None = None
    raised: bool = False


def on_data(*values: Any) -> None:
    """Stands in a graph where a forward turns tensors into Python values, be it to branch on them."""


class _Recorder(Decisions):
    """Writes every torch function and leaf module that is called into a graph, whatever Python is around it."""

    def __init__(self, module: nn.Module, leaf: Leaf, forced: Sequence[bool]) -> None:
        super().__init__(forced)
        self.record = Record(module, fx.Graph())
        self._names = {id(t): name for name, t in [*module.named_buffers(), *module.named_parameters()]}
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Any] = []  # an id is of use as long as its tensor lives
        self._scope: list[str] = []
        self._inside = 0  # of a leaf, whose own operations are not written down
        self._constants = 0
        self._hooks: list[Any] = []
        self._hook("", module, leaf)

    def _hook(self, name: str, module: nn.Module, leaf: Leaf) -> None:
        whole = leaf(module) and not (module._forward_hooks or module._forward_pre_hooks)
        for child_name, child in module.named_children():  # of a leaf, too: a forward may call them by themselves
            self._hook(f"{name}.{child_name}" if name else child_name, child, leaf)
        before, after = (self._enter, self._leave) if whole else (self._begin, self._end)
        self._hooks.append(module.register_forward_pre_hook(partial(before, name), with_kwargs=True))
        self._hooks.append(module.register_forward_hook(partial(after, name), with_kwargs=True))

    # scopes and leaves

    def _see(self, *values: Any) -> None:
        if self._scope:
            seen = self.record.visible.setdefault(self._scope[-1], set())
            fx.node.map_arg(self._argument(values), lambda node: seen.add(node))

    def _begin(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._inside:
            self._scope.append(name)
            self._see(args, kwargs)

    def _end(self, name: str, module: nn.Module, args: Any, kwargs: Any, value: Any) -> None:
        if not self._inside:
            self._scope.pop()
            self._see(value)

    def _enter(self, *_: Any) -> None:
        self._inside += 1

    def _leave(self, name: str, module: nn.Module, args: Any, kwargs: Any, value: Any) -> None:
        self._inside -= 1
        if not self._inside:
            self.record.used.update(self._names[id(parameter)] for parameter in module.parameters())
            self._write("call_module", name, args, kwargs, value)

    # nodes

    def _write(self, op: str, target: Any, args: Any, kwargs: Any, value: Any) -> None:
        node = self.record.graph.create_node(op, target, self._argument(tuple(args)), self._argument(kwargs))
        self._keep(value, node)
        self._see(args, kwargs, value)

    def _keep(self, value: Any, node: fx.Node) -> None:
        """Remember that ``node`` made ``value`` and what lies in it."""

        def part(item: Any, target: Any, key: Any) -> None:
            if isinstance(item, (Tensor, tuple, list, dict)):
                self._keep(item, self.record.graph.create_node("call_function", target, (node, key)))

        if isinstance(value, Tensor):
            self._nodes[id(value)] = node
            self._alive.append(value)
        elif isinstance(value, PackedSequence):
            for name in value._fields:
                part(getattr(value, name), getattr, name)
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                part(item, operator.getitem, i)
        elif isinstance(value, dict):
            for key, item in value.items():
                part(item, operator.getitem, key)

    def _node(self, tensor: Tensor) -> fx.Node:
        """Where a tensor comes from; one that no operation made is a parameter, a buffer or a constant."""
        if id(tensor) not in self._nodes:
            name = self._names.get(id(tensor))
            if name is None:
                name = f"_tensor_constant{self._constants}"
                self._constants += 1
                setattr(self.record.module, name, tensor.detach().clone())
            self.record.used.add(name)
            self._alive.append(tensor)
            self._nodes[id(tensor)] = self.record.graph.create_node("get_attr", name)
        return self._nodes[id(tensor)]

    def _argument(self, value: Any) -> Any:
        """A value as an argument of a node: tensors are the nodes that made them."""
        if isinstance(value, Tensor):
            return self._node(value)
        if isinstance(value, PackedSequence):
            return self.record.graph.create_node("call_function", PackedSequence, tuple(map(self._argument, value)))
        if isinstance(value, slice):
            return slice(*map(self._argument, (value.start, value.stop, value.step)))
        if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
            parts = [self._argument(one) for one in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        if isinstance(value, dict):
            return {key: self._argument(one) for key, one in value.items()}
        return float(value) if isinstance(value, Watched) else value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        if self._inside:
            return value
        name = getattr(func, "__name__", "")
        if _holds_tensors(value) or name == "__setitem__":
            op, target, given = _target(func, name, args)
            self._write(op, target, given, kwargs or {}, value)
        elif name not in METADATA and _holds_tensors(args) and value is not None:
            self._write("call_function", on_data, args, {}, None)
            found = self.python_value(func, args, value) if isinstance(value, (bool, float)) else value
            plain = type(found) is float or not isinstance(found, (bool, int, float))
            if plain and any(isinstance(one, Tensor) and one.is_floating_point() for one in args):
                self.record.unwatched.setdefault(self._scope[-1] if self._scope else "", name)
            return found
        return value

    def decide(self, outcome: bool, where: str) -> bool:
        outcome = super().decide(outcome, where)
        self.record.made.append((where, outcome, self._scope[-1] if self._scope else ""))
        return outcome

    def run(self, call: Call) -> Record:
        graph, module = self.record.graph, self.record.module
        given = {f"input_{i}": one for i, one in enumerate(call.args)} | call.kwargs
        for name, one in given.items():
            self._keep(one, graph.placeholder(name))
        try:
            with torch.no_grad(), self:
                result = module(*call.args, **call.kwargs)
            graph.output(self._argument(result))
        except Exception as error:
            if not self.forced:
                raise
            self.record.raised = _raised_here(error)
            self.record.broken = None if self.record.raised else cause(error, 120)
        finally:
            for hook in self._hooks:
                hook.remove()
        return self.record


def record(module: nn.Module, call: Call, leaf: Leaf, forced: Sequence[bool] = ()) -> Record:
    """Run ``module`` (a copy: constants are left on it) and write down what it computes, down to modules for which ``leaf`` is true.

    forced: outcomes of its first decisions on data. Where these make it fail, the graph ends there; else its errors pass.
    """
    return _Recorder(module, leaf, forced).run(call)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_tensors(one) for one in value)
    return isinstance(value, Tensor)


def _target(func: Any, name: str, args: Any) -> tuple[str, Any, Any]:
    """(op, target, arguments) of a torch function as a trace would have written it: operators by their plain names."""
    if name == "__get__":
        return (
            "call_function",
            getattr,
            (args[0], getattr(func.__self__, "__name__", "") or func.__self__.fget.__name__),
        )
    bare = name.strip("_")
    if name.startswith("__") and name.endswith("__"):
        if hasattr(operator, name):
            return "call_function", getattr(operator, name), args
        if hasattr(operator, f"__{bare[1:]}__"):  # __rsub__
            return "call_function", getattr(operator, f"__{bare[1:]}__"), (args[1], args[0])
    return "call_function", func, args


def _raised_here(error: Exception) -> bool:
    """Whether the module's own code raised it, by ``raise`` or ``assert``, and not an operation that failed."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or place.tb_frame.f_code.co_filename.startswith(os.path.dirname(torch.__file__)):
        return False
    code = place.tb_frame.f_code.co_code
    return dis.opname[code[place.tb_lasti]] == "RAISE_VARARGS"
