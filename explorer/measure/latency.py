"""Latency of opened files: every variant of a batch size takes its turn in every round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..core.explanation import Latency
from ..models.calls import Call, calls
from ..models.device import wait
from ..models.subject import Subject
from . import machine
from .artefacts import TORCH, Artefact
from .timing import interleaved, quartiles


def latencies(
    subject: Subject,
    made: Sequence[Artefact],
    batches: Sequence[int] = (1, 64),
    seconds: float = 1.0,
    device: torch.device | str = "cpu",
    cancel: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Latency]:
    """Seconds of one call on real samples at each batch size; ``seconds`` of measuring for each.

    ONNX Runtime and PyTorch run on the CPU with as many threads as torch has now; on an accelerator PyTorch runs as well.
    """
    cpu, other = torch.device("cpu"), torch.device(device)
    found: list[Latency] = []
    for i, batch in enumerate(batches):
        if progress is not None:
            progress(i, len(batches))
        call = calls(subject, subject.copy().to("cpu"), (batch,))[0]
        for where in [cpu, *([other] if other.type != "cpu" else [])]:
            variants = [one for one in made if where.type == "cpu" or (one.engine == TORCH and one.format != "pt2")]
            runs = [_run(one, call, where) for one in variants]
            times = interleaved(runs, seconds, cancel)
            for one, mine in zip(variants, times, strict=True):
                median, low, high = quartiles(mine)
                label = machine.name(where)
                threads = torch.get_num_threads()
                found.append(
                    Latency(one.what, one.format, one.engine, batch, median, low, high, len(mine), threads, label)
                )
                one.module.to("cpu")
    return found


def _run(one: Artefact, call: Call, device: torch.device) -> Callable[[], object]:
    """A call that returns when the outputs are there; of a session without the way through tensors."""
    session: Any = getattr(one.module, "session", None)
    if session is not None:
        given = call.tensors()
        feed = {key.name: given[key.name].numpy() for key in session.get_inputs()}
        return lambda: session.run(None, feed)
    moved, module = call.to(device), one.module.to(device) if device.type != "cpu" else one.module

    def run() -> None:
        with torch.inference_mode():
            module(*moved.args, **moved.kwargs)
        wait(device)

    return run
