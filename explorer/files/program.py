"""A torch.export program (.pt2) without torch's own loader.

``torch.export.load`` unpickles sample inputs, evaluates expressions and guards as Python, and resolves any name within torch
as a function to call. None of that is needed to compute: this reader takes the weights' bytes and the graph's JSON, and
builds a torch.fx graph of allow-listed ATen operators from them. Sample inputs, guards and metadata are not looked at.

Source: torch/_export/serde/schema.py (schema version 8), PyTorch 2.11 to 2.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..core.errors import LoadError, cause
from ..core.message import Message, say
from .archive import Archive, opened
from .limits import Limits, parse_json
from .program_graph import DTYPES, GraphReader, path_of
from .program_modules import raise_layers
from .refused import refusal
from .weights import plant

MAJOR = 8


def read_program(path: Path, limits: Limits) -> nn.Module:
    """The program as a torch.fx GraphModule in eval mode, its parameters under the original's names.

    Raises :class:`LoadError` for pickled or native parts, an operator that is not listed, a damaged file.
    """
    with opened(path, limits) as archive:
        top = _top(archive)
        inside = archive.below(top)
        _gate(path, inside)
        models = [name for name in inside if name.startswith("models/") and name.endswith(".json")]
        if len(models) != 1:
            raise LoadError(say("{path}: {count} programs in it; accepted: one", path=path, count=len(models)))
        program = parse_json(archive.read(_at(top, models[0]), limits.header), f"{path}/{models[0]}", limits)
        name = models[0].removeprefix("models/").removesuffix(".json")
        tensors = _tensors(archive, top, "weights", f"{name}_weights_config.json") | _tensors(
            archive, top, "constants", f"{name}_constants_config.json"
        )
    try:
        return _build(program, tensors, path, limits)
    except LoadError as error:
        if str(error).startswith(str(path)):
            raise
        raise LoadError(say("{path}: {error}", path=path, error=error.message)) from None
    except Exception as error:  # a file made to break the reader is still only a file that cannot be loaded
        raise LoadError(say("{path}: the program is malformed ({cause})", path=path, cause=cause(error, 160))) from None


def _top(archive: Archive) -> str:
    """The folder in which torch packs everything."""
    tops = {name.partition("/")[0] for name in archive.members}
    if len(tops) != 1 or not any("/" in name for name in archive.members):
        raise LoadError(
            say("{path}: a program of an older torch.export; save it again with torch 2.11 or newer", path=archive.path)
        )
    return tops.pop()


def _at(top: str, name: str) -> str:
    return f"{top}/{name}"


def _gate(path: Path, inside: Mapping[str, Any]) -> None:
    for name in inside:
        last = name.rpartition("/")[2].lower()
        what: Message | None = None
        if last.startswith(("custom_obj", "opaque_obj")):
            what = say("a pickled object ({name})", name=name[:80])
        elif name.startswith("data/aotinductor/") or last.endswith(
            (".so", ".dll", ".dylib", ".cubin", ".cpp", ".o", ".py", ".pkl")
        ):
            what = say("code ({name})", name=name[:80])
        elif name.startswith("data/executorch/") or last.endswith(".pte"):
            what = say("an ExecuTorch program ({name})", name=name[:80])
        if what is not None:
            raise refusal(
                path, "unknown", say("this .pt2 holds {what}; accepted: a graph and its weights; refused", what=what)
            )


def _tensors(archive: Archive, top: str, kind: str, config: str) -> dict[str, Tensor]:
    """{FQN: tensor} of data/weights or data/constants."""
    place = f"{top}/data/{kind}/"
    if place + config not in archive.members:
        raise LoadError(say("{path}: no {config} in it", path=archive.path, config=config[:80]))
    rows = parse_json(archive.read(place + config, archive.limits.header), f"{archive.path}/{config}", archive.limits)
    rows = rows.get("config") if isinstance(rows, dict) else None
    if not isinstance(rows, dict) or len(rows) > archive.limits.tensors:
        raise LoadError(say("{path}: {config} is malformed", path=archive.path, config=config[:80]))
    read: dict[str, bytearray] = {}
    found = {}
    for name, row in rows.items():
        if not isinstance(row, dict) or row.get("use_pickle") is not False:
            raise refusal(
                archive.path, "unknown", say("this .pt2 holds the tensor {name} as a pickle; refused", name=name[:80])
            )
        file = place + str(row.get("path_name"))
        if file not in archive.members:
            raise LoadError(say("{path}: no data for the tensor {name}", path=archive.path, name=name[:80]))
        if file not in read:
            read[file] = bytearray(archive.read(file))
        found[name] = _tensor(read[file], row.get("tensor_meta"), name, archive.path)
    return found


def _tensor(data: bytearray, meta: Any, name: str, path: Path) -> Tensor:
    """A strided view of raw bytes, as its meta row says."""
    try:
        dtype = DTYPES[meta["dtype"]]
        shape, strides = ([int(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
        offset, layout = int(meta["storage_offset"]["as_int"]), meta["layout"]
    except (KeyError, TypeError, ValueError):
        raise LoadError(say("{path}: the row of tensor {name} is malformed", path=path, name=name[:80])) from None
    whole = (
        len(shape) == len(strides) <= 64
        and min([*shape, *strides, offset], default=0) >= 0
        and max([*shape, *strides, offset], default=0) < 2**62
    )
    if not whole or layout != 7:
        raise LoadError(
            say("{path}: the row of tensor {name} is malformed; accepted: a dense tensor", path=path, name=name[:80])
        )
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if all(shape) else -1
    numel = 1
    for n in shape:
        numel *= n
    if (last + 1) * dtype.itemsize > len(data) or numel * dtype.itemsize > len(data):
        raise LoadError(
            say(
                "{path}: tensor {name} of shape {shape} over {room:,} bytes of data; refused",
                path=path,
                name=name[:80],
                shape=tuple(shape),
                room=len(data),
            )
        )
    if not numel:
        return torch.empty(shape, dtype=dtype)
    return (
        torch.frombuffer(
            memoryview(data)[: len(data) // dtype.itemsize * dtype.itemsize], dtype=dtype
        )  # no copy: tied ones stay so
        .as_strided(shape, strides, offset)
        .contiguous()
    )


def _build(program: Any, tensors: dict[str, Tensor], path: Path, limits: Limits) -> nn.Module:
    version = program["schema_version"]["major"]
    if version != MAJOR:
        raise LoadError(
            say(
                "{path}: schema version {version}; this release reads version {own}",
                path=path,
                version=str(version)[:20],
                own=MAJOR,
            )
        )
    root = nn.Module()
    held: dict[str, str] = {}  # the graph's name of an input -> FQN of its tensor
    users: list[str] = []
    placed: dict[tuple[Any, ...], tuple[Tensor, str]] = {}
    for spec in program["graph_module"]["signature"]["input_specs"]:
        (kind, inner), *more = spec.items()
        if more or kind not in ("parameter", "buffer", "tensor_constant", "user_input"):
            raise LoadError(
                say("an input of kind {kind!r}; accepted: parameters, buffers, constants, tensors", kind=str(kind)[:40])
            )
        if kind == "user_input":
            if set(inner["arg"]) != {"as_tensor"}:
                raise LoadError(say("an input that is no tensor; accepted: tensors"))
            users.append(inner["arg"]["as_tensor"]["name"])
            continue
        name = path_of(inner[f"{kind}_name"])
        if name not in tensors:
            raise LoadError(say("no data for the tensor {name}", name=name))
        held[inner["arg"]["name"]] = _place(root, name, tensors[name], kind, placed, path)
    graph = GraphReader(program["graph_module"], held, users, limits).read()
    raise_layers(root, graph)
    made = fx.GraphModule(root, graph, class_name="Program")
    for own in (made._modules, made._parameters, made._buffers):  # copied in the order of use, and only what is used
        own.clear()
    for key in ("_modules", "_parameters", "_buffers"):
        getattr(made, key).update(getattr(root, key))
    return made.eval()


def _place(
    root: nn.Module, name: str, tensor: Tensor, kind: str, placed: dict[tuple[Any, ...], tuple[Tensor, str]], path: Path
) -> str:
    """Put a tensor at its name. Parameters over the same bytes are one, as they were: tied weights. Returns the first of their names."""
    wanted: Tensor = nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) if kind == "parameter" else tensor
    first = name
    if kind == "parameter" and tensor.numel():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        wanted, first = placed.setdefault(key, (wanted, name))
    plant(root, name, wanted, path)
    return first
