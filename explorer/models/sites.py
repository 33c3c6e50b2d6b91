"""Where activations can be rounded: in front of which weights, and how the rounding gets there and away again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..core.message import say
from .attention import PrunedAttention
from .onnx_module import OnnxLayer
from .quantized import QuantizedInputs, quantized_class

ATTENTION = (nn.MultiheadAttention, PrunedAttention)
# attributes by which these take a fused kernel, which passes by the layers inside; 0 keeps them from it
FUSED: dict[type[nn.Module], str] = {
    nn.TransformerEncoderLayer: "activation_relu_or_gelu",
    nn.TransformerEncoder: "use_nested_tensor",
}


def refusal(module: nn.Module, name: str) -> str | None:
    """Why the input of the weight ``name`` cannot be rounded; None where it can, in one of the modules that hold it at least."""
    holders = _holders(module, name)
    reasons = [_refusal(module, owner, local) for owner, local in holders]
    return None if any(reason is None for reason in reasons) else reasons[0]


def _refusal(root: nn.Module, owner: str, local: str) -> str | None:
    module: Any = root.get_submodule(owner)
    kind = type(module).__name__
    if isinstance(module, OnnxLayer):
        return say("ONNX Runtime runs the file as a whole, so nothing is rounded between its nodes")
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return say("an embedding reads indices, which are no activation")
    if quantized_class(type(module)) is None or not local.startswith(
        ("weight", "in_proj", "q_proj", "k_proj", "v_proj")
    ):
        return say("what a {kind} multiplies by it cannot be told", kind=kind)
    parent: Any = root.get_submodule(owner.rpartition(".")[0]) if owner else None
    for one in (module, parent):
        if isinstance(one, nn.MultiheadAttention) and (one.bias_k is not None or one.add_zero_attn):
            return say("attention with added keys (add_bias_kv, add_zero_attn) is computed by torch's own function")
    if isinstance(parent, ATTENTION) and quantized_class(type(parent)) is None:
        return say("what a {kind} multiplies by it cannot be told", kind=type(parent).__name__)
    return None


def _holders(module: nn.Module, name: str) -> list[tuple[str, str]]:
    """(module FQN, name of the weight there) of every module that holds a parameter: tied ones have several."""
    parameter = module.get_parameter(name)
    return [
        (owner, local)
        for owner, child in module.named_modules()
        for local, one in child.named_parameters(recurse=False, remove_duplicate=False)
        if one is parameter
    ]


def attach(module: nn.Module, inputs: Mapping[str, nn.Module]) -> list[tuple[nn.Module, type[nn.Module]]]:
    """Put ``inputs`` {weight FQN: module} in front of the weights of ``module``, in place.

    Returns the modules that became another class, with the former one, for :func:`detach`. A tied weight's rounding stands
    in front of each of its uses.
    """
    before: list[tuple[nn.Module, type[nn.Module]]] = []

    def become(owner: Any) -> None:
        if not isinstance(owner, QuantizedInputs):
            made = quantized_class(type(owner))
            assert made is not None
            before.append((owner, type(owner)))
            owner.__class__ = made
            owner.input_quantizers = nn.ModuleDict()

    for name, rounding in inputs.items():
        for owner, local in _holders(module, name):
            if _refusal(module, owner, local) is None:
                one: Any = module.get_submodule(owner)
                become(one)
                one.input_quantizers[local] = rounding
                parent = module.get_submodule(owner.rpartition(".")[0]) if owner else None
                if isinstance(parent, ATTENTION):  # its own forward would pass by the module that projects the output
                    become(parent)
    for child in module.modules():
        for cls, flag in FUSED.items():
            value = child.__dict__.get(flag)
            if value and isinstance(child, cls) and any(isinstance(one, QuantizedInputs) for one in child.modules()):
                child.__dict__[flag], child.__dict__[f"_before_{flag}"] = type(value)(0), value
    return before


def detach(module: nn.Module, before: list[tuple[nn.Module, type[nn.Module]]]) -> None:
    """Undo :func:`attach`."""
    for one, cls in before:
        del one.input_quantizers
        one.__class__ = cls
    for child in module.modules():
        for flag in FUSED.values():
            if f"_before_{flag}" in child.__dict__:
                child.__dict__[flag] = child.__dict__.pop(f"_before_{flag}")


@contextmanager
def rounded(module: nn.Module, inputs: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
    """Within the block ``module`` rounds its activations by ``inputs`` {weight FQN: module}."""
    if not inputs:  # the usual case, many times a second
        yield module
        return
    before = attach(module, inputs)
    try:
        yield module
    finally:
        detach(module, before)
