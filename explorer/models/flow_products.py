"""How products pass units on: of activations with each other, and of activations with parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from ..core.message import say
from .flow_functions import name_of

if TYPE_CHECKING:
    from .flow import Flow, Marks

STAY = say("they are combined with values that stay")
MULTIPLIED = say("they are multiplied with other activations")


def product(flow: Flow, node: fx.Node, value: Any) -> Marks:
    """[..., m, k] @ [..., k, n]: batch dims meet, k is contracted."""
    arguments = node.args[1:3] if name_of(node.target) == "baddbmm" else node.args[:2]
    held = parameter(flow, arguments[1])
    if held is not None and len(node.args) == 2:
        return weighted(flow, flow.of(arguments[0]), value, *held)
    first, second = (flow.value(a) for a in arguments)
    if first.ndim < 2 or second.ndim < 2:
        flow.block([flow.of(a) for a in arguments], say("its units pass through a product with a vector"))
        return []
    left = flow.collapse(flow.of(arguments[0]), -1, MULTIPLIED)
    right = flow.collapse(flow.of(arguments[1]), -2, MULTIPLIED)
    flow.ledger.heads += [m for m in [*left, *right] if m.numel() > 1 and m.shape[-1] == m.shape[-2] == 1]
    return flow.merge([(first[..., :1], left), (second[..., :1, :], right)], value.shape)


def attention(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """softmax(q k^T) v: heads (batch dims) of q, k and v meet; widths of q and k are contracted."""
    named = dict(zip(("query", "key", "value", "attn_mask"), node.args, strict=False)) | dict(node.kwargs)
    q, k, v = (named[name] for name in ("query", "key", "value"))
    inputs = [(flow.value(a)[..., :1, :1], flow.collapse(flow.of(a), -1, MULTIPLIED)) for a in (q, k)]
    flow.ledger.heads += [m for _, marks in inputs for m in marks if m.numel() > 1 and m.shape[-1] == m.shape[-2] == 1]
    mask = named.get("attn_mask")
    if isinstance(mask, fx.Node):
        flow.block(flow.of(mask), say("its units mask attention"))
    return flow.merge([*inputs, (flow.value(v)[..., :1, :], flow.of(v))], value.shape)


def parameter(flow: Flow, argument: Any) -> tuple[fx.Node, int] | None:
    """(a matrix of the model, which of its dims is contracted where it stands on the right of a product); None for others."""
    dim = 0
    while isinstance(argument, fx.Node) and argument.op != "get_attr":
        name = name_of(argument.target)
        turned = name in ("t", "transpose", "swapaxes") or name == "getattr" and argument.args[1] in ("T", "mT")
        if not turned:
            return None
        argument, dim = argument.args[0], 1 - dim
    held = isinstance(argument, fx.Node) and isinstance(flow.value(argument), torch.nn.Parameter)
    return (argument, dim) if held and flow.value(argument).ndim == 2 else None


def weighted(flow: Flow, marks: Marks, value: Tensor, weight: fx.Node, contracted: int, bias: Any = None) -> Marks:
    """x @ W (contracted dim 0) or x @ W.T (dim 1): the weight's contracted dim reads the units of x, the other starts new ones."""
    name, inputs = str(weight.target), flow.along(marks, -1)
    rows, columns = (
        flow.along([m for m in flow.of(weight) if m.shape[d] > 1], d) for d in (1 - contracted, contracted)
    )
    if columns is not None:
        flow.ledger.own(name, contracted, "consumer", columns)
        if inputs is None:
            flow.ledger.block(columns, STAY)
        else:
            flow.ledger.unite(columns, inputs)
    elif inputs is not None:
        flow.ledger.block(inputs, STAY)
    kept = [m for m in marks if m.shape[-1] == 1]
    if rows is None:
        return kept
    flow.ledger.own(name, 1 - contracted, "producer", rows)
    if isinstance(bias, fx.Node) and (shifts := flow.along(flow.of(bias), 0)) is not None:
        flow.ledger.unite(shifts, rows)
    elif isinstance(bias, fx.Node) and flow.value(bias).numel() > 1:
        flow.ledger.block(rows, STAY)
    return [*kept, rows.view(*[1] * (value.ndim - 1), -1)]


