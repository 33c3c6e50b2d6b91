"""Data files of strangers as columns: arrays, tables, pictures in class folders, lines of text. Nothing is unpickled."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import LoadError, cause
from ..core.message import Message, say
from .archive import Archive, opened
from .child import probe
from .limits import Limits, check_size, limits, shared

SUFFIXES = (".npz", ".csv", ".tsv", ".parquet", ".zip", ".txt")
PICTURES = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
PIXELS = 4096 * 4096  # of one picture
COLUMNS = 20_000
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(\.\d+)?")  # pandas calls a second column 0.5 "0.5.1"


@dataclass(frozen=True, eq=False)
class Source:
    """columns: {name: array [N, ...]}; texts are arrays of str, pictures arrays of bytes (an encoded file each).

    kind: arrays, table, images or text. notes: what was left aside.
    """

    kind: str
    columns: Mapping[str, np.ndarray]
    notes: tuple[Message, ...] = field(default=())

    @property
    def n(self) -> int:
        return len(next(iter(self.columns.values())))


def read_upload(path: Path) -> Source:
    """As :func:`read_data`, of a file that somebody sent: on a shared server a child process looks at it first."""
    if shared():
        probe(path, "data")
    return read_data(path, limits())


def read_data(path: Path, within: Limits) -> Source:
    """The columns of a data file, by its content. Raises :class:`LoadError`."""
    check_size(path, within.file)
    with path.open("rb") as file:
        start = file.read(4)
    try:
        if start[:2] == b"PK":
            with opened(path, within) as archive:
                names = list(archive.members)
                found = _arrays(archive) if names and all(n.endswith(".npy") for n in names) else _images(archive)
        elif start == b"PAR1":
            found = _parquet(path, within)
        elif path.suffix.lower() in (".csv", ".tsv"):
            found = _table(path)
        elif path.suffix.lower() == ".txt":
            found = _text(path)
        else:
            raise LoadError(say("{path}: accepted: {suffixes}", path=path, suffixes=", ".join(SUFFIXES)))
    except LoadError:
        raise
    except Exception as error:  # parsers of other people's formats fail in many ways
        raise LoadError(
            say(
                "{path}: cannot be read as data; accepted: a whole file, {suffixes}, of what its name says ({cause})",
                path=path,
                suffixes=", ".join(SUFFIXES),
                cause=cause(error, 160),
            )
        ) from None
    if not found.columns or not found.n:
        raise LoadError(say("{path}: no samples in it", path=path))
    return found


def _arrays(archive: Archive) -> Source:
    """The arrays of an .npz; those of another length than most are left aside."""
    found: dict[str, np.ndarray] = {}
    for name, info in archive.members.items():
        stream = io.BytesIO(archive.read(name))
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise LoadError(
                say(
                    "{path}: {name}: array format {version}; accepted: 1.0, 2.0",
                    path=archive.path,
                    name=name,
                    version=version,
                )
            )
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise LoadError(
                say(
                    "{path}: {name} holds Python objects, which are pickles; refused. Save plain arrays",
                    path=archive.path,
                    name=name,
                )
            )
        if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
            raise LoadError(
                say(
                    "{path}: {name}: {shape} of {dtype} in {size:,} bytes",
                    path=archive.path,
                    name=name,
                    shape=shape,
                    dtype=str(dtype)[:40],
                    size=info.file_size,
                )
            )
        stream.seek(0)
        found[name.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    lengths = [len(a) for a in found.values() if a.ndim]
    most = max(set(lengths), key=lengths.count) if lengths else 0
    kept = {name: a for name, a in found.items() if a.ndim and len(a) == most and a.dtype.kind in "biufUS"}
    aside = sorted(set(found) - set(kept))
    notes = (say("left aside, of another length or type: {names}", names=", ".join(aside)),) if aside else ()
    return Source("arrays", {k: a.astype(str) if a.dtype.kind == "S" else a for k, a in kept.items()}, notes)


def _frame(frame: Any, path: Path) -> Source:
    if frame.shape[1] > COLUMNS:
        raise LoadError(
            say("{path}: {count:,} columns; accepted: at most {most:,}", path=path, count=frame.shape[1], most=COLUMNS)
        )
    columns: dict[str, np.ndarray] = {}
    aside: list[str] = []
    notes: list[Message] = []
    for name in frame.columns:
        values = frame[name]
        if values.dtype.kind in "biuf":
            columns[str(name)] = values.to_numpy()
        elif str(values.dtype) in ("object", "str", "string", "category"):
            columns[str(name)] = values.astype(str).to_numpy(dtype=object).astype(str)
            notes += _odd_text(str(name), values)
        else:
            aside.append(str(name))
    if aside:
        notes.append(say("left aside, neither numbers nor texts: {names}", names=", ".join(aside[:8])))
    return Source("table", columns, tuple(notes))


def _odd_text(name: str, values: Any) -> list[Message]:
    """What makes a column a text of which nearly all is numbers: a typing error, or another word for what is missing."""
    import pandas

    given = values.dropna()
    odd = given[pandas.to_numeric(given, errors="coerce").isna()]
    if odd.empty or len(odd) * 10 > len(given):
        return []
    where = values.index.get_loc(odd.index[0]) + 1
    return [
        say(
            "column {name!r} is read as text: {value!r} in sample {where:,} is no number ({count:,} such in all)",
            name=name,
            value=str(odd.iloc[0])[:40],
            where=where,
            count=len(odd),
        )
    ]


def _no_header(source: Source) -> Source:
    """With a note, if all names of the columns are numbers: then the first sample was taken for the header."""
    if not all(NUMBER.fullmatch(name.strip()) for name in source.columns):
        return source
    found = say("the first line was taken for the names of the columns, and they are numbers: is the header missing?")
    return replace(source, notes=(*source.notes, found))


def _table(path: Path) -> Source:
    import pandas

    separator = "\t" if path.suffix.lower() == ".tsv" else None
    engine = "python" if separator is None else "c"
    return _no_header(_frame(pandas.read_csv(path, sep=separator, engine=engine, encoding="utf-8-sig"), path))


def _parquet(path: Path, within: Limits) -> Source:
    import pandas
    import pyarrow.parquet

    meta = pyarrow.parquet.ParquetFile(path).metadata
    size = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if max(size, meta.num_rows * meta.num_columns) > min(
        within.file, max(64 << 20, within.ratio * path.stat().st_size)
    ):
        raise LoadError(say("{path}: it would unpack to {size:,} bytes; refused", path=path, size=size))
    return _frame(pandas.read_parquet(path), path)


def _images(archive: Archive) -> Source:
    """Pictures in folders, one folder a class: class/name.png, with or without a folder around."""
    from PIL import Image

    pictures, labels, aside = [], [], []
    for name in sorted(archive.members):
        parts = name.split("/")
        if any(p.startswith((".", "__MACOSX")) for p in parts):
            continue
        data = archive.read(name, 64 << 20)
        try:
            with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
                pixels = picture.width * picture.height
        except Exception:  # not a picture, or a broken one
            aside.append(name)
            continue
        if pixels > PIXELS:
            raise LoadError(
                say(
                    "{path}: {name} has {pixels:,} pixels; accepted: at most {most:,}",
                    path=archive.path,
                    name=name[:80],
                    pixels=pixels,
                    most=PIXELS,
                )
            )
        pictures.append(data)
        labels.append(parts[-2] if len(parts) > 1 else "")
    if not pictures:
        raise LoadError(say("{path}: neither arrays (.npy) nor pictures in class folders", path=archive.path))
    column = np.empty(len(pictures), dtype=object)
    column[:] = pictures
    notes = (say("left aside, no pictures: {names}", names=", ".join(aside[:8])),) if aside else ()
    more = {"class": np.asarray(labels)} if any(labels) else {}
    return Source("images", {"image": column, **more}, notes)


def _text(path: Path) -> Source:
    """A sample a line; where every line has a tab, its first field is the label."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise LoadError(
            say("{path}: not a UTF-8 text; accepted: a text saved as UTF-8 ({error})", path=path, error=str(error)[:120])
        ) from None
    if lines and all("\t" in line for line in lines):
        labels, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
        return Source("text", {"text": np.asarray(texts), "label": np.asarray(labels)})
    return Source("text", {"text": np.asarray(lines)})
