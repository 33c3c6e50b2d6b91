"""Module -> rebuilding spec: the traced graph of a compressed module as JSON, so that it runs without its class.

    {"format": ..., "version": 1,
     "modules": {"conv1": {"type": "Conv2d", "arguments": {"in_channels": 1, ...}}},
     "tensors": {"conv1.weight": {"shape": [20, 1, 5, 5], "dtype": "float32", "role": "parameter"}},
     "tied": {"decoder.weight": "embedding.weight"},
     "graph": [{"op": "module", "name": "conv1", "target": "conv1", "args": [{"node": "x"}], "kwargs": {}}, ...]}

References: torch.fx (Reed et al. 2022, arXiv 2112.08429).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..core.errors import UnsupportedError
from ..core.message import say
from ..models.calls import Call
from ..models.quantized import QuantizedInputs
from ..models.trace import trace as traced
from .allowed import ATTRIBUTES, METHODS, MODULES, NAMES

FORMAT, VERSION = "compression-explorer-model", 1


def encode(value: Any) -> Any:
    """A constant or a reference to a node as plain JSON; tuples, slices and special values are tagged objects."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [encode(one) for one in value]}
    if isinstance(value, list):
        return [encode(one) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(one) for key, one in value.items()}}
    if isinstance(value, slice):
        return {"slice": [encode(one) for one in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}  # files are loaded on the CPU, wherever they were made
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, nn.Module):
        return {"module": describe(value, say("an inner module"))}
    raise UnsupportedError(say("a constant of type {type} has no place in a spec", type=type(value).__name__))


def describe(module: nn.Module, name: str) -> dict[str, Any]:
    """Type and constructor arguments of one allow-listed module. Raises :class:`UnsupportedError`."""
    if type(module) not in MODULES:
        raise UnsupportedError(
            say("{name} is a {type}, which the spec does not list", name=name, type=type(module).__name__)
        )
    if not isinstance(module, QuantizedInputs) and any(isinstance(one, QuantizedInputs) for one in module.modules()):
        raise UnsupportedError(
            say(
                "{layer} ({kind}) holds layers that round their inputs, which the spec does not list",
                layer=name,
                kind=type(module).__name__,
            )
        )
    try:
        arguments = {key: encode(read(module)) for key, read in MODULES[type(module)].items()}
    except (AttributeError, UnsupportedError) as error:
        why = error.message if isinstance(error, UnsupportedError) else str(error)
        raise UnsupportedError(say("{name} ({type}): {why}", name=name, type=type(module).__name__, why=why)) from None
    return {"type": type(module).__name__, "arguments": arguments}


def _listed(module: nn.Module) -> bool:
    """Leaves are exactly the allow-listed classes; everything else is traced into."""
    return type(module) in MODULES


def _node(node: fx.Node) -> dict[str, Any]:
    target = node.target
    if node.op == "placeholder":
        if not str(target).isidentifier():
            raise UnsupportedError(
                say("its forward takes {target}, which has no fixed number of inputs", target=target)
            )
        return {"op": "input", "name": node.name}
    if node.op == "output":
        return {"op": "output", "args": [encode(node.args[0])]}
    if node.op == "get_attr":
        return {"op": "tensor", "name": node.name, "target": target}
    kind = {"call_module": "module", "call_method": "method", "call_function": "function"}[node.op]
    if node.op == "call_method" and target not in METHODS:
        raise UnsupportedError(
            say("it calls the method {target!r} of a tensor, which the spec does not list", target=target)
        )
    if node.op == "call_function":
        if target is getattr and node.args[1] in ATTRIBUTES:
            return {"op": "attribute", "name": node.name, "target": node.args[1], "args": [encode(node.args[0])]}
        if target not in NAMES:
            raise UnsupportedError(
                say("it calls {target!r}, which the spec does not list", target=getattr(target, "__name__", target))
            )
        target = NAMES[target]
    args, kwargs = [encode(one) for one in node.args], {key: encode(one) for key, one in node.kwargs.items()}
    return {"op": kind, "name": node.name, "target": target, "args": args, "kwargs": kwargs}


def tensors(module: nn.Module) -> tuple[dict[str, tuple[Tensor, str]], dict[str, str]]:
    """({FQN: (tensor, role)}, {FQN of a tied tensor: the FQN that holds it}); role: parameter, buffer or constant."""
    persistent = set(module.state_dict())
    found: dict[str, tuple[Tensor, str]] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for role, named in (
        ("parameter", module.named_parameters(remove_duplicate=False)),
        ("buffer", module.named_buffers(remove_duplicate=False)),
    ):
        for name, tensor in named:
            if id(tensor) in first:
                tied[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
                found[name] = (tensor.detach(), role if role == "parameter" or name in persistent else "constant")
    return found, tied


def trace(module: nn.Module, call: Call) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(spec, {name: tensor}) of a module in eval mode, called as ``call`` does.

    Raises :class:`UnsupportedError` with the reason where the module cannot be traced (control flow on values,
    an operation or a module outside of the allow-list).
    """
    try:
        copied, graph = traced(module, call, _listed)
    except Exception as error:  # any forward may come here
        first = (str(error).splitlines() or [""])[0][:160]
        raise UnsupportedError(
            say("it cannot be traced ({type}: {first})", type=type(error).__name__, first=first)
        ) from None
    nodes = [_node(node) for node in graph.nodes]
    held, tied = tensors(copied)
    for node in nodes:
        name = node.get("target", "")
        if node["op"] == "tensor" and name not in held and name not in tied:  # a tensor kept as a plain attribute
            value = copied
            for atom in name.split("."):
                value = getattr(value, atom)
            if not isinstance(value, Tensor):
                raise UnsupportedError(say("it reads the attribute {name!r}, which is no tensor", name=name))
            held[name] = (value.detach(), "constant")
    modules = {name: describe(child, name) for name, child in copied.named_modules() if _owns(copied, name, child)}
    called = {node["target"]: None for node in nodes if node["op"] == "module"}
    modules |= {name: describe(copied.get_submodule(name), name) for name in called if name not in modules}
    listed = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), "role": role}
        for name, (tensor, role) in held.items()
    }
    spec = {"format": FORMAT, "version": VERSION, "modules": modules, "tensors": listed, "tied": tied, "graph": nodes}
    # safetensors rejects views and shared memory: every tensor gets its own
    return spec, {name: tensor.cpu().contiguous().clone() for name, (tensor, _) in held.items()}


def _owns(root: nn.Module, name: str, child: nn.Module) -> bool:
    """Whether a module is listed as a whole: allow-listed, and not inside of one that is."""
    if not name or type(child) not in MODULES:
        return False
    while "." in name:
        name = name.rpartition(".")[0]
        if type(root.get_submodule(name)) in MODULES:
            return False
    return True