def linear(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """F.linear on parameters: the weight's columns are the input's units, its rows new ones."""
    named = flow.operands(node, ("input", "weight", "bias"))
    if named is None:
        return []
    return weighted(flow, flow.of(named["input"]), value, named["weight"], 1, named.get("bias"))


def addmm(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """bias + x @ W."""
    held = parameter(flow, node.args[2]) if len(node.args) == 3 and not node.kwargs else None
    if held is None:
        flow._block_inputs(node, say("its units pass through {name}", name="addmm"))
        return []
    return weighted(flow, flow.of(node.args[1]), value, *held, bias=node.args[0])


def einsum(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """Two operands: labels of both meet, or are contracted; of parameters the contracted dim reads, the others start units."""
    given = node.args[1:] if len(node.args) != 2 else node.args[1]
    operands = list(given) if isinstance(given, (tuple, list)) else [given]
    labels = _labels(node.args[0], [flow.value(one).ndim for one in operands])
    if labels is None or len(operands) != 2:
        flow._block_inputs(node, say("its units pass through {name}", name="einsum"))
        return []
    left, right, out = labels
    held = [_owned(flow, one) for one in operands]
    kept = [flow.of(one) for one in operands]
    for label in dict.fromkeys(left + right):
        if label in out:
            continue
        dims = [side.find(label) for side in (left, right)]
        if -1 in dims:  # summed over, in one operand alone
            at = 1 if dims[0] == -1 else 0
            kept[at] = flow.without(kept[at], [dims[at]], say("{name} runs over its units", name="einsum"))
        elif any(held):
            met = [flow.along(marks, d) for marks, d in zip(kept, dims, strict=True)]
            _read(flow, met, [(name, d) for name, d in zip(held, dims, strict=True) if name])
            kept = [[m for m in marks if m.shape[d] == 1] for marks, d in zip(kept, dims, strict=True)]
        else:
            kept = [flow.collapse(marks, d, MULTIPLIED) for marks, d in zip(kept, dims, strict=True)]
            both = [
                [i for i, one in enumerate(side) if one in left and one in right and one in out]
                for side in (left, right)
            ]
            for at in (0, 1):
                flow.ledger.heads += [m for m in kept[at] if m.numel() > 1 and any(m.shape[d] > 1 for d in both[at])]
    for name, side, marks in zip(held, (left, right), kept, strict=True):
        for d, label in enumerate(side):
            if name and label in out and (ids := flow.along([m for m in marks if m.shape[d] > 1], d)) is not None:
                flow.ledger.own(name, d, "producer", ids)
    inputs = []
    for one, side, marks in zip(operands, (left, right), kept, strict=True):
        inputs.append((_ordered(flow.value(one), side, out), [_ordered(m, side, out) for m in marks]))
    return flow.merge(inputs, value.shape)


def _labels(equation: Any, ranks: list[int]) -> tuple[str, ...] | None:
    """The labels of each operand and of the result, "..." spelled out; None for what is not plain."""
    sides = equation.replace(" ", "").partition("->") if isinstance(equation, str) else ("", "", "")
    terms = [*sides[0].split(","), sides[2]]
    if not sides[1] or len(terms) != len(ranks) + 1:
        return None
    spare = [c for c in "ZYXWVUTSRQ" if c not in equation]
    free = max(
        rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in zip(terms, ranks, strict=False)
    )
    full = "".join(spare[:free])
    out = []
    for term, rank in zip(terms, [*ranks, None], strict=True):
        size = free if rank is None else rank - len(term.replace("...", ""))
        out.append(term.replace("...", full[free - size :] if size else ""))
    return tuple(out) if all(len(set(term)) == len(term) for term in out) else None


def _owned(flow: Flow, argument: Any) -> str:
    """The name of a parameter with several dims, or nothing."""
    held = (
        isinstance(argument, fx.Node)
        and argument.op == "get_attr"
        and isinstance(flow.value(argument), torch.nn.Parameter)
    )
    return str(argument.target) if held and flow.value(argument).ndim > 1 else ""


def _read(flow: Flow, ids: list[Tensor | None], readers: list[tuple[str, int]]) -> None:
    """A contracted dim of an activation and a parameter: the same units, which the parameter reads."""
    first, second = ids
    if first is not None and second is not None:
        flow.ledger.unite(first, second)
        for name, dim in readers:
            flow.ledger.own(name, dim, "consumer", first)
        return
    for one in ids:
        if one is not None:
            flow.ledger.block(one, STAY)


def _ordered(tensor: Tensor, labels: str, out: str) -> Tensor:
    """With the dims of the result, in its order; contracted ones are gone, those of other operands have size 1."""
    for d in reversed(range(len(labels))):
        if labels[d] not in out:
            tensor = tensor.select(d, 0)
    present = [label for label in labels if label in out]
    tensor = tensor.permute([present.index(label) for label in out if label in present])
    for d, label in enumerate(out):
        if label not in present:
            tensor = tensor.unsqueeze(d)
    return tensor
