"""Recording device work once so that it can be started again as a whole: a CUDA graph, behind an interface that a test can stand in for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.errors import UnsupportedError
from ..core.message import say
from ..models.device import wait
from ..models.trial import tensors

WARM_UPS = 3  # libraries choose kernels and allocate their workspaces in the first runs, which must not be recorded
UNSETTLED = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}
MOVING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default, torch.ops.aten.copy.default}

_one_at_a_time = threading.Lock()  # CUDA records one graph a process at a time


class Recording(Protocol):
    """bytes: memory that it holds, its inputs aside."""

    bytes: int

    def replay(self) -> Any:
        """Do the same work again on what now lies at the same addresses; the results lie where they lay the last time, too."""


class Recorder(Protocol):
    """Makes recordings on one device."""

    device: torch.device

    def record(self, compute: Callable[[], Any]) -> Recording:
        """A recording of ``compute``, which reads and writes the same memory whenever it is called. Raises whatever prevents it."""

    def seconds(self, work: Callable[[], Any]) -> float:
        """How long the device takes for ``work``, by the clock on the wall."""


class CudaRecorder:
    """CUDA graphs, as torch's documentation asks for them: warmed up and recorded on a stream of their own, memory in a pool of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = None  # one, on which libraries' workspaces stay where they are

    def record(self, compute: Callable[[], Any]) -> Recording:
        """See :class:`Recorder`. Other threads may go on using the device."""
        with _one_at_a_time, torch.cuda.device(self.device):
            stream = self._stream = self._stream or torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    compute()
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved(self.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = compute()
            return _CudaRecording(graph, outputs, max(0, torch.cuda.memory_reserved(self.device) - before))

    def seconds(self, work: Callable[[], Any]) -> float:
        """See :class:`Recorder`."""
        wait(self.device)
        began = time.perf_counter()
        work()
        wait(self.device)
        return time.perf_counter() - began


class _CudaRecording:
    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: Any, size: int) -> None:
        self.graph, self.outputs, self.bytes = graph, outputs, size

    def replay(self) -> Any:
        self.graph.replay()
        return self.outputs


class _Rehearsal(TorchDispatchMode):
    """Refuses operations that a recording cannot hold."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        unsettled = not UNSETTLED.isdisjoint(func.tags)
        if func in INDEXED:  # by positions the size of what comes out is known; by a mask it has to be counted first
            unsettled = any(one.dtype in (torch.bool, torch.uint8) for one in tensors(args[1]))
        if unsettled:
            self._refuse(func)
        with self:  # in inference mode operations that consist of others come here whole
            found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
        found = func(*args, **kwargs)
        apart = [one for one in tensors(found) if self._elsewhere(one)]
        apart += [one for one in tensors([args, kwargs]) if self._elsewhere(one) and (one.ndim or func in MOVING)]
        if apart:
            self._refuse(func)
        return found

    def _elsewhere(self, tensor: Tensor) -> bool:
        return tensor.device.type != self.device.type

    def _refuse(self, func: Any) -> None:
        raise UnsupportedError(
            say("{operation} waits for the device or reads what lies elsewhere", operation=str(func))
        )


@contextmanager
def rehearsal(device: torch.device) -> Iterator[None]:
    """Within the block an operation that a recording cannot hold raises :class:`UnsupportedError`: one that asks the device for a
    value or a size, or moves something to another device. A recording that fails half-way leaves torch's allocator (before 2.13)
    believing that it goes on, so none is begun that would.
    """
    with _Rehearsal(device):
        yield
