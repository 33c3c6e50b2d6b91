"""An ONNX file behind the interface of a module, so that a task can judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import ExportError
from ..core.message import say


def open_session(path: Path, threads: int | None = None):  # type: ignore[no-untyped-def]
    """An ONNX Runtime session on the CPU, from bytes, so that no path goes through C strings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    beside = path.with_name(f"{path.name}.data").exists()  # weights of a file of their own are found by its path
    try:
        return onnxruntime.InferenceSession(str(path) if beside else path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(
            say("{file}: ONNX Runtime refuses the file ({why})", file=path.name, why=str(error)[:200])
        ) from None


class SessionModule(nn.Module):
    """``session`` called as the module that it was made from: positional tensors are input, input_2 ...; keywords keep their names.

    Returns one tensor, or all outputs in the order in which nested outputs hold them: by name where they have names of their own, else
    as a tuple.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session
        self.wanted = [one.name for one in session.get_inputs()]
        self.names = [one.name for one in session.get_outputs()]
        numbered = [f"output_{i + 1}" for i in range(1, len(self.names))]
        self.named = self.names[0] not in ("logits", "output") or self.names[1:] != numbered

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        named = {("input" if i == 0 else f"input_{i + 1}"): value for i, value in enumerate(args)} | kwargs
        feed = {name: named[name].detach().cpu().contiguous().numpy() for name in self.wanted}
        found = [torch.from_numpy(one) for one in self.session.run(None, feed)]
        if self.named:
            return dict(zip(self.names, found, strict=True))
        return found[0] if len(found) == 1 else tuple(found)
