"""The index of a checkpoint in shards: which file holds which tensor. Names of shards are names, never paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import LoadError
from ..core.message import say
from .header import Header, read_header
from .limits import Limits, check_size, parse_json

INDEX = "model.safetensors.index.json"
SHARDS = 10_000


def read_index(index: Path, within: Limits) -> dict[Path, Header]:
    """{shard: its checked header}, all of them beside the index.

    Raises :class:`LoadError` for a shard that is a path, a link out of the folder, or not there; for a tensor in two
    shards, or in another one than the index says.
    """
    check_size(index, within.header)
    rows = parse_json(index.read_bytes(), str(index), within)
    places: Any = rows.get("weight_map") if isinstance(rows, dict) else None
    if not isinstance(places, Mapping) or not places or not all(isinstance(v, str) for v in places.values()):
        raise LoadError(say("{path}: no weight_map with the names of shards in it", path=index))
    names = sorted(set(places.values()))
    if len(names) > SHARDS or len(places) > within.tensors:
        raise LoadError(
            say(
                "{path}: {shards:,} shards with {tensors:,} tensors; accepted: at most {most:,} with {all:,}",
                path=index, shards=len(names), tensors=len(places), most=SHARDS, all=within.tensors,
            )
        )  # fmt: skip
    found = {_shard(index, name): read_header(index.parent / name, within) for name in names}
    _agree(index, found, places)
    return found


def _shard(index: Path, name: str) -> Path:
    """The file of that name beside the index."""
    plain = name.endswith(".safetensors") and not any(mark in name for mark in ("/", "\\", ":", "\0"))
    file = index.parent / name if plain and Path(name).name == name else None
    if file is None or not file.is_file() or (file.is_symlink() and not from_hub(file)):
        raise LoadError(
            say(
                "{path}: the shard {name!r}; accepted: a .safetensors file beside the index", path=index, name=name[:80]
            )
        )
    return file


def from_hub(file: Path) -> bool:
    """Whether a link leads to where a model hub's cache keeps the content of snapshots/<revision>/."""
    return file.resolve().parent == (file.parent.resolve().parent.parent / "blobs")


def _agree(index: Path, found: Mapping[Path, Header], places: Mapping[str, str]) -> None:
    holders: dict[str, str] = {}
    for file, header in found.items():
        for name in header.entries:
            if name in holders:
                raise LoadError(
                    say(
                        "{path}: {name} lies in {one} and in {other}; accepted: each tensor in one shard",
                        path=index, name=name[:80], one=holders[name], other=file.name,
                    )
                )  # fmt: skip
            holders[name] = file.name
    for name, place in places.items():
        if holders.get(str(name)) != place:
            raise LoadError(
                say(
                    "{path}: {name} is not in {shard}, where the index puts it",
                    path=index,
                    name=str(name)[:80],
                    shard=place,
                )
            )
