"""What a rebuilding spec may name: modules, functions, methods. Nothing outside of these lists is ever looked up."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..core.errors import UnsupportedError
from ..core.message import say
from ..models.absent import Absent
from ..models.attention import PrunedAttention, PrunedEncoder, PrunedEncoderLayer
from ..models.quantized import QUANTIZED
from ..models.stack import RecurrentStack

_FUNCTIONS: Mapping[str, tuple[Any, str]] = {
    "operator": (operator, "add sub mul truediv floordiv mod pow neg matmul eq ne lt le gt ge and_ or_ invert getitem"),
    "torch": (
        torch,
        "abs add addmm all amax amin any arange argmax argmin baddbmm bmm cat channel_shuffle chunk clamp concat cos "
        "cosine_similarity cumsum diff div dot einsum eq erf exp expm1 eye flatten flip floor full full_like gather "
        "ge gt hstack index_select isnan le lerp linspace log log1p log_softmax logical_and logical_not logical_or "
        "logsumexp lt masked_fill matmul max maximum mean min minimum mm mul narrow ne neg norm ones ones_like outer "
        "permute pow prod reciprocal relu repeat_interleave reshape roll round rsqrt select sigmoid sign sin softmax "
        "split sqrt square squeeze stack std sub sum swapaxes tanh tensordot tile topk transpose tril triu unbind "
        "unflatten unsqueeze var vstack where zeros zeros_like",
    ),
    "functional": (
        nn.functional,
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d alpha_dropout avg_pool1d "
        "avg_pool2d avg_pool3d batch_norm celu conv1d conv2d conv3d conv_transpose1d conv_transpose2d dropout "
        "dropout1d dropout2d elu embedding gelu glu group_norm gumbel_softmax hardshrink hardsigmoid hardswish "
        "hardtanh instance_norm interpolate layer_norm leaky_relu linear log_softmax logsigmoid max_pool1d "
        "max_pool2d max_pool3d mish normalize one_hot pad pixel_shuffle prelu relu relu6 rms_norm rrelu "
        "scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign tanh tanhshrink "
        "threshold unfold fold",
    ),
    "builtins": (builtins, "len"),
    "rnn": (nn.utils.rnn, "pack_padded_sequence pad_packed_sequence"),
}
METHODS = frozenset(
    "abs add add_ all amax amin any argmax argmin bfloat16 bmm bool chunk clamp clamp_min clamp_max clone contiguous cos cpu "
    "cumsum detach diff dim div div_ double eq exp expand expand_as fill_ flatten flip float floor gather ge gt half "
    "index_select int le log log_softmax logical_and logical_not logical_or logsumexp long lt masked_fill "
    "masked_fill_ matmul max mean min mm mul mul_ narrow ndimension ne neg new_ones new_zeros norm numel permute pow "
    "prod relu relu_ repeat repeat_interleave reshape reshape_as roll round rsqrt select sigmoid sigmoid_ sign sin "
    "size softmax split sqrt square squeeze std sub sub_ sum swapaxes t tanh tanh_ tile to topk transpose tril triu "
    "type_as unbind unflatten unfold unsqueeze var view view_as where".split()
)
ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "T", "mT"})  # of a tensor, read by getattr

FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"{space}.{name}": getattr(owner, name)
    for space, (owner, names) in _FUNCTIONS.items()
    for name in names.split()
    if hasattr(owner, name)
}
NAMES = {function: name for name, function in reversed(FUNCTIONS.items())}


def _is(name: str) -> Callable[[Any], Any]:
    return lambda module: getattr(module, name) is not None


def _same(*names: str) -> dict[str, Callable[[Any], Any]]:
    return {name: operator.attrgetter(name) for name in names}


_CONV = _same("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_CONV_T = _CONV | _same("output_padding")
_NORM = _same("num_features", "eps", "momentum", "affine", "track_running_stats")
_GATES = _same("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_STACK = _same("mode", "input_size", "hidden_sizes", "bias", "batch_first", "dropout", "bidirectional") | _same(
    "nonlinearity", "proj_sizes"
)
_POOL = _same("kernel_size", "stride", "padding", "ceil_mode")
_MAX = _POOL | _same("dilation", "return_indices")
_AVG = _POOL | _same("count_include_pad")
_BIAS = {"bias": _is("bias")}
_ATTENTION = _same("embed_dim", "num_heads", "dropout", "add_zero_attn", "kdim", "vdim", "batch_first") | {
    "bias": _is("in_proj_bias"),
    "add_bias_kv": _is("bias_k"),
}


def _activation(module: Any) -> str:
    found = {nn.functional.relu: "relu", nn.functional.gelu: "gelu"}.get(module.activation)
    if found is None:
        raise UnsupportedError(
            say("its activation is {activation!r}, neither relu nor gelu", activation=module.activation)
        )
    return found


def _width(module: Any) -> int:
    """The width of an encoder layer: that of a norm, since either branch may be gone, and its norm with it."""
    for norm in (module.norm1, module.norm2):
        if not isinstance(norm, Absent):
            return int(norm.normalized_shape[0])
    return int(module.self_attn.embed_dim)


def _has_bias(module: Any) -> bool:
    held = [one for one in (module.linear1, module.norm1, module.norm2) if not isinstance(one, Absent)]
    return not held or held[0].bias is not None


_ENCODER_LAYER: dict[str, Callable[[Any], Any]] = {
    "d_model": _width,
    "dim_feedforward": operator.attrgetter("linear1.out_features"),
    "dropout": operator.attrgetter("dropout.p"),
    "activation": _activation,
    "layer_norm_eps": operator.attrgetter("norm1.eps"),
    "batch_first": operator.attrgetter("self_attn.batch_first"),
    "norm_first": operator.attrgetter("norm_first"),
    "bias": _has_bias,
}
_BRANCHES: dict[str, Callable[[Any], Any]] = {
    "attention": lambda module: not isinstance(module.self_attn, Absent),
    "feed_forward": lambda module: not isinstance(module.linear2, Absent),
}
_HEADS = _same("num_heads", "head_dim")
# module class -> {constructor argument: how to read it off an instance}; read after removal, so sizes are actual
MODULES: dict[type[nn.Module], Mapping[str, Callable[[Any], Any]]] = {
    **{cls: _CONV | _BIAS for cls in (nn.Conv1d, nn.Conv2d, nn.Conv3d)},
    **{cls: _CONV_T | _BIAS for cls in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)},
    nn.Linear: _same("in_features", "out_features") | _BIAS,
    nn.Bilinear: _same("in1_features", "in2_features", "out_features") | _BIAS,
    nn.Embedding: _same("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type")
    | _same("scale_grad_by_freq", "sparse"),
    **{cls: _NORM for cls in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)},
    **{cls: _NORM for cls in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)},
    nn.LayerNorm: _same("normalized_shape", "eps", "elementwise_affine") | _BIAS,
    nn.RMSNorm: _same("normalized_shape", "eps", "elementwise_affine"),
    nn.GroupNorm: _same("num_groups", "num_channels", "eps", "affine"),
    nn.LocalResponseNorm: _same("size", "alpha", "beta", "k"),
    nn.RNN: _GATES | _same("nonlinearity"),
    nn.LSTM: _GATES | _same("proj_size"),
    nn.GRU: _GATES,
    RecurrentStack: _STACK,
    nn.RNNCell: _same("input_size", "hidden_size", "bias", "nonlinearity"),
    nn.LSTMCell: _same("input_size", "hidden_size", "bias"),
    nn.GRUCell: _same("input_size", "hidden_size", "bias"),
    nn.MultiheadAttention: _ATTENTION,
    PrunedAttention: _HEADS
    | _same("query_dim", "embed_dim", "kdim", "vdim", "dropout", "batch_first")
    | {"bias": _is("in_proj_bias"), "fused": _is("in_proj_weight")},
    nn.TransformerEncoderLayer: _ENCODER_LAYER | {"nhead": operator.attrgetter("self_attn.num_heads")},
    PrunedEncoderLayer: _ENCODER_LAYER | _BRANCHES | {name: operator.attrgetter(f"self_attn.{name}") for name in _HEADS},
    PrunedEncoder: {
        "layers": lambda module: list(module.layers),
        "norm": operator.attrgetter("norm"),
        "enable_nested_tensor": operator.attrgetter("use_nested_tensor"),
    },
    nn.TransformerEncoder: {
        "encoder_layer": lambda module: module.layers[0],
        "num_layers": operator.attrgetter("num_layers"),
        "norm": operator.attrgetter("norm"),
        "enable_nested_tensor": operator.attrgetter("enable_nested_tensor"),
    },
    **{cls: _MAX for cls in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)},
    nn.AvgPool1d: _AVG,
    **{cls: _AVG | _same("divisor_override") for cls in (nn.AvgPool2d, nn.AvgPool3d)},
    **{cls: _same("output_size") for cls in (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)},
    **{
        cls: _same("output_size", "return_indices")
        for cls in (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
    },
    **{cls: _same("inplace") for cls in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.SELU)},
    **{cls: _same("p", "inplace") for cls in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)},
    **{cls: {} for cls in (nn.Identity, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.Softmax2d)},
    **{cls: _same("dim") for cls in (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU)},
    **{cls: _same("lambd") for cls in (nn.Softshrink, nn.Hardshrink)},
    **{cls: _same("alpha", "inplace") for cls in (nn.ELU, nn.CELU)},
    **{cls: _same("padding") for cls in (nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d)},
    **{cls: _same("padding", "value") for cls in (nn.ConstantPad1d, nn.ConstantPad2d)},
    nn.GELU: _same("approximate"),
    nn.LeakyReLU: _same("negative_slope", "inplace"),
    nn.Hardtanh: _same("min_val", "max_val", "inplace"),
    nn.Softplus: _same("beta", "threshold"),
    nn.Threshold: _same("threshold", "value", "inplace"),
    nn.PReLU: _same("num_parameters"),
    nn.Flatten: _same("start_dim", "end_dim"),
    nn.Unflatten: _same("dim", "unflattened_size"),
    nn.Upsample: _same("size", "scale_factor", "mode", "align_corners"),
    nn.PixelShuffle: _same("upscale_factor"),
    nn.PixelUnshuffle: _same("downscale_factor"),
    nn.ChannelShuffle: _same("groups"),
}
_INPUTS: dict[str, Callable[[Any], Any]] = _same("inputs")
MODULES |= {
    made: {**MODULES[cls], **_INPUTS} for cls, made in QUANTIZED.items() if cls in MODULES
}  # they round their inputs
BY_NAME = {cls.__name__: cls for cls in MODULES}
