"""What a file is, by its content: a suffix is only a name."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection
from pathlib import Path

from ..export.names import MAGIC, WEIGHTS
from ..export.names import PACKED as PACKED_WEIGHTS
from .archive import Archive, opened
from .limits import Limits, check_size

EXPORT, SAFETENSORS, PACKED, PT2, CHECKPOINT, PICKLE, TORCHSCRIPT, HUGGINGFACE = (
    "export",
    "safetensors",
    "packed",
    "pt2",
    "checkpoint",
    "pickle",
    "torchscript",
    "huggingface",
)
KERAS, HDF5, ONNX, GGUF, TFLITE, TAR, NUMPY, ZIP, TENSORFLOW, EMPTY, UNKNOWN = (
    "keras", "hdf5", "onnx", "gguf", "tflite", "tar", "numpy", "zip", "tensorflow", "empty", "unknown",
)  # fmt: skip
ONNX_FIELDS = (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")  # that can follow the version


def kind_of(path: Path, limits: Limits) -> str:
    """One of the constants above. Raises :class:`LoadError` for what cannot be read at all."""
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return TENSORFLOW
        names = {one.name for one in path.iterdir()}
        if hugging(names):
            return HUGGINGFACE
        if WEIGHTS not in names and any(name.endswith(".onnx") for name in names):
            return ONNX
        return EXPORT
    size = check_size(path, limits.file)
    with path.open("rb") as file:
        start = file.read(512)
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        with opened(path, limits) as archive:
            return kind_of_zip(archive)
    if start.startswith(MAGIC):
        return PACKED
    if start.startswith(b"\x89HDF\r\n"):
        return HDF5
    if start.startswith(b"GGUF"):
        return GGUF
    if start[4:8] == b"TFL3":
        return TFLITE
    if start.startswith(b"\x93NUMPY"):
        return NUMPY
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar" or (size >= 512 and tarfile_header(start)):
        return TAR
    length = int.from_bytes(start[:8], "little")
    if len(start) > 8 and start[8:9] == b"{" and length < 1 << 40:
        return SAFETENSORS
    if start[:1] == b"\x80" and start[1:2] in b"\x00\x01\x02\x03\x04\x05":
        return CHECKPOINT  # torch's old format is a row of pickles; which of them, its reader will see
    if start[:1] in (b"(", b"c", b"]", b"}") or path.suffix.lower() in (".pkl", ".pickle", ".joblib"):
        return PICKLE
    if start[:1] == b"\x08" and start[1:2] < b"\x20" and start[2:3] in ONNX_FIELDS or path.suffix.lower() == ".onnx":
        return ONNX
    return SAFETENSORS if path.suffix.lower() == ".safetensors" else UNKNOWN


def hugging(names: Collection[str]) -> bool:
    """Whether a config lies beside weights, as in a Hugging Face model's folder."""
    weights = r"(model|pytorch_model)[^/]*\.(safetensors|bin)(\.index\.json)?"
    return "config.json" in names and any(re.fullmatch(weights, name) for name in names)


def tarfile_header(start: bytes) -> bool:
    """Whether this is the head of an old tar without its magic."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def kind_of_zip(archive: Archive) -> str:
    """Which of the formats that are zips this is."""
    names = set(archive.members)
    if not names:
        return EMPTY
    last = {name.rpartition("/")[2] for name in names}
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if (
        any(f"{top}/archive_format" in names or f"{top}/models/model.json" in names for top in tops)
        or "archive_format" in names
    ):
        return PT2
    if "serialized_exported_program.json" in names:
        return PT2
    if any(name.endswith("constants.pkl") for name in names) or any(
        "/code/" in f"/{name}" and name.endswith(".py") for name in names
    ):
        return TORCHSCRIPT
    if "data.pkl" in last:
        return CHECKPOINT
    if hugging(last):
        return HUGGINGFACE
    if WEIGHTS in last or PACKED_WEIGHTS in last:
        return EXPORT
    if any(name.lower().endswith(".onnx") for name in last):
        return ONNX
    if {"config.json", "metadata.json"} <= names and any(name.endswith(".h5") for name in names):
        return KERAS
    if all(name.endswith(".npy") for name in names):
        return NUMPY
    return ZIP
