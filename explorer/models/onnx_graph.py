"""A graph of an ONNX file made ready to run: its weights are inputs, so that others need no new session."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..core.errors import EvaluationError, LoadError
from ..core.message import Message, say
from .onnx_layout import Place

TYPES = {
    "tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64, "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32, "tensor(int16)": torch.int16, "tensor(int8)": torch.int8, "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}  # fmt: skip
FOLDED = 64 << 20  # bytes that one value computed ahead may have: a few bytes of a file can ask for terabytes
MEMORY = 0.5  # of this machine's memory that all runs together may take
_lock = threading.Lock()
_limited: list[int] = []


@dataclass(frozen=True)
class Input:
    """One input. dtype: of torch. shape: a number for a fixed size, None for any."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """source: the file's model, serialized, without the data of its parameters. lifted: the same with functions inlined and
    every parameter an input under its own name. places, kinds: of each parameter; kind None is no layer. seconds, memory: limits of a run, or
    None. Copies of a module share it.
    """

    source: bytes
    lifted: bytes
    places: Mapping[str, Place]
    kinds: Mapping[str, str | None]
    opset: int
    seconds: int | None = None
    memory: int | None = None
    notes: tuple[Message, ...] = field(default=())

    def __deepcopy__(self, memo: Any) -> OnnxGraph:
        return self

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session on the CPU. Raises :class:`LoadError` where it refuses the graph."""
        return open_lifted(self.lifted, self.memory)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What the graph is called with, in order; its parameters are not among them."""
        return tuple(
            Input(one.name, TYPES[one.type], tuple(d if isinstance(d, int) and d >= 0 else None for d in one.shape))
            for one in self.session.get_inputs()
            if one.name not in self.places
        )

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(one.name for one in self.session.get_outputs())

    def run(self, feed: Mapping[str, np.ndarray], session: Any = None) -> list[np.ndarray]:
        """All outputs. Raises :class:`EvaluationError`."""
        try:
            with self._timed() as options:
                found: list[np.ndarray] = (session or self.session).run(None, feed, options)
                return found
        except LoadError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise EvaluationError(say("ONNX Runtime cannot run the file ({why})", why=why)) from None

    @contextmanager
    def _timed(self) -> Iterator[Any]:
        """Options of a run that ends by itself when it takes too long."""
        if self.seconds is None:
            yield None
            return
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        timer = threading.Timer(self.seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            yield options
        finally:
            timer.cancel()


def open_lifted(model: bytes, memory: int | None = None, threads: int | None = None) -> Any:
    """A session of a stranger's graph: nothing large is computed ahead, and its values share one bounded store."""
    import onnxruntime

    _limit(memory)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 4
    for key, value in (
        ("session.use_env_allocators", "1"),
        ("optimization.constant_folding_max_output_size_in_bytes", str(FOLDED)),
    ):
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LoadError(say("ONNX Runtime refuses the graph ({why})", why=" ".join(str(error).split())[:300])) from None


def _limit(memory: int | None) -> None:
    """Register, once a process, the store that values of all such sessions are taken from."""
    import onnxruntime as ort
    import psutil

    with _lock:
        if _limited:
            return
        _limited.append(memory or int(psutil.virtual_memory().total * MEMORY))
        where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        with contextlib.suppress(RuntimeError):  # somebody else's is there already
            ort.create_and_register_allocator(
                where, ort.OrtArenaCfg({"max_mem": _limited[0], "arena_extend_strategy": 1})
            )
