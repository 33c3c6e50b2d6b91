"""A product and what follows it as one operation of a CPU: bias, activation, residual sum in one pass through memory.

By oneDNN's own operators, the ones that torch.compile calls. They take weights as they lie there, so that a drag may swap them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from . import attention
from .expand import folded, folding

Fetch = Callable[[str], Any]
Then = tuple[str, str]  # what follows a product, as oneDNN calls it, and by which algorithm

NOTHING: Then = ("none", "")
FINITE = "holds numbers alone"
PLAIN: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "swish": F.silu,
}
CALLS: dict[Any, str] = {
    **dict.fromkeys((torch.relu, F.relu, "relu", nn.ReLU), "relu"),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid", nn.Sigmoid), "sigmoid"),
    **dict.fromkeys((torch.tanh, F.tanh, "tanh", nn.Tanh), "tanh"),
    **dict.fromkeys((F.silu, nn.SiLU), "swish"),
    **dict.fromkeys((F.gelu, nn.GELU), "gelu"),
}
ADDING = (operator.add, torch.add)
DTYPES = (torch.float32, torch.bfloat16)
OPERATORS = ("_linear_pointwise", "_convolution_pointwise")


def available(device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether products have such operators here: oneDNN's, on a CPU, for float32 and for the half precision that it has instructions for."""
    there = device.type == "cpu" and torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    return there and (dtype in (None, torch.float32) or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def _serves(x: Tensor, *more: Tensor | None) -> bool:
    """Whether oneDNN takes these: all of one of its types on a CPU, of which no gradient is asked."""
    graded = torch.is_grad_enabled()
    return bool(torch.backends.mkldnn.enabled) and x.dtype in DTYPES and all(
        one is None or (one.dtype is x.dtype and one.is_cpu and not (graded and one.requires_grad))
        for one in (x, *more)
    )


def _finite(then: Then, *values: Tensor | None) -> bool:
    """Whether an activation behind the product may be oneDNN's: of what is no number its ReLU makes a zero, which would hide it.

    What was looked at is not looked at again: a residual block's input enters its sum, too.
    """
    for one in values if then != NOTHING else ():
        if one is not None and FINITE not in one.__dict__:
            if not math.isfinite(one.sum().item()):
                return False
            one.__dict__[FINITE] = True
    return True


def _plainly(x: Tensor, other: Tensor | None, then: Then) -> Tensor:
    """What follows a product, by torch's own operations."""
    x = x if other is None else x + other
    if then[0] == "gelu":
        return F.gelu(x, approximate=then[1])
    return x if then == NOTHING else PLAIN[then[0]](x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, then: Then) -> Tensor:
    """x weight^T + bias, plus ``other`` or with ``then`` applied. x: [..., in]; weight: [out, in]; other: [..., out]."""
    served = _serves(x, weight, bias, other) and _finite(then, x)
    if not served or (other is not None and other.shape != (*x.shape[:-1], len(weight))):
        return _plainly(F.linear(x, weight, bias), other, then)
    run = torch.ops.mkldnn._linear_pointwise
    if other is not None:
        return run.binary(x, other, weight, bias, "add")  # type: ignore[no-any-return]
    return run.default(x, weight, bias, then[0], [], then[1])  # type: ignore[no-any-return]


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm: Sequence[Any] | None, conv: Sequence[Any], other: Tensor | None, then: Then
) -> Tensor:  # fmt: skip
    """A convolution in two dimensions, plus ``other``, with ``then`` applied. norm: of the BatchNorm behind it, as in :func:`folded`."""
    if norm is not None:
        weight, bias = folding(weight, bias, norm)
    served = x.ndim == 4 and _serves(x, weight, bias, other) and _finite(then, x, other)
    if not served or (other is not None and other.shape != _shape(x, weight, conv)):
        return _plainly(F.conv2d(x, weight, bias, *conv), other, then)
    run, where = torch.ops.mkldnn._convolution_pointwise, (conv[1], conv[0], conv[2], conv[3])
    if other is None:
        return run.default(x, weight, bias, *where, then[0], [], then[1])  # type: ignore[no-any-return]
    if x.dtype is not torch.float32 or then == NOTHING:  # of half precision, some sizes have no operator for all three
        return _plainly(run.binary(x, other, weight, bias, *where, "add", 1.0, None, [], None), None, then)
    return run.binary(x, other, weight, bias, *where, "add", 1.0, then[0], [], then[1])  # type: ignore[no-any-return]


