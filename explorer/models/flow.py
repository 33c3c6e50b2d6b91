"""Follow units through a model: which dimension of which value runs along which units, operation by operation.

Every value carries *marks*: int64 tensors of its rank, of size 1 along dims that do not matter, holding the unit of each
index. Convolutions and linear layers start new units; element-wise operations unite those of their inputs; operations
that move entries are simply applied to the marks; whatever is not understood blocks the units that go in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..core.message import Message, say
from .ledger import FIXED, Ledger, compact, touches

Marks = list[Tensor]


class Flow(fx.Interpreter):
    """Runs a traced graph on real inputs and keeps the marks of every value beside it."""

    def __init__(self, module: torch.nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.ledger = Ledger()
        self.marks: dict[fx.Node, Any] = {}  # Marks, or a tuple of such for nodes that return several values
        self.values: dict[fx.Node, Any] = {}
        self.states: dict[str, Any] = {}  # units of modules already met: a module called twice keeps its own

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.values[n] = value
        self.marks[n] = self._mark(n, value)
        return value

    def _mark(self, node: fx.Node, value: Any) -> Any:
        from . import flow_functions, flow_modules

        if node.op == "output":
            self._block_inputs(node, say("its units reach the model's output"))
            return []
        if node.op == "placeholder" or not node.all_input_nodes and node.op != "get_attr":
            return []
        if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):
            return []  # written in the forward: it stays as it is
        if node.op == "get_attr":
            return self._parameter(str(node.target), value)
        rule: Callable[..., Any] | None
        if node.op == "call_module":
            module = self.fetch_attr(str(node.target))
            rule = flow_modules.rule(module)
            if rule is not None:
                return rule(self, str(node.target), module, node, value)
        else:
            rule = flow_functions.rule(node.target)
            if rule is not None:
                return rule(self, node, value)
        name = flow_functions.name_of(node.target)
        what = f"{name} ({type(self.fetch_attr(name)).__name__})" if node.op == "call_module" else name
        self._block_inputs(node, say("its units pass through {what}", what=what))
        return []

    def _parameter(self, name: str, value: Any) -> Marks:
        """A parameter or buffer used by itself (a position embedding, a mask): each of its dims may shrink."""
        if not isinstance(value, Tensor) or value.ndim == 0:
            return []
        marks = []
        for dim, size in enumerate(value.shape):
            if size > 1:
                ids = self.states.setdefault(f"{name}/{dim}", None)
                if ids is None:
                    ids = self.states[f"{name}/{dim}"] = self.ledger.fresh(size)
                    self.ledger.own(name, dim, "follower", ids)
                shape = [1] * value.ndim
                shape[dim] = size
                marks.append(ids.view(shape))
        return marks

    def _block_inputs(self, node: fx.Node, reason: Message) -> None:
        for source in node.all_input_nodes:
            self.block(self.marks.get(source, []), reason)

    # what rules use

    def of(self, argument: Any) -> Marks:
        """Marks of an argument: a node's, or none for a constant."""
        found = self.marks.get(argument, []) if isinstance(argument, fx.Node) else []
        return found if isinstance(found, list) else []

    def value(self, argument: Any) -> Any:
        """The real value of an argument; nodes within lists, tuples and slices are replaced, too."""
        return fx.node.map_arg(argument, lambda n: self.values[n])

    def block(self, marks: Any, reason: Message) -> None:
        """None of these units can go."""
        for one in marks:
            if isinstance(one, Tensor):
                self.ledger.block(one, reason)
            else:
                self.block(one, reason)

    def operands(self, node: fx.Node, names: Sequence[str]) -> dict[str, Any] | None:
        """The arguments by name of a function of a weight and a bias; None, and their units blocked, where those are computed."""
        named = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        weight, bias = named["weight"], named.get("bias")
        held = isinstance(weight, fx.Node) and weight.op == "get_attr"
        if held and (not isinstance(bias, fx.Node) or bias.op == "get_attr"):
            return named
        self.block([self.of(named.get(name)) for name in ("input", "weight", "bias")], say("their weights are computed"))
        return None

    def along(self, marks: Marks, dim: int) -> Tensor | None:
        """The units [size] along one dim, united over the other dims that a mark depends on; None if there are none."""
        for mark in marks:
            d = dim % mark.ndim
            if mark.shape[d] > 1:
                rows = mark.movedim(d, 0).reshape(mark.shape[d], -1)  # [size, others]
                for other in range(1, rows.shape[1]):
                    self.ledger.unite(rows[:, 0], rows[:, other])
                return rows[:, 0]
        return None

    def without(self, marks: Marks, dims: Sequence[int], reason: Message, squeeze: bool = False) -> Marks:
        """Marks after ``dims`` were summed or normalized over: what depended on them is blocked."""
        kept = []
        for mark in marks:
            at = sorted({d % mark.ndim for d in dims}, reverse=True)
            if touches(mark, at):
                self.ledger.block(mark, reason)
                continue
            for d in at if squeeze else ():
                mark = mark.squeeze(d)
            kept.append(mark)
        return kept

    def collapse(self, marks: Marks, dim: int, reason: Message) -> Marks:
        """Marks after ``dim`` was contracted with another activation: its units go together, if at all."""
        out = []
        for mark in marks:
            d = dim % mark.ndim
            if mark.shape[d] > 1:
                rest = mark.movedim(d, -1)
                for i in range(1, rest.shape[-1]):
                    self.ledger.unite(rest[..., 0], rest[..., i])
                mark = rest[..., :1].movedim(-1, d)
                if mark.numel() == 1:
                    self.ledger.block(mark, reason)
                    continue
            out.append(mark)
        return out

    def merge(self, inputs: Sequence[tuple[Any, Marks]], shape: Sequence[int]) -> Marks:
        """Marks of an element-wise result: inputs are (value, marks), broadcast to ``shape``; meeting units are united."""
        rank = len(shape)
        lifted = []
        for value, marks in inputs:
            if isinstance(value, Tensor):
                size = (1,) * (rank - value.ndim) + tuple(value.shape)
                lifted.append((size, [m.reshape((1,) * (rank - m.ndim) + tuple(m.shape)) for m in marks]))
        out: Marks = []
        for _, marks in lifted:
            for mark in marks:
                dims = [d for d in range(rank) if mark.shape[d] > 1]
                for other_size, other_marks in lifted:
                    if other_marks is marks:
                        continue
                    met = False
                    for other in other_marks:
                        if any(other.shape[d] > 1 for d in dims):
                            self.ledger.unite(mark, other)
                            met = True
                    if not met and any(other_size[d] > 1 for d in dims):
                        self.ledger.block(mark, say("they are combined with values that stay"))
                if not any(touches(done, dims) or torch.equal(done, mark) for done in out):  # a lone unit has no dims
                    out.append(mark)
        return out

    def moved(self, value: Any, marks: Marks, run: Callable[[Tensor], Any]) -> Any:
        """Marks after an operation that only moves entries: the operation applied to the marks themselves."""
        results = [_compacted(run(mark.expand(value.shape).contiguous())) for mark in marks]
        if not results:
            return []
        if isinstance(results[0], tuple):
            return tuple([r for r in column if r is not None] for column in zip(*results, strict=True))
        return [r for r in results if r is not None]

    def fixed_like(self, value: Tensor) -> Tensor:
        """Marks of a value without units."""
        return torch.full((1,) * value.ndim, FIXED)


def _compacted(found: Any) -> Any:
    if isinstance(found, Tensor):
        return compact(found)
    return tuple(compact(one) for one in found)
