"""The files of a model that lie side by side: in a folder, or at one level of a zip. Nothing is unpacked to disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import LoadError
from ..core.message import say
from .archive import Archive, opened
from .index import from_hub
from .limits import Limits, check_size


@dataclass(frozen=True, eq=False)
class Folder:
    """names: of the files, without places. Of a zip, ``archive`` and the place of the files in it."""

    path: Path
    names: frozenset[str]
    limits: Limits
    archive: Archive | None = None
    prefix: str = ""

    def where(self, name: str) -> str:
        """A file's name for messages."""
        return f"{self.path}/{self.prefix}{name}"

    def read(self, name: str, most: int) -> bytes:
        """The bytes of one file. Raises :class:`LoadError` for more than ``most``, or a file that is not there."""
        if name not in self.names:
            raise LoadError(say("{path}: no {name} in it", path=self.path, name=name[:80]))
        if self.archive is not None:
            return self.archive.read(self.prefix + name, most)
        check_size(self.path / name, most)
        return (self.path / name).read_bytes()

    def file(self, name: str) -> Path | None:
        """The file's path, where it has one of its own."""
        return None if self.archive is not None else self.path / name


@contextmanager
def folder_of(path: Path, limits: Limits, mark: str) -> Iterator[Folder | None]:
    """The files beside the one called ``mark``; None where there is none, or in a zip more than one."""
    if path.is_dir():
        names = [one.name for one in path.iterdir() if one.is_file()]
        if len(names) > limits.members:
            raise LoadError(
                say(
                    "{path}: {count:,} members; accepted: at most {most:,}",
                    path=path,
                    count=len(names),
                    most=limits.members,
                )
            )
        out = [name for name in names if (path / name).is_symlink() and not from_hub(path / name)]
        if mark in names and out:
            raise LoadError(say("{path}: the member {name!r} is a link; refused", path=path, name=out[0][:80]))
        yield Folder(path, frozenset(names), limits) if mark in names else None
        return
    with opened(path, limits) as archive:
        yield _of_zip(archive.members, archive, path, limits, mark)


def _of_zip(members: Mapping[str, object], archive: Archive, path: Path, limits: Limits, mark: str) -> Folder | None:
    places = [name.removesuffix(mark) for name in members if name.rpartition("/")[2] == mark]
    if len(places) != 1:
        return None
    names = frozenset(
        name.removeprefix(places[0])
        for name in members
        if name.startswith(places[0]) and "/" not in name.removeprefix(places[0])
    )
    return Folder(path, names, limits, archive, places[0])
