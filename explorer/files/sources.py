"""Tensors that can be looked at piece by piece: of safetensors files, read as they are needed, or held in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..analysis.patterns import WORDS
from ..core.errors import LoadError
from ..core.message import say
from . import kinds
from .header import Entry, Header, read_header
from .index import INDEX, read_index
from .limits import Limits, limits

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 16 << 20  # bytes that one thread works on
BLOCK = 1 << 20  # of which it reads as many at a time: they stay in a core's cache until they are counted
_mine = threading.local()  # a thread's buffers and its open file: fresh memory costs as much as the reading


class Source(Protocol):
    """entries: {name: format, shape, bytes}. words: ``n`` entries of a tensor from ``start`` on, flat, as unsigned integers of their
    bits; valid until the same thread asks again."""

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    def words(self, name: str, start: int, n: int, slot: int = 0) -> np.ndarray: ...


def pieces(entry: Entry) -> Iterator[tuple[int, int]]:
    """(start, n) of the pieces of a tensor; of an empty one a single empty piece."""
    return _steps(0, entry.numel, PIECE // np.dtype(WORDS[entry.dtype]).itemsize)


def blocks(source: Source, entry: Entry, start: int, n: int) -> Iterator[np.ndarray]:
    """The words of a piece, in blocks that are valid until the next."""
    step = BLOCK // np.dtype(WORDS[entry.dtype]).itemsize
    return (source.words(entry.name, *one) for one in _steps(start, n, step))


def _steps(start: int, n: int, step: int) -> Iterator[tuple[int, int]]:
    for at in range(0, max(n, 1), step):
        yield start + at, min(step, n - at)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A safetensors file, or the shards of one. files: {path: its checked header}. Nothing is read before it is asked for."""

    files: Mapping[Path, Header]
    entries: Mapping[str, Entry] = field(init=False)
    _place: Mapping[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        found = [(name, path, entry) for path, header in self.files.items() for name, entry in header.entries.items()]
        object.__setattr__(self, "entries", {name: entry for name, _, entry in found})
        object.__setattr__(self, "_place", {name: path for name, path, _ in found})

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.files)

    def words(self, name: str, start: int, n: int, slot: int = 0) -> np.ndarray:
        """As :class:`Source`. Raises :class:`LoadError` where the file has changed. slot: two tensors can be held at a time."""
        entry, path, word = self.entries[name], self._place[name], np.dtype(WORDS[self.entries[name].dtype])
        buffers: dict[int, bytearray] = _mine.__dict__.setdefault("buffers", {})
        files: dict[int, FileIO] = _mine.__dict__.setdefault("files", {})
        if slot not in buffers or len(buffers[slot]) < n * word.itemsize:
            buffers[slot] = bytearray(max(n * word.itemsize, BLOCK))
        view, done = memoryview(buffers[slot])[: n * word.itemsize], 0
        try:
            if slot not in files or files[slot].name != path:
                files[slot] = FileIO(path)
            files[slot].seek(entry.start + start * word.itemsize)
            while done < len(view) and (got := files[slot].readinto(view[done:])):
                done += got
        except OSError as error:
            raise LoadError(say("{path}: cannot be read ({why})", path=path, why=error.strerror or error)) from None
        if done < len(view):
            raise LoadError(say("{path}: it became shorter while it was read", path=path))
        return np.frombuffer(view, word)


@dataclass(frozen=True, eq=False)
class Held:
    """Tensors of a module or of a state dict."""

    tensors: Mapping[str, Tensor]
    entries: Mapping[str, Entry] = field(init=False)

    def __post_init__(self) -> None:
        from ..analysis.words import format_of

        made = {
            name: Entry(name, format_of(t), tuple(t.shape), 0, t.numel() * t.element_size())
            for name, t in self.tensors.items()
        }
        object.__setattr__(self, "entries", made)

    def words(self, name: str, start: int, n: int, slot: int = 0) -> np.ndarray:
        """As :class:`Source`; memory is shared with the tensor where it is contiguous."""
        from ..analysis.words import words_of

        return words_of(self.tensors[name], start, n)


def is_streamed(path: Path, within: Limits | None = None) -> bool:
    """Whether a path holds safetensors, in one file or in shards, which are looked at without loading them."""
    if path.is_dir() or path.name == INDEX:
        folder = path if path.is_dir() else path.parent
        return (folder / kinds.WEIGHTS).is_file() or (folder / INDEX).is_file()
    return path.is_file() and path.stat().st_size > 0 and kinds.kind_of(path, within or limits()) == kinds.SAFETENSORS


def checkpoint(path: Path, within: Limits | None = None) -> Checkpoint:
    """The tensors of a .safetensors file, of a folder with one, or of shards with their index. Raises :class:`LoadError`."""
    within = within or limits()
    folder = path.parent if path.name == INDEX else path
    if path.is_dir() and (path / kinds.WEIGHTS).is_file():
        return Checkpoint({path / kinds.WEIGHTS: read_header(path / kinds.WEIGHTS, within)})
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise LoadError(
                say(
                    "{path}: neither {weights} nor {index} in this folder",
                    path=path,
                    weights=kinds.WEIGHTS,
                    index=INDEX,
                )
            )
        return Checkpoint(read_index(folder / INDEX, within))
    if not path.exists() or path.stat().st_size == 0 or kinds.kind_of(path, within) != kinds.SAFETENSORS:
        if not path.exists():
            raise LoadError(say("{path}: no such file", path=path))
        raise LoadError(say("{path}: accepted: .safetensors, in one file or in shards with their index", path=path))
    return Checkpoint({path: read_header(path, within)})
