"""A module that is only its weights: what a plain state dict gives without the class that it belongs to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import LoadError, UnsupportedError
from ..core.message import say
from ..models.stored import NARROW
from .state import State, arithmetic, trainable


class Node(nn.Module):
    """One level of dotted names. It may hold any name at all, as its tensors are looked up in its dictionaries alone."""

    def _get_name(self) -> str:
        return "Weights"


class WeightsOnly(Node):
    """Parameters and buffers under the names of a state dict; there is no forward pass."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            say(
                "this file holds weights only, and no forward pass; give the class: explorer.Subject(your_module, task) after your_module.load_state_dict(...)"
            )
        )


def weights_only(state: State, path: object) -> WeightsOnly:
    """The module of a state dict; tied names hold one parameter. Raises :class:`LoadError` for names that collide."""
    root = WeightsOnly()
    narrow = root.__dict__[NARROW] = {}  # of 8-bit floats, what they came as
    made: dict[str, Tensor] = {}
    for name, tensor in state.tensors.items():
        came, tensor = tensor.dtype, arithmetic(tensor.detach())
        if came != tensor.dtype:
            narrow[name] = came
        made[name] = nn.Parameter(tensor, requires_grad=False) if trainable(name, tensor) else tensor
        plant(root, name, made[name], path)
    for name, source in state.tied.items():
        plant(root, name, made[source], path)
    return root.eval()


def plant(root: nn.Module, name: str, tensor: Tensor, path: object) -> None:
    """Put a tensor at its dotted name, making the levels between."""
    *parents, last = name.split(".")
    for atom in parents:
        if atom in root._parameters or atom in root._buffers:
            raise LoadError(say("{path}: {name!r} is both a tensor and a module", path=path, name=name[:80]))
        if atom not in root._modules:
            if hasattr(nn.Module, atom):
                raise LoadError(say("{path}: {name!r} is a name that nn.Module uses itself", path=path, name=name[:80]))
            root._modules[atom] = Node()
        root = root._modules[atom]  # type: ignore[assignment]
    if last in root._modules:
        raise LoadError(say("{path}: {name!r} is both a tensor and a module", path=path, name=name[:80]))
    if hasattr(nn.Module, last) or last in root.__dict__:
        raise LoadError(say("{path}: {name!r} is a name that nn.Module uses itself", path=path, name=name[:80]))
    if isinstance(tensor, nn.Parameter):
        root._parameters[last] = tensor
    else:
        root._buffers[last] = torch.as_tensor(tensor)
