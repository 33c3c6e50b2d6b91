"""What people call a checkpoint -> parameters by name: nesting undone, prefixes of wrappers gone, tied weights found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import LoadError
from ..core.message import Message, say

NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "model_ema",
    "generator",
)
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
)  # DataParallel, torch.compile; "model." of Lightning, only below "state_dict"
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class State:
    """tensors: {FQN: Tensor}. tied: {FQN: the FQN that holds the same tensor}. notes: what was done to get here."""

    tensors: Mapping[str, Tensor]
    tied: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Message, ...] = ()


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of one level, by name; {} where this is no state dict."""
    if not isinstance(value, Mapping):
        return {}
    return {key: one for key, one in value.items() if isinstance(key, str) and isinstance(one, Tensor)}


def state_of(loaded: Any, path: object, nested: str = "") -> State:
    """The state dict within what was loaded. Raises :class:`LoadError` where there is none."""
    notes: list[Message] = []
    value, place = loaded, nested
    for _ in range(4):
        mine = _tensors(value)
        inner = [key for key in NESTED if isinstance(value, Mapping) and isinstance(value.get(key), Mapping)]
        if mine and not (inner and len(mine) < len(_tensors(value[inner[0]]))) or not inner:
            break
        beside = [str(key) for key in value if key != inner[0]]
        notes.append(say("taken from {key!r}", key=inner[0]))
        if beside:
            notes.append(say("left aside: {names}", names=", ".join(beside[:8])))
        value, place = value[inner[0]], inner[0]
    tensors = _tensors(value)
    if not tensors:
        found = ", ".join(map(str, list(value)[:8])) if isinstance(value, Mapping) else type(value).__name__
        raise LoadError(
            say(
                "{path}: no state dict in it (found: {found}); accepted: {{name: tensor}}, or one under state_dict or model",
                path=path,
                found=found,
            )
        )
    odd = [str(key) for key in value if key not in tensors]
    if odd and odd != ["_metadata"]:
        notes.append(say("left aside, no tensors: {names}", names=", ".join(odd[:8])))
    for prefix in PREFIXES:
        if prefix == "model." and place != "state_dict":
            continue
        if all(name.startswith(prefix) and len(name) > len(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
            notes.append(say("the prefix {prefix!r} of all names was taken off", prefix=prefix))
    return _tie(tensors, notes, path)


def _tie(tensors: dict[str, Tensor], notes: list[Message], path: object) -> State:
    first: dict[tuple[Any, ...], str] = {}
    kept: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        check_name(name, path)
        key = (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
        )
        if tensor.numel() and key in first:
            tied[name] = first[key]
        else:
            first[key] = name
            kept[name] = tensor
    if tied:
        notes.append(say("tied: {names}", names=", ".join(f"{a} = {b}" for a, b in list(tied.items())[:4])))
    return State(kept, tied, tuple(notes))


def check_name(name: str, path: object) -> None:
    """A tensor's name must be able to stand in a module tree."""
    atoms = name.split(".")
    if (
        not name
        or len(name) > 1000
        or len(atoms) > 64
        or not all(atoms)
        or any(a.startswith("__") for a in atoms)
        or not name.isprintable()
    ):
        raise LoadError(say("{path}: a tensor is called {name!r}; accepted: dotted names", path=path, name=name[:80]))


def trainable(name: str, tensor: Tensor) -> bool:
    """Whether it is kept as a parameter: floating, and not one of a norm's statistics."""
    return tensor.is_floating_point() and name.rpartition(".")[2] not in BUFFERS


def arithmetic(tensor: Tensor) -> Tensor:
    """``tensor`` in a type that can be computed with: 8-bit floats become bfloat16, which holds them exactly."""
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
