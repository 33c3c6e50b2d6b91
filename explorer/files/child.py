"""A look at a stranger's file in another process, with limits of time and memory, before this one opens it.

What a parser does to its process (a crash, all of the memory, no end) then happens to the child alone. Only what the child
survived is opened here, by the same code, which does the same with the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EvaluationError, ExplorerError, LoadError
from ..core.message import say
from .limits import SHARED_VARIABLE, STRANGERS, Limits

if TYPE_CHECKING:
    from ..models.onnx_module import OnnxModule

ROOT = Path(__file__).resolve().parents[2]
MARK = "explorer-child:"


def probe(path: Path, what: str = "model", limits: Limits = STRANGERS) -> None:
    """Open ``path`` in a child process as ``what`` ("model" or "data"). Raises :class:`LoadError` with what the child said, or that it
    took too long, too much memory, or crashed."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), SHARED_VARIABLE: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", __name__, what, str(path), str(limits.memory), str(limits.seconds)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=path.parent,
            capture_output=True,
            timeout=limits.seconds + 30,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadError(
            say("{path}: it took longer than {seconds} s to open; refused", path=path.name, seconds=limits.seconds)
        ) from None
    lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith(MARK)]
    said = json.loads(lines[-1][len(MARK) :]) if lines else None
    if said is None:
        raise LoadError(
            say(
                "{path}: opening it ended the process that tried (code {code}): too much memory or time, or a crash; refused",
                path=path.name,
                code=done.returncode,
            )
        )
    if said["error"]:
        raise LoadError(say("{reason}", reason=said["error"]))


def _restrain(memory: int, seconds: int) -> None:
    """No more memory and time than this, no core file, nothing written. Where the system has no such limits (Windows), the
    parent's clock alone holds."""
    with contextlib.suppress(ImportError):
        import resource

        for what, most in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, (most, most))


def _model(path: Path) -> None:
    from ..models.onnx_module import OnnxModule
    from .load import open_model

    found = open_model(path, STRANGERS)
    for tensor in [*found.module.parameters(), *found.module.buffers()]:
        tensor.detach().reshape(-1)[:1].tolist()  # what is mapped can be read
    if isinstance(found.module, OnnxModule) and found.forward:
        _try(found.module)


def _try(module: OnnxModule) -> None:
    """Run a graph once, on ones in the sizes that it states: whoever asks for too much then asks for it here."""
    import torch

    with contextlib.suppress(EvaluationError):  # other sizes may be needed than those
        module(*(torch.ones([size or 1 for size in one.shape or ()], dtype=one.dtype) for one in module.graph.inputs))


def _data(path: Path) -> None:
    from .data import read_data

    read_data(path, STRANGERS)


READERS: dict[str, Callable[[Path], None]] = {"model": _model, "data": _data}


def main(arguments: list[str]) -> None:
    """The child: ``what path memory seconds``."""
    what, path, memory, seconds = arguments
    error = ""
    import torch  # noqa: F401  (before the limits: it maps more than it uses)

    _restrain(int(memory), int(seconds))
    try:
        READERS[what](Path(path))
    except ExplorerError as problem:
        error = str(problem).replace(str(Path(path)), Path(path).name)
    except MemoryError:
        error = f"{Path(path).name}: it needs too much memory to open; refused"
    except Exception as problem:  # a reader that met what it did not expect refuses, too
        error = f"{Path(path).name}: cannot be read ({type(problem).__name__}: {str(problem)[:160]})"
    print(MARK + json.dumps({"error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