def _shape(x: Tensor, weight: Tensor, conv: Sequence[Any]) -> tuple[int, ...]:
    """Of what a convolution gives."""
    stride, padding, dilation, _ = conv
    sizes = [
        (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]
    return (len(x), len(weight), *sizes)


def fuse(graph: fx.Graph, fetch: Fetch) -> bool:
    """Replace each product and what follows it by one node, and attention of few tokens by ours; whether there was any.

    What something else reads stays a node of its own. So does a sum whose other operand depends on weights that the product does not
    depend on: a change of these would run the product again.
    """
    reads, found = _upstream(graph, fetch), attention.lay(graph)
    for node in list(graph.nodes):
        product = _product(node, fetch)
        if product is None or not _numbers(node, fetch):
            continue
        run, operands, chain = product[0], product[1], [node]
        other, then, after = None, NOTHING, _reader(node)
        if after is not None and (beside := _beside(after, node)) is not None:
            if not reads[beside] <= reads[node]:
                continue
            chain.append(after)
            other, after = beside, _reader(after)
        if (
            after is not None
            and (other is None or run is convolution)
            and (act := _activation(after, fetch)) is not None
        ):
            then = act
            chain.append(after)
        last = chain[-1]
        if last is node and (run is convolution or any(user.op == "output" for user in node.users)):
            continue  # nothing to spare: the product's own operation is as good
        with graph.inserting_before(last):
            new = graph.call_function(run, (*operands(), other, then))
        reads[new], found = reads[last], True
        last.replace_all_uses_with(new)
        for old in reversed(chain):
            graph.erase_node(old)
    return found


def _numbers(node: fx.Node, fetch: Fetch) -> bool:
    """Whether the weights of a product are finite, as those that a plan makes of them will be."""
    read = [one for one in node.all_input_nodes if one.op == "get_attr"]
    given = fetch(str(node.target)).parameters() if node.op == "call_module" else (fetch(str(one.target)) for one in read)
    return all(bool(one.isfinite().all()) for one in given)


def _upstream(graph: fx.Graph, fetch: Fetch) -> dict[fx.Node, frozenset[Any]]:
    """{node: ids of the parameters and buffers that its value depends on}."""
    found: dict[fx.Node, frozenset[Any]] = {}
    for node in graph.nodes:
        own: frozenset[Any] = frozenset()
        if node.op == "call_module":
            module = fetch(str(node.target))
            own = frozenset(map(id, (*module.parameters(), *module.buffers())))
        elif node.op == "get_attr":
            own = frozenset({id(fetch(str(node.target)))})
        found[node] = own.union(*(found[a] for a in node.all_input_nodes))
    return found


def _reader(node: fx.Node) -> fx.Node | None:
    """The only node that reads a value."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _beside(node: fx.Node, value: fx.Node) -> fx.Node | None:
    """What a node adds to a value."""
    if node.op != "call_function" or node.target not in ADDING or len(node.args) != 2 or node.kwargs:
        return None
    one, two = node.args
    other = two if one is value else one
    return other if isinstance(other, fx.Node) and other is not value else None


def _activation(node: fx.Node, fetch: Fetch) -> Then | None:
    """What a node applies to its only input, where there is an operator that does it behind a product."""
    if len(node.args) != 1 or set(node.kwargs) - {"inplace", "approximate"}:
        return None
    module = fetch(str(node.target)) if node.op == "call_module" else None
    if module is not None and (module._forward_hooks or module._forward_pre_hooks):
        return None
    name = CALLS.get(node.target if module is None else type(module)) if node.op.startswith("call_") else None
    if name == "gelu":
        return name, module.approximate if module is not None else str(node.kwargs.get("approximate", "none"))
    return None if name is None else (name, "")


def _product(node: fx.Node, fetch: Fetch) -> tuple[Callable[..., Tensor], Callable[[], Iterator[Any]]] | None:
    """(what computes it, its operands as nodes of the graph) of a linear layer or of a convolution in two dimensions."""
    if node.op == "call_function" and node.target is folded:
        fits = len(node.args[4][0]) == 2 and not isinstance(node.args[4][1], str)  # type: ignore[index, arg-type]
        return (convolution, lambda: iter(node.args)) if fits else None
    module = fetch(str(node.target)) if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
    if type(module) not in (nn.Linear, nn.Conv2d) or module._forward_hooks or module._forward_pre_hooks:  # type: ignore[union-attr]
        return None
    one: Any = module
    if isinstance(one, nn.Conv2d) and (one.padding_mode != "zeros" or isinstance(one.padding, str)):
        return None

    def operands() -> Iterator[Any]:
        yield node.args[0]
        yield node.graph.get_attr(f"{node.target}.weight")
        yield node.graph.get_attr(f"{node.target}.bias") if one.bias is not None else None
        if isinstance(one, nn.Conv2d):
            yield None
            yield [one.stride, one.padding, one.dilation, one.groups]

    return convolution if isinstance(one, nn.Conv2d) else linear, operands
