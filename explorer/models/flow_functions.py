"""How functions and tensor methods pass units on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from ..core.message import Message, say
from .ledger import FIXED, compact

if TYPE_CHECKING:
    from .flow import Flow, Marks

ELEMENTWISE = frozenset(
    "relu relu_ relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid softplus softsign "
    "logsigmoid dropout alpha_dropout feature_dropout dropout1d dropout2d dropout3d abs neg exp log log1p sqrt rsqrt square "
    "sin cos erf clamp clamp_min clamp_max round floor ceil sign reciprocal pow add sub mul div truediv floordiv iadd imul isub "
    "itruediv radd rmul rsub add_ mul_ sub_ div_ maximum minimum where masked_fill masked_fill_ lerp addcmul eq ne lt le gt ge "
    "logical_and logical_or logical_not and_ or_ invert contiguous clone detach to float double half bfloat16 type_as type "
    "long int bool nan_to_num tril triu zeros_like ones_like".split()
)
MOVEMENT = frozenset(
    "view reshape flatten unflatten permute transpose t movedim moveaxis swapaxes squeeze unsqueeze expand select narrow getitem "
    "chunk split split_with_sizes tensor_split unbind roll flip repeat repeat_interleave gather index_select take_along_dim "
    "slice pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle rot90 diagonal unfold".split()
)
POOLS = frozenset(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool1d lp_pool2d interpolate upsample".split()
)
REDUCTIONS = frozenset("sum mean amax amin prod std var norm logsumexp any all".split())
SOFT = frozenset("softmax log_softmax softmin normalize".split())
SIZES = frozenset("sym_size _assert_tensor_metadata new_zeros new_ones new_full new_empty size dim numel ndimension is_floating_point device shape len".split())
PRODUCTS = frozenset("matmul bmm baddbmm mm".split())


def rule(target: Any) -> Callable[..., Any] | None:
    """The rule of a function or method, or None where it is not understood."""
    from . import flow_conv, flow_norms, flow_products, flow_recurrent

    name = name_of(target)
    if name in ELEMENTWISE:
        return elementwise
    if name in MOVEMENT:
        return movement
    if name in POOLS:
        return positional
    if name in REDUCTIONS:
        return reduction
    if name in SOFT:
        return soft
    if name in SIZES:
        return lambda flow, node, value: []
    if name in PRODUCTS:
        return flow_products.product
    if name in flow_conv.FUNCTIONS:
        return flow_conv.function
    more: dict[str, Callable[..., Any]] = {
        "stack": stack, "max": extreme, "min": extreme, "scaled_dot_product_attention": flow_products.attention, "linear": flow_products.linear,
        "einsum": flow_products.einsum, "addmm": flow_products.addmm, "glu": glu, "pad": pad, "cumsum": along_dim, "cumprod": along_dim,
        "batch_norm": flow_norms.channels, "instance_norm": flow_norms.channels, "prelu": flow_norms.channels,
        "layer_norm": flow_norms.statistics, "rms_norm": flow_norms.statistics, "group_norm": flow_norms.statistics, "getattr": flow_recurrent.attribute,
        "pack_padded_sequence": flow_recurrent.pack, "pad_packed_sequence": flow_recurrent.pad, "PackedSequence": flow_recurrent.packed, "on_data": on_data,
        "_pack_padded_sequence": lambda *given: (flow_recurrent.pack(*given), []), "_pad_packed_sequence": flow_recurrent.pad,
    }  # fmt: skip
    return more.get(name, concat if name in ("cat", "concat", "concatenate") else None)


def name_of(target: Any) -> str:
    """What a function or method is called; of ATen's operators, as programs hold them, without the overload."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.partition("::")[2]
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


def _tensors(node: fx.Node) -> list[Any]:
    return [a for a in [*node.args, *node.kwargs.values()] if isinstance(a, fx.Node)]


def elementwise(flow: Flow, node: fx.Node, value: Any) -> Marks:
    if not isinstance(value, Tensor):
        return []
    return flow.merge([(flow.value(a), flow.of(a)) for a in _tensors(node)], value.shape)


