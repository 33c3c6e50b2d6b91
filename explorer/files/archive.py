"""Zip archives of strangers: what is in them, before anything of it is read."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..core.errors import LoadError
from ..core.message import say
from .limits import Limits

BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError,
          struct.error, zlib.error, IndexError, OverflowError, MemoryError)  # fmt: skip
FREE = 1 << 20  # bytes that a member may unpack to whatever its ratio


@dataclass(frozen=True, eq=False)
class Archive:
    """An open zip whose directory was checked. members: {name: entry}, without folders."""

    path: Path
    members: Mapping[str, zipfile.ZipInfo]
    _zip: zipfile.ZipFile
    limits: Limits

    def read(self, name: str, most: int | None = None) -> bytes:
        """One member; never more bytes than its entry states, nor than ``most``."""
        info = self.members[name]
        if most is not None and info.file_size > most:
            raise LoadError(
                say(
                    "{path}: {name} has {size:,} bytes; accepted: at most {most:,}",
                    path=self.path,
                    name=name,
                    size=info.file_size,
                    most=most,
                )
            )
        try:
            with self._zip.open(info) as member:
                data = member.read(info.file_size + 1)
        except BROKEN as error:
            raise LoadError(
                say(
                    "{path}: {name} cannot be read ({error}); accepted: the whole file, saved or downloaded again",
                    path=self.path, name=name, error=str(error)[:160],
                )
            ) from None
        if len(data) != info.file_size:
            raise LoadError(
                say("{path}: {name} is not of the size that the zip states; accepted: the whole file, saved or downloaded again", path=self.path, name=name)
            )
        return data

    def below(self, folder: str) -> dict[str, zipfile.ZipInfo]:
        """Members within a folder, by their names in it."""
        start = folder.rstrip("/") + "/" if folder else ""
        return {name[len(start) :]: info for name, info in self.members.items() if name.startswith(start)}


def _check(path: Path, infos: list[zipfile.ZipInfo], size: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    if len(infos) > limits.members:
        raise LoadError(
            say(
                "{path}: {count:,} members; accepted: at most {most:,}",
                path=path,
                count=len(infos),
                most=limits.members,
            )
        )
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name = info.filename
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0:1] or "\0" in name or name[1:2] == ":":
            raise LoadError(
                say("{path}: the member {name!r} leads out of the archive; refused", path=path, name=name[:80])
            )
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise LoadError(say("{path}: the member {name!r} is a link; refused", path=path, name=name[:80]))
        if name in found:
            raise LoadError(say("{path}: the member {name!r} is there twice; refused", path=path, name=name[:80]))
        if info.flag_bits & 1:
            raise LoadError(
                say(
                    "{path}: the member {name!r} is encrypted; accepted: a zip without a password",
                    path=path,
                    name=name[:80],
                )
            )
        if info.file_size > max(FREE, limits.ratio * info.compress_size) or info.compress_size > size:
            raise LoadError(
                say(
                    "{path}: {name!r} would unpack from {packed:,} to {size:,} bytes; refused",
                    path=path,
                    name=name[:80],
                    packed=info.compress_size,
                    size=info.file_size,
                )
            )
        total += info.file_size
        if not name.endswith("/"):
            found[name] = info
    if total > min(limits.file, max(64 * FREE, limits.ratio * size)):
        raise LoadError(say("{path}: it would unpack to {size:,} bytes; refused", path=path, size=total))
    return found


@contextmanager
def opened(path: Path, limits: Limits, data: bytes | None = None) -> Iterator[Archive]:
    """The archive, its directory checked. Raises :class:`LoadError`; nothing is unpacked to disk. data: its content, where it
    is within another one."""
    try:
        archive = zipfile.ZipFile(path if data is None else io.BytesIO(data))
    except BROKEN as error:
        raise LoadError(
            say("{path}: the zip is damaged or cut short ({error}); accepted: the whole file, saved or downloaded again", path=path, error=str(error)[:160])
        ) from None
    with archive:
        size = path.stat().st_size if data is None else len(data)
        yield Archive(path, _check(path, archive.infolist(), size, limits), archive, limits)
