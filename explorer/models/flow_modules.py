"""How modules pass units on, start new ones and end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from ..core.message import say
from .flow_attention import ATTENTION, ENCODER, ENCODER_LAYER, attention, encoder, encoder_layer, norm
from .flow_conv import convolution
from .flow_functions import halves, keep_place
from .flow_recurrent import CELLS, RECURRENT, cell, recurrent
from .layers import CONVOLUTIONS, TRANSPOSED

if TYPE_CHECKING:
    from .flow import Flow, Marks

SAME = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardtanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
    nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
POOLS = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._LPPoolNd, nn.Upsample, nn.ConstantPad1d, nn.ConstantPad2d,
    nn.ConstantPad3d, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd,
)  # fmt: skip
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def rule(module: nn.Module) -> Callable[..., Any] | None:
    """The rule of a module, or None where it is not understood."""
    for types, found in (
        (SAME, same), (nn.PReLU, prelu), (POOLS, pool), (CONVOLUTIONS, convolution), (TRANSPOSED, convolution), (nn.Linear, linear),
        (nn.Embedding, embedding), (BATCH_NORMS, batch_norm), (nn.LayerNorm, layer_norm), (nn.RMSNorm, layer_norm),
        (nn.GroupNorm, group_norm), (nn.GLU, glu),
        (nn.Flatten, moved), (nn.Unflatten, moved), (nn.PixelShuffle, moved), (nn.PixelUnshuffle, moved), (nn.ChannelShuffle, moved),
        ((nn.Softmax, nn.LogSoftmax), softmax),
        (RECURRENT, recurrent), (CELLS, cell), (ENCODER_LAYER, encoder_layer), (ENCODER, encoder), (ATTENTION, attention),
    ):  # fmt: skip
        if isinstance(module, types):
            return found
    return None


def _input(flow: Flow, node: fx.Node) -> tuple[Any, Marks]:
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    return flow.value(source), flow.of(source)


def _own(flow: Flow, name: str, module: nn.Module, tensor: str, dim: int, role: str, ids: Tensor | None) -> None:
    if ids is not None and getattr(module, tensor, None) is not None:
        flow.ledger.own(f"{name}.{tensor}" if name else tensor, dim, role, ids)


def _fresh(flow: Flow, name: str, n: int) -> Tensor:
    if name not in flow.states:
        flow.states[name] = flow.ledger.fresh(n)
    return flow.states[name]


def _placed(ids: Tensor, dim: int, rank: int) -> Tensor:
    shape = [1] * rank
    shape[dim] = -1
    return ids.view(shape)


def same(flow: Flow, name: str, module: nn.Module, node: fx.Node, value: Any) -> Marks:
    return _input(flow, node)[1]


def prelu(flow: Flow, name: str, module: nn.PReLU, node: fx.Node, value: Any) -> Marks:
    """One slope for all, or one a channel, which goes with it."""
    marks = _input(flow, node)[1]
    if module.num_parameters > 1:
        _own(flow, name, module, "weight", 0, "follower", flow.along(marks, 1))
    return marks


def pool(flow: Flow, name: str, module: nn.Module, node: fx.Node, value: Any) -> Any:
    before, marks = _input(flow, node)
    out = value[0] if isinstance(value, tuple) else value
    kept = keep_place(flow, before, marks, out, type(module).__name__)
    return (kept, []) if isinstance(value, tuple) else kept


def moved(flow: Flow, name: str, module: nn.Module, node: fx.Node, value: Any) -> Marks:
    before, marks = _input(flow, node)
    found: Marks = flow.moved(before, marks, module)
    return found


def glu(flow: Flow, name: str, module: nn.GLU, node: fx.Node, value: Any) -> Marks:
    return halves(flow, _input(flow, node)[1], module.dim % value.ndim)


def softmax(flow: Flow, name: str, module: Any, node: fx.Node, value: Any) -> Marks:
    return flow.without(
        _input(flow, node)[1], [module.dim if module.dim is not None else -1], say("softmax runs over its units")
    )


def linear(flow: Flow, name: str, module: nn.Linear, node: fx.Node, value: Tensor) -> Marks:
    before, marks = _input(flow, node)
    inputs = flow.along(marks, -1)
    _own(flow, name, module, "weight", 1, "consumer", inputs)
    outputs = _fresh(flow, name, module.out_features)
    _own(flow, name, module, "weight", 0, "producer", outputs)
    _own(flow, name, module, "bias", 0, "follower", outputs)
    return [*(m for m in marks if m.shape[-1] == 1), _placed(outputs, -1, value.ndim)]


def embedding(flow: Flow, name: str, module: nn.Embedding, node: fx.Node, value: Tensor) -> Marks:
    outputs = _fresh(flow, name, module.embedding_dim)
    _own(flow, name, module, "weight", 1, "producer", outputs)
    return [_placed(outputs, -1, value.ndim)]


def batch_norm(flow: Flow, name: str, module: Any, node: fx.Node, value: Tensor) -> Marks:
    marks = _input(flow, node)[1]
    ids = flow.along(marks, 1)
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        _own(flow, name, module, tensor, 0, "follower", ids)
    return marks


def layer_norm(flow: Flow, name: str, module: Any, node: fx.Node, value: Tensor) -> Marks:
    marks = _input(flow, node)[1]
    dims = range(-len(module.normalized_shape), 0)
    if len(dims) > 1:
        return flow.without(
            marks, dims, say("its units pass through {name} ({type})", name=name, type=type(module).__name__)
        )
    norm(flow, name, module, flow.along(marks, -1))
    return marks


def group_norm(flow: Flow, name: str, module: nn.GroupNorm, node: fx.Node, value: Tensor) -> Marks:
    """Channels; where there are several groups, all channels of a group go together."""
    marks = flow.without(
        _input(flow, node)[1], range(2, value.ndim), say("its units pass through {name} (GroupNorm)", name=name)
    )
    ids = flow.along(marks, 1)
    if ids is not None and module.num_groups > 1:
        for group in ids.view(module.num_groups, -1):
            flow.ledger.unite_all(group)
    norm(flow, name, module, ids)
    return marks