def movement(flow: Flow, node: fx.Node, value: Any) -> Any:
    source = node.args[0]
    held = flow.marks.get(source, []) if isinstance(source, fx.Node) else []
    if isinstance(held, tuple):  # an item of what a module or a split returned
        item = flow.value(node.args[1])
        return held[item] if isinstance(item, int) else held[item] if isinstance(item, slice) else []
    before = flow.value(source)
    if not isinstance(before, Tensor) or not held:
        return []
    rest, kwargs, name = flow.value(node.args[1:]), flow.value(node.kwargs), _name(node)

    def run(marks: Tensor) -> Any:
        if isinstance(node.target, str):
            return getattr(marks, node.target)(*rest, **kwargs)
        return node.target(marks, *rest, **kwargs)  # type: ignore[operator]

    if name in ("chunk", "tensor_split", "split"):
        even(flow, before, held, value, node)
    found = flow.moved(before, held, run)
    if "channel_shuffle" in name:
        even_groups(flow, before, held, int(rest[0] if rest else kwargs["groups"]))
    elif isinstance(value, Tensor) and _shuffles(node, before, value):
        even_groups(flow, before, held, value.shape[1])
    return found


def even(flow: Flow, before: Tensor, marks: Marks, value: Any, node: fx.Node) -> None:
    """Parts of one size stay so: what stands at the same position of each of them goes together."""
    found = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0)
    dim = int(flow.value(found)) % before.ndim
    if len({part.shape[dim] for part in value}) == 1:
        for mark in marks:
            if mark.shape[dim] > 1:
                parts = mark.unflatten(dim, (len(value), -1))
                flow.ledger.unite(parts.narrow(dim, 0, 1), parts)


def even_groups(flow: Flow, before: Tensor, marks: Marks, groups: int) -> None:
    """Groups of channels that are shuffled stay equally wide."""
    for mark in marks:
        if before.ndim > 1 and mark.shape[1] > 1:
            parts = mark.unflatten(1, (groups, -1))
            flow.ledger.unite(parts.narrow(1, 0, 1), parts)


def _shuffles(node: fx.Node, before: Tensor, value: Tensor) -> bool:
    """Whether a view is the first step of ``view(n, g, c // g, ...).transpose(1, 2).reshape(n, c, ...)``."""
    if _name(node) not in ("view", "reshape") or value.ndim != before.ndim + 1 or value.shape[1] * value.shape[2] != before.shape[1]:
        return False
    turned = _only_user(node)
    if turned is None or _name(turned) not in ("transpose", "swapaxes") or turned.args[1:] not in ((1, 2), (2, 1)):
        return False
    last = _only_user(turned)
    if last is not None and _name(last) == "contiguous":
        last = _only_user(last)
    return last is not None and _name(last) in ("view", "reshape", "flatten")


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def positional(flow: Flow, node: fx.Node, value: Any) -> Any:
    """Dims keep their place; those whose size changed, or along which is pooled, must carry no unit."""
    source = node.args[0]
    before, marks = flow.value(source), flow.of(source)
    out = value[0] if isinstance(value, tuple) else value
    if not isinstance(out, Tensor) or not isinstance(before, Tensor):
        return []
    kept = keep_place(flow, before, marks, out, _name(node))
    return (kept, []) if isinstance(value, tuple) else kept


