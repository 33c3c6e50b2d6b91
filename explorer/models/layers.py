"""Which tensors of a module are layers, of which kind, in forward order."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..core.layers import Layer
from .attention import PrunedAttention
from .onnx_module import OnnxLayer
from .replica import share
from .stack import RecurrentStack
from .stored import dtype_name, stored_dtype
from .unwritten import Unwritten, WritesError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def kind_of(module: nn.Module, parameter: str) -> str | None:
    """The layer kind of one of a module's own parameters; None for norms."""
    if isinstance(module, NORMS):
        return None
    if isinstance(module, OnnxLayer):
        return module.kinds.get(parameter)
    if parameter.startswith("weight"):
        for types, kind in (
            (CONVOLUTIONS, "conv"),
            (TRANSPOSED, "conv_transpose"),
            ((nn.Linear, nn.Bilinear), "linear"),
            ((nn.LSTM, nn.LSTMCell), "lstm"),
            ((nn.GRU, nn.GRUCell), "gru"),
            ((nn.RNN, nn.RNNCell), "rnn"),
            ((nn.Embedding, nn.EmbeddingBag), "embedding"),
        ):
            if isinstance(module, types):
                return kind
        if isinstance(module, RecurrentStack):
            return module.mode.lower()
    if isinstance(module, (nn.MultiheadAttention, PrunedAttention)) and parameter.endswith("proj_weight"):
        return "attention"
    return "other"


def forward_order(module: nn.Module, run: Any) -> dict[str, int]:
    """FQN of each module -> rank of its first call while ``run(copy)`` is executed; {} if that fails. Since it is what runs first,
    it raises :class:`UnsupportedError` where the forward is about to write to a weight."""
    copied, order = share(module), {}  # type: ignore[var-annotated]
    hooks = []
    for name, child in copied.named_modules():

        def note(_: nn.Module, __: Any, name: str = name) -> None:
            order.setdefault(name, len(order))

        hooks.append(child.register_forward_pre_hook(note))
    try:
        with torch.no_grad(), Unwritten(copied):
            run(copied)
    except WritesError:
        raise
    except Exception:  # the task reports a failing forward by itself, with the sample at fault
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    return order


def find_layers(module: nn.Module, order: dict[str, int]) -> tuple[Layer, ...]:
    """Layers of ``module``: floating parameters of two or more dimensions with entries, except norms; tied ones once.

    Modules in the order of their first call; what is never called comes last, in the order of registration.
    """
    found: list[tuple[int, int, int, Layer]] = []
    seen = set()
    for position, (owner, child) in enumerate(module.named_modules()):
        for name, parameter in child.named_parameters(recurse=False):
            kind = kind_of(child, name)
            if kind is None or parameter.ndim < 2 or not parameter.numel() or not parameter.is_floating_point() or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full = f"{owner}.{name}" if owner else name
            dtype = stored_dtype(module, full, parameter)
            layer = Layer(full, kind, tuple(parameter.shape), parameter.numel(), None, dtype_name(dtype), 8 * dtype.itemsize)
            called = owner
            while called and called not in order:  # an attention's out_proj is never called: its parent is
                called = called.rpartition(".")[0]
            last = bool(owner) and not called  # below the root alone: nothing calls it
            found.append((len(order) if last else order.get(called, 0), position, len(found), layer))
    return tuple(layer for *_, layer in sorted(found, key=lambda item: item[:3]))
