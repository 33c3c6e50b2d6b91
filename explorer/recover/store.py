"""Where jobs lie on disk: a folder each, with what was asked for, how it stands and the checkpoint to go on from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

HOME_VARIABLE = "EXPLORER_HOME"
FORMAT = 1
RECORD, CHECKPOINT, BOARD = "job.json", "checkpoint.pt", "tensorboard"


def home() -> Path:
    """The user's folder of this program: EXPLORER_HOME, or where the platform keeps such things; a temporary one if that can't be written."""
    if chosen := os.environ.get(HOME_VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    folder = base / "compression-explorer"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.gettempdir()) / "compression-explorer"


def hidden(owner: str) -> str:
    """An owner's name as it stands on disk: who reads the folder cannot become that owner."""
    return hashlib.sha256(owner.encode()).hexdigest()


def process() -> list[Any]:
    """This process, told apart from a later one with the same number."""
    return [os.getpid(), psutil.Process().create_time()]


def alive(told: Any) -> bool:
    """Whether that process still runs."""
    try:
        pid, began = told
        return abs(psutil.Process(int(pid)).create_time() - float(began)) < 1
    except (psutil.Error, TypeError, ValueError):
        return False


class Store:
    """The folders of all jobs, under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, job: str) -> Path:
        """A job's folder, for its owner's account alone."""
        folder = self.root / job
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def write(self, job: str, record: Mapping[str, Any]) -> None:
        """All or nothing."""
        folder = self.folder(job)
        beside = folder / f".{RECORD}.{os.getpid()}"
        beside.write_text(json.dumps({"format": FORMAT, **record}, ensure_ascii=False, indent=1), encoding="utf-8")
        os.replace(beside, folder / RECORD)

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(job, record) of every folder that can be read; others are left alone."""
        for file in sorted(self.root.glob(f"*/{RECORD}")):
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(record, dict) and record.get("format") == FORMAT:
                yield file.parent.name, record

    def remove(self, job: str) -> None:
        """A job's folder and all in it."""
        shutil.rmtree(self.root / job, ignore_errors=True)

    def bytes(self, job: str) -> int:
        """What a job takes on disk."""
        return sum(file.stat().st_size for file in (self.root / job).rglob("*") if file.is_file())
