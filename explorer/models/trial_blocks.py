"""A trial removal of a branch: does the smaller model equal the sum without that term, on real inputs?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from ..core.errors import cause
from ..core.message import say
from .blocks import Block
from .calls import Call
from .norms import norms_of, over_survivors
from .removal import remove
from .replica import share
from .trial import EXACT, difference

if TYPE_CHECKING:
    from .subject import Subject


class _Without(fx.Interpreter):
    """Runs the traced graph with one of its values zero."""

    def __init__(self, module: nn.Module, graph: fx.Graph, term: str) -> None:
        super().__init__(module, graph=graph)
        self.term = term

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        return torch.zeros_like(value) if n.name == self.term else value


@torch.no_grad()
def why_not(subject: Subject, block: Block, module: nn.Module, graph: fx.Graph, call: Call) -> str | None:
    """None if taking the branch out equals holding it at zero, and both equal the sum without it; else the reason."""
    exact = call.to("cpu", torch.float64)
    masked = subject.copy().cpu().double()
    removed = share(masked)
    try:
        remove(removed, block.dropped())
        with over_survivors(masked, norms_of(block.dropped())):
            reference = exact(masked)
        gap = difference(reference, exact(removed))
        if block.term is not None:
            inputs = [n for n in graph.nodes if n.op == "placeholder"]
            given = [
                exact.args[i] if i < len(exact.args) else exact.kwargs[str(n.target)] for i, n in enumerate(inputs)
            ]
            without = _Without(copy.deepcopy(module).double(), graph, block.term).run(*given)
            gap = max(gap, difference(without, reference))
    except Exception as error:
        return say("the forward pass fails without its branch ({error})", error=cause(error, 120))
    if gap > EXACT:
        return say("taking its branch out is not the same as leaving it out of the sum (difference {gap:.1e})", gap=gap)
    return None