def pad(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """Dims keep their place; along those that grow there must be no unit."""
    before, marks = flow.value(node.args[0]), flow.of(node.args[0])
    changed = [d for d in range(before.ndim) if before.shape[d] != value.shape[d]]
    return flow.without(marks, changed, say("its units pass through {name}", name="pad"))


def along_dim(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """cumsum and cumprod run along one dim."""
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else -1)
    return flow.without(flow.of(node.args[0]), [int(flow.value(found))], _over(node))


def glu(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    """The first half times a gate from the second: what stands at the same position of each goes together."""
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else -1)
    return halves(flow, flow.of(node.args[0]), int(flow.value(found)) % value.ndim)


def halves(flow: Flow, marks: Marks, dim: int) -> Marks:
    out = []
    for mark in marks:
        if mark.shape[dim] > 1:
            first, second = mark.chunk(2, dim)
            flow.ledger.unite(first, second)
            mark = first
        out.append(mark)
    return out


def keep_place(flow: Flow, before: Tensor, marks: Marks, after: Tensor, name: str) -> Marks:
    spatial = range(2, before.ndim) if before.ndim > 2 else [before.ndim - 1]
    changed = [d for d in range(before.ndim) if before.shape[d] != after.shape[d]]
    return flow.without(marks, sorted({*spatial, *changed}), say("its units pass through {name}", name=name))


def _dims(node: fx.Node, flow: Flow, rank: int) -> list[int]:
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    found = flow.value(found)
    if found is None or isinstance(found, (float, str, torch.dtype)):
        return list(range(rank))
    return [found % rank] if isinstance(found, int) else [d % rank for d in found]


def reduction(flow: Flow, node: fx.Node, value: Any) -> Marks:
    source = node.args[0]
    before = flow.value(source)
    if not isinstance(before, Tensor) or not isinstance(value, Tensor):
        return []
    squeeze = value.ndim < before.ndim
    return flow.without(flow.of(source), _dims(node, flow, before.ndim), _over(node), squeeze)


def extreme(flow: Flow, node: fx.Node, value: Any) -> Any:
    """max and min: over a dim they return values and indices, of two tensors the larger or smaller ones."""
    before = flow.value(node.args[0])
    if len(node.args) > 1 and isinstance(flow.value(node.args[1]), Tensor):
        return elementwise(flow, node, value)
    if isinstance(value, Tensor):  # over everything
        return flow.without(flow.of(node.args[0]), range(before.ndim), _over(node), True)
    dims, squeeze = _dims(node, flow, before.ndim), value[0].ndim < before.ndim
    kept = flow.without(flow.of(node.args[0]), dims, _over(node), squeeze)
    return (kept, kept)


def _name(node: fx.Node) -> str:
    return name_of(node.target)


def _over(node: fx.Node) -> Message:
    return say("{name} runs over its units", name=_name(node))


def soft(flow: Flow, node: fx.Node, value: Any) -> Marks:
    source = node.args[0]
    before = flow.value(source)
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else -1)
    dim = found if isinstance(found, int) else -1
    return flow.without(flow.of(source), [dim], _over(node)) if isinstance(before, Tensor) else []


def on_data(flow: Flow, node: fx.Node, value: Any) -> Marks:
    """Where a recorded forward leaves torch: nobody sees what Python does with a value."""
    flow.block([flow.of(a) for a in _tensors(node)], say("the forward makes Python values of them, or branches on them"))
    return []


def _parts(flow: Flow, node: fx.Node) -> list[tuple[Tensor, Marks]]:
    """(value, marks) of a list of tensors, or of what a split returned."""
    given = node.args[0] if node.args else next(iter(node.kwargs.values()))
    if isinstance(given, fx.Node):
        held = flow.marks.get(given)
        return list(zip(flow.value(given), held if isinstance(held, tuple) else [[]] * len(flow.value(given)), strict=True))
    return [(flow.value(one), flow.of(one)) for one in given]  # type: ignore[union-attr]


def concat(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return join(flow, _parts(flow, node), int(flow.value(found)) % value.ndim, value)


def stack(flow: Flow, node: fx.Node, value: Tensor) -> Marks:
    found = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    dim = int(flow.value(found)) % value.ndim
    lifted = [(v.unsqueeze(dim), [m.unsqueeze(dim) for m in marks]) for v, marks in _parts(flow, node)]
    return join(flow, lifted, dim, value)


def join(flow: Flow, inputs: list[tuple[Tensor, Marks]], dim: int, value: Tensor) -> Marks:
    """Concatenation: units along ``dim`` stand one after the other, those along other dims meet."""
    across = [(v.narrow(dim, 0, 1), [m for m in marks if m.shape[dim] == 1]) for v, marks in inputs]
    out = flow.merge(across, [1 if d == dim else size for d, size in enumerate(value.shape)])
    if any(m.shape[dim] > 1 for _, marks in inputs for m in marks):
        pieces = []
        for v, marks in inputs:
            mine = next((m for m in marks if m.shape[dim] > 1), torch.full((1,) * v.ndim, FIXED))
            pieces.append(mine.expand(v.shape))
        joined = compact(torch.cat(pieces, dim))
        out += [joined] if joined is not None else []
    return out
