"""A classifier's last layers with values that lie feature by feature: few outputs of many samples are several times faster to compute
and to look at that way round. The same values by the same products; only where they lie in memory differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

FEW = 64  # outputs of a last layer, at most
DTYPES = (torch.float32, torch.bfloat16)
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Identity, nn.Dropout)
FUNCTIONS = (torch.relu, torch.tanh, torch.sigmoid, nn.functional.relu, nn.functional.gelu, nn.functional.silu)

Fetch = Callable[[str], Any]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, lying column by column where x is a matrix of float32 or bfloat16 on a CPU. x: [..., in]; weight: [out, in]."""
    if x.ndim != 2 or not x.is_cpu or x.dtype not in DTYPES or weight.dtype is not x.dtype:
        return nn.functional.linear(x, weight, bias)
    columns = x.t()
    return (torch.mm(weight, columns) if bias is None else torch.addmm(bias[:, None], weight, columns)).t()


def lies_so(x: Tensor) -> bool:
    """Whether a matrix lies column by column, and so as no other layout can be told."""
    return x.ndim == 2 and x.stride(0) == 1 and x.stride(1) >= len(x) > 1 < x.shape[1]


def put_together(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts, lying as these do."""
    return torch.cat([one.t() for one in parts], 1).t() if all(map(lies_so, parts)) else torch.cat(list(parts))


def lay(graph: fx.Graph, fetch: Fetch) -> bool:
    """Let the linear layer that gives a graph's output compute column by column, and in float32 those right in front of it; whether there
    was one. In half precision many outputs are faster row by row."""
    node: Any = next(iter(reversed(graph.nodes))).args[0]
    last = _linear(node, fetch) if isinstance(node, fx.Node) else None
    if last is None or not 1 < last.out_features <= FEW:
        return False
    chain = [node]
    while last.weight.dtype is torch.float32 and _linear(node := _before(node, fetch), fetch) is not None and len(node.users) == 1:
        chain.append(node)
    for node in chain:
        with graph.inserting_before(node):
            bias = graph.get_attr(f"{node.target}.bias") if fetch(str(node.target)).bias is not None else None
            new = graph.call_function(linear, (node.args[0], graph.get_attr(f"{node.target}.weight"), bias))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    return True


def _linear(node: fx.Node, fetch: Fetch) -> nn.Linear | None:
    """The linear layer that a node runs, where nobody looks at it."""
    module = fetch(str(node.target)) if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
    watched = module is not None and (module._forward_hooks or module._forward_pre_hooks)
    return module if type(module) is nn.Linear and not watched else None


def _before(node: fx.Node, fetch: Fetch) -> Any:
    """What gives a node's input, in front of what is done to each value by itself and read by nothing else."""
    before: Any = node.args[0]
    while len(before.users) == 1 and before.args and isinstance(before.args[0], fx.Node):
        module = fetch(str(before.target)) if before.op == "call_module" else None
        if before.target not in FUNCTIONS and type(module) not in ELEMENTWISE:
            break
        before = before.args[0]
    return before
