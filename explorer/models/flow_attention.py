"""How nn.MultiheadAttention and the Transformer layer built on it pass units on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from ..core.message import say
from .attention import PrunedAttention, PrunedEncoderLayer
from .norms import NORM

if TYPE_CHECKING:
    from .flow import Flow, Marks

ATTENTION = (nn.MultiheadAttention, PrunedAttention)
ENCODER_LAYER, ENCODER = nn.TransformerEncoderLayer, nn.TransformerEncoder


def fresh(flow: Flow, name: str, n: int) -> Tensor:
    """Units of a module; the same ones each time it is called."""
    if name not in flow.states:
        flow.states[name] = flow.ledger.fresh(n)
    found: Tensor = flow.states[name]
    return found


def own(flow: Flow, name: str, module: nn.Module, tensor: str, dim: int, role: str, ids: Tensor | None) -> None:
    if ids is not None and getattr(module, tensor, None) is not None:
        flow.ledger.own(f"{name}.{tensor}" if name else tensor, dim, role, ids)


def heads(flow: Flow, name: str, module: Any) -> Tensor:
    """The heads [num_heads]: rows k * head_dim + i of queries, keys and values, columns of out_proj."""
    units = fresh(flow, f"{name}/heads", module.num_heads)
    rows = units.repeat_interleave(module.head_dim)
    own(flow, name, module, "in_proj_weight", 0, "producer", rows.repeat(3))
    for tensor in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        own(flow, name, module, tensor, 0, "producer", rows)
    own(flow, name, module, "in_proj_bias", 0, "follower", rows.repeat(3))
    own(flow, f"{name}.out_proj" if name else "out_proj", module.out_proj, "weight", 1, "consumer", rows)
    if module.bias_k is not None or module.bias_v is not None or module.add_zero_attn:
        flow.ledger.block(units, say("{name} adds keys and values of its own (add_bias_kv, add_zero_attn)", name=name))
    return units


def norm(flow: Flow, name: str, module: nn.Module, ids: Tensor | None) -> None:
    """A module that normalizes over units: its statistics are those of the units that stay."""
    own(flow, name, module, "weight", 0, "follower", ids)
    own(flow, name, module, "bias", 0, "follower", ids)
    if ids is not None:
        flow.ledger.own(name, NORM, "norm", ids)


def _named(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _weights_used(node: fx.Node) -> bool:
    """Whether anybody reads the second value that an attention returns."""
    for user in node.users:
        item = user.args[1] if user.op == "call_function" and getattr(user.target, "__name__", "") == "getitem" else None
        if item != 0 and not (item == 1 and not user.users):
            return True
    return False


def _masks(flow: Flow, masks: tuple[Any, ...], units: Tensor, name: str) -> None:
    for mask in masks:
        flow.block(flow.of(mask), say("its units mask attention"))
        value = flow.value(mask)
        if isinstance(value, Tensor) and value.ndim == 3:
            flow.ledger.block(units, say("{name} is given a mask for each head", name=name))


def attention(flow: Flow, name: str, module: Any, node: fx.Node, value: Any) -> Any:
    """Heads are units of their own; the widths that go in are read by the projections, out_proj's rows come out."""
    named = _named(node, ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"))
    units = heads(flow, name, module)
    _masks(flow, (named.get("attn_mask"), named.get("key_padding_mask")), units, name)
    if value[1] is not None and _weights_used(node):
        flow.ledger.block(
            units, say("the attention weights of {name}, which run over all its heads, are used", name=name)
        )
    reason = say("its units pass through {name} ({type})", name=name, type=type(module).__name__)
    given = []
    for argument in (named["query"], named["key"], named["value"]):
        marks = flow.of(argument)
        flow.block([m for m in marks if m.shape[-1] == 1], reason)  # positions attend to each other
        given.append(flow.along(marks, -1))
    if module.in_proj_weight is None:
        for tensor, ids in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), given, strict=True):
            own(flow, name, module, tensor, 1, "consumer", ids)
    elif any(ids is None for ids in given):  # one weight reads all three: its columns go for all or for none
        flow.block([[ids for ids in given if ids is not None]], reason)
    else:
        for ids in given:
            own(flow, name, module, "in_proj_weight", 1, "consumer", ids)
    outputs = fresh(flow, f"{name}/outputs", len(module.out_proj.weight))
    path = f"{name}.out_proj" if name else "out_proj"
    own(flow, path, module.out_proj, "weight", 0, "producer", outputs)
    own(flow, path, module.out_proj, "bias", 0, "follower", outputs)
    return ([outputs.view((1,) * (value[0].ndim - 1) + (-1,))], [])


