"""How normalization called as a function passes units on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from ..core.message import say
from .flow_functions import name_of

if TYPE_CHECKING:
    from .flow import Flow, Marks


def channels(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """F.batch_norm, F.instance_norm and F.prelu: what they hold for a channel (dim 1) goes with it."""
    given: list[Any] = [*node.args, *node.kwargs.values()]
    marks = flow.of(given[0])
    ids = flow.along(marks, 1)
    for one in given[1:]:
        held = flow.along(flow.of(one), 0)
        if held is not None and ids is not None:
            flow.ledger.unite(held, ids)
        elif held is not None:
            flow.ledger.block(held, say("they are combined with values that stay"))
        elif ids is not None and isinstance(size := flow.value(one), Tensor) and size.numel() > 1:
            flow.ledger.block(ids, say("they are combined with values that stay"))
    return marks


def statistics(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """F.layer_norm, F.rms_norm, F.group_norm: units over which statistics are taken need a module, which can be told to take
    them over those that stay."""
    name = name_of(node.target)
    first = node.args[1] if len(node.args) > 1 else next(iter(node.kwargs.values()))
    dims = range(1, value.ndim) if name == "group_norm" else range(-len(flow.value(first)), 0)
    for one in [*node.args[2:], *node.kwargs.values()]:
        flow.block([flow.of(one)], say("they are combined with values that stay"))
    return flow.without(
        flow.of(node.args[0]), dims, say("{name} takes its statistics over them, and is no module", name=name)
    )
