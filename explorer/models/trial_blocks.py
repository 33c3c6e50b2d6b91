"""Trial removals of branches: does the smaller model equal the sum without that term, on real inputs?"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from ..core.errors import cause
from ..core.message import Message, say
from .blocks import Block
from .calls import Call
from .jointly import Tell, reasons
from .norms import norms_of, over_survivors
from .removal import remove
from .replica import share
from .trial import EXACT, difference
from .watch import agree, watched

if TYPE_CHECKING:
    from .subject import Subject


class _Without(fx.Interpreter):
    """Runs the traced graph with some of its values zero."""

    def __init__(self, module: nn.Module, graph: fx.Graph, terms: set[str]) -> None:
        super().__init__(module, graph=graph)
        self.terms = terms

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        return torch.zeros_like(value) if n.name in self.terms else value


class BlockTrials:
    """Trial removals of branches from float64 copies on the CPU: of the subject's module, and of its trace."""

    def __init__(self, subject: Subject, module: nn.Module, graph: fx.Graph, call: Call) -> None:
        self.module = subject.copy().cpu().double()
        self.traced, self.graph = copy.deepcopy(module).double(), graph
        self.call = call.to("cpu", torch.float64)
        inputs = [n for n in graph.nodes if n.op == "placeholder"]
        args, kwargs = self.call.args, self.call.kwargs
        self.given = [args[i] if i < len(args) else kwargs[str(n.target)] for i, n in enumerate(inputs)]

    def reasons(self, blocks: Sequence[Block], tell: Tell = None) -> list[Message | None]:
        """As :meth:`alone` for each of several blocks, most of them tried together, as groups of units are (:meth:`.Trials.reasons`)."""

        def together(some: Sequence[int], _: int) -> bool:
            try:
                gap, alike = self._gap([blocks[i] for i in some])
            except Exception as error:  # whose reason the block's own trial will say
                cause(error)
                return False
            return alike and gap <= EXACT

        kinds = [self.kind(block) for block in blocks]
        return reasons(kinds, together, lambda i: self.alone(blocks[i]), tell)

    def alone(self, block: Block) -> Message | None:
        """None if taking the branch out equals holding it at zero, and both equal the sum without it; else the reason."""
        try:
            gap, _ = self._gap([block])
        except Exception as error:
            return say("the forward pass fails without its branch ({error})", error=cause(error, 120))
        if gap > EXACT:
            return say(
                "taking its branch out is not the same as leaving it out of the sum (difference {gap:.1e})", gap=gap
            )
        return None

    def kind(self, block: Block) -> Hashable:
        """The types of its modules: what one block needs, another one of its kind needs, too."""
        return tuple(type(self.module.get_submodule(name)) for name in block.modules)

    @torch.no_grad()
    def _gap(self, blocks: Sequence[Block]) -> tuple[float, bool]:
        """The largest difference of outputs without these blocks, and whether modules answer alike on the way."""
        dropped = {name: dims for block in blocks for name, dims in block.dropped().items()}
        masked, removed = share(self.module), share(self.module)
        remove(removed, dropped)
        with over_survivors(masked, norms_of(dropped)), watched(masked) as seen:
            reference = self.call(masked)
        with watched(removed) as other:
            gap = difference(reference, self.call(removed))
        terms = {block.term for block in blocks if block.term is not None}
        if terms:
            traced = share(self.traced)
            with watched(traced) as third:
                gap = max(gap, difference(_Without(traced, self.graph, terms).run(*self.given), reference))
            inside = tuple(f"{name}." for block in blocks for name in block.modules)  # where this one still computes
            outside = {name: calls for name, calls in third.items() if not f"{name}.".startswith(inside)}
            return gap, agree(seen, other, EXACT) and agree(outside, other, EXACT)
        return gap, agree(seen, other, EXACT)
