"""What is kept of jobs that are over: in memory and on disk, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from .job import Job

KEPT = 20  # finished jobs of one owner on disk; the oldest goes
DISK = 2_000_000_000  # bytes that these may take; the newest always stays
MEMORY = 1_000_000_000  # bytes of weights of all finished jobs, whose ever they are, that are held ready


def let_go(job: Job) -> None:
    """A finished job's result and what it began with leave the memory; its checkpoint opens it again, with what it began with."""
    job.order = job.result = None
    if job.sessions is not None:
        job.key = job.id  # it named data by their place in memory, where other data may come to lie


def too_many(over: Sequence[Job], size: Callable[[str], int]) -> list[Job]:
    """Of an owner's finished jobs, the newest first, those that have to go. size: bytes on disk of a job."""
    gone, total = [], 0
    for place, job in enumerate(over):
        total += size(job.id)
        if place >= KEPT or (place and total > DISK):
            gone.append(job)
    return gone


def beyond_memory(all_: Iterable[Job]) -> list[Job]:
    """Finished jobs to be let go, those first that were looked at longest ago; and those whose sessions have all ended. A running job is none of them."""
    ready = sorted((job for job in all_ if job.over and job.result is not None), key=lambda job: -job.used)
    gone, total = [], 0
    for place, job in enumerate(ready):
        total += held(job)
        if job.sessions == set() or (place and total > MEMORY):
            gone.append(job)
    return gone


def held(job: Job) -> int:
    """Bytes of weights of a job's result, and of a model that is no sample and that it began with."""
    modules = [job.result.module] if job.result is not None else []
    if job.order is not None and job.sessions is not None:
        modules.append(job.order.subject.module)
    return sum(map(weights, modules))


def weights(module: nn.Module) -> int:
    """Bytes of a module's parameters."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