def encoder_layer(flow: Flow, name: str, module: nn.TransformerEncoderLayer, node: fx.Node, value: Any) -> Marks:
    """Heads and feed-forward units inside; the width that comes in, is added to, normalized over and goes out."""
    width = _width(flow, name, node)
    _layer(flow, name, module, _named(node, ("src", "src_mask", "src_key_padding_mask")), width)
    return [] if width is None else [width.view((1,) * (value.ndim - 1) + (-1,))]


def encoder(flow: Flow, name: str, module: nn.TransformerEncoder, node: fx.Node, value: Any) -> Marks:
    """Its layers, one after the other: one width, heads and feed-forward units of each."""
    last = module.norm
    plain = last is None or isinstance(last, (nn.LayerNorm, nn.RMSNorm)) and len(last.normalized_shape) == 1
    if not plain or any(type(layer) not in (ENCODER_LAYER, PrunedEncoderLayer) for layer in module.layers):
        flow._block_inputs(
            node, say("its units pass through {name} (TransformerEncoder with parts of its own)", name=name)
        )
        return []
    width = _width(flow, name, node)
    named = _named(node, ("src", "src_mask", "src_key_padding_mask"))
    named["src_mask"] = named.get("mask", named.get("src_mask"))
    for i, layer in enumerate(module.layers):
        _layer(flow, f"{name}.layers.{i}" if name else f"layers.{i}", layer, named, width)
    if last is not None:
        norm(flow, f"{name}.norm" if name else "norm", last, width)
    return [] if width is None else [width.view((1,) * (value.ndim - 1) + (-1,))]


def _width(flow: Flow, name: str, node: fx.Node) -> Tensor | None:
    """Units along the last dim of what comes in; units along other dims cannot go."""
    marks = flow.of(node.args[0] if node.args else node.kwargs["src"])
    flow.block(
        [m for m in marks if m.shape[-1] == 1],
        say("its units pass through {name}, where positions attend to each other", name=name),
    )
    return flow.along(marks, -1)


def _layer(flow: Flow, name: str, module: Any, named: dict[str, Any], width: Tensor | None) -> None:
    """What the units of one encoder layer own."""
    prefix = f"{name}." if name else ""
    units = heads(flow, prefix + "self_attn", module.self_attn)
    _masks(flow, (named.get("src_mask"), named.get("src_key_padding_mask")), units, name)
    inner = fresh(flow, prefix + "linear1", module.linear1.out_features)
    own(flow, prefix + "linear1", module.linear1, "weight", 0, "producer", inner)
    own(flow, prefix + "linear1", module.linear1, "bias", 0, "follower", inner)
    own(flow, prefix + "linear2", module.linear2, "weight", 1, "consumer", inner)
    own(flow, prefix + "self_attn", module.self_attn, "in_proj_weight", 1, "consumer", width)
    own(flow, prefix + "linear1", module.linear1, "weight", 1, "consumer", width)
    for child, writer in (("self_attn.out_proj", module.self_attn.out_proj), ("linear2", module.linear2)):
        own(flow, prefix + child, writer, "weight", 0, "producer", width)
        own(flow, prefix + child, writer, "bias", 0, "follower", width)
    for child in ("norm1", "norm2"):
        norm(flow, prefix + child, getattr(module, child), width)
