"""Checkpoints of torch.save: looked at opcode by opcode first, then read by torch's restricted unpickler alone.

``torch.load(weights_only=True)`` is what keeps code out. The look before it says what a file would have run, and keeps out
what that unpickler allows though no state dict needs it (a bytearray of any length, sparse and wrapped tensors).
"""

from __future__ import annotations

import io
import pickletools
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..core.errors import LoadError
from ..core.message import say
from . import kinds
from .archive import opened
from .limits import Limits
from .refused import refusal

NEEDED = frozenset(
    {
        "collections OrderedDict", "collections defaultdict", "collections Counter", "builtins set", "__builtin__ set", "builtins dict",
        "__builtin__ dict", "torch Size", "torch device", "torch.nn.parameter Parameter", "torch.storage UntypedStorage",
        "torch.storage TypedStorage", "torch.serialization _get_layout",
        *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state")),
    }
)  # fmt: skip
STRINGS = frozenset(
    {"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)


def _needed(name: str) -> bool:
    module, _, last = name.partition(" ")
    if name in NEEDED:
        return True
    if module in ("torch", "torch.cuda") and last.endswith("Storage"):
        return last.isidentifier()
    return module == "torch" and isinstance(getattr(torch, last, None), torch.dtype)


def look(stream: BinaryIO, path: Path, limits: Limits, legacy: bool = False) -> None:
    """Walk through the opcodes of a pickle (five in a row in torch's old format) without running any.

    Raises :class:`LoadError` naming the first thing that it would import and no state dict needs.
    """
    texts: list[str] = []
    seen = 0
    try:
        for _ in range(5 if legacy else 1):
            for opcode, value, _position in pickletools.genops(stream):
                seen += 1
                if seen > limits.operations:
                    raise LoadError(
                        say(
                            "{path}: a pickle of more than {most:,} operations; refused",
                            path=path,
                            most=limits.operations,
                        )
                    )
                if opcode.name in STRINGS:
                    texts = [*texts[-1:], str(value)]
                name = (
                    str(value)
                    if opcode.name in ("GLOBAL", "INST")
                    else " ".join(texts)
                    if opcode.name == "STACK_GLOBAL"
                    else None
                )
                if name is not None and not _needed(name):
                    shown = name.replace("__builtin__", "builtins").replace(" ", ".")[:80]
                    raise refusal(
                        path,
                        "pickle",
                        say(
                            "it is a pickled object, not a state dict: loading it would call {name}; refused",
                            name=shown,
                        ),
                    )
                if opcode.name in ("EXT1", "EXT2", "EXT4"):
                    raise refusal(path, "pickle", say("it is a pickled object, not a state dict; refused"))
    except LoadError:
        raise
    except Exception as error:  # a damaged pickle breaks pickletools in many ways
        raise LoadError(
            say("{path}: the pickle is damaged or cut short ({why}); accepted: the whole file, saved or downloaded again", path=path, why=str(error)[:120])
        ) from None


def read_checkpoint(path: Path, limits: Limits, data: bytes | None = None) -> Any:
    """What torch.save wrote: nested dicts, lists, tensors, numbers, texts. Raises :class:`LoadError`.

    Tensors of a zip file are mapped, not read. data: the content, of a file that lies within an archive.
    """
    with io.BytesIO(data) if data is not None else path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        with opened(path, limits, data) as archive:
            if kinds.kind_of_zip(archive) != kinds.CHECKPOINT:
                raise LoadError(say("{path}: no checkpoint of torch.save", path=path))
            for name in archive.members:
                if name.endswith(".pkl"):
                    look(io.BytesIO(archive.read(name, limits.header)), path, limits)
    else:
        with io.BytesIO(data) if data is not None else path.open("rb") as file:
            look(file, path, limits, legacy=True)
    size = path.stat().st_size if data is None else len(data)
    _measure(_load(path, data, map_location="meta"), path, size, limits)  # sizes first: on "meta" they cost no memory
    return _load(path, data, mmap=zipped and data is None, map_location="cpu")


def _load(path: Path, data: bytes | None, **how: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path if data is None else io.BytesIO(data), weights_only=True, **how)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:160]
        if "weights only" in str(error).lower() or "unsupported" in str(error).lower():
            raise refusal(
                path, "pickle", say("torch's safe reader refuses it ({why})", why=_reason(str(error)))
            ) from None
        raise LoadError(
            say(
                "{path}: no readable checkpoint of torch.save ({type}: {first}); accepted: the whole file, saved or downloaded again",
                path=path,
                type=type(error).__name__,
                first=first,
            )
        ) from None


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "nsupported" in line or "blocked" in line]
    return (lines or text.splitlines() or [""])[0][:160]


def _measure(loaded: Any, path: Path, size: int, limits: Limits) -> None:
    """Every tensor lies within the bytes that the file has for it."""
    storages: dict[int, int] = {}
    found = walk(loaded, limits, path)
    if len(found) > limits.tensors:
        raise LoadError(say("{path}: more than {most:,} tensors; refused", path=path, most=limits.tensors))
    for tensor in found:
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise LoadError(
                say("{path}: a tensor of layout {layout}; accepted: dense ones", path=path, layout=str(tensor.layout))
            )
        room = tensor.untyped_storage().nbytes()
        storages[tensor.untyped_storage()._cdata] = room
        if tensor.numel() * tensor.element_size() > room:
            raise LoadError(
                say(
                    "{path}: a tensor of shape {shape} over {room:,} bytes of data; refused",
                    path=path,
                    shape=tuple(tensor.shape),
                    room=room,
                )
            )
    if sum(storages.values()) > size:
        raise LoadError(
            say(
                "{path}: its tensors state {total:,} bytes, the file has {size:,}; refused",
                path=path,
                total=sum(storages.values()),
                size=size,
            )
        )


def walk(value: Any, limits: Limits, path: Path) -> list[torch.Tensor]:
    """All tensors within nested dicts, lists and tuples; each container once, however often it occurs."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, (dict, list, tuple, set)) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, dict) else one)
        if len(waiting) > limits.operations:
            raise LoadError(say("{path}: more than {most:,} values; refused", path=path, most=limits.operations))
    return found
