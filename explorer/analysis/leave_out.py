"""How the loss changes when one unit, or one run of weights, is really left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.device import exact
from ..models.device import place as to
from ..models.norms import norms_of, over_survivors
from ..models.removal import gone
from ..models.replica import Replica
from ..models.structure import Cut
from ..models.subject import Subject
from ..models.task import copied
from .look import CHUNK, Look, chunks, loss_of

SAMPLES = 256  # looked at, at most
RUNS = 256  # of neighbouring weights a layer, at most


@dataclass(frozen=True, eq=False)
class Job:
    """One thing to leave out: {tensor: entries that become zero, an index into it}, and norms over survivors."""

    zero: Mapping[str, tuple[Any, ...]]
    norms: Mapping[str, Tensor]


def unit_changes(subject: Subject, cut: Cut, look: Look) -> Tensor:
    """[units]: the mean loss without the unit, minus the mean loss. Masked as its removal would, which is the same. Cached."""
    look = replace(look, samples=min(look.samples, SAMPLES))
    layers = {layer.name: len(layer.shape) for layer in subject.layers}

    def job(unit: int) -> Job:
        others = torch.arange(cut.group.units)
        dropped = gone([(cut, others[others != unit])])
        zero = {
            name: tuple((*(slice(None),) * dim, index) for dim, index in dims.items())
            for name, dims in dropped.items()
            if name in layers
        }
        return Job(zero, norms_of(dropped))

    key = ("left out units", subject.version, cut.group.name, look.key)
    return subject.memo.get(key, lambda: _changes(subject, look, [job(unit) for unit in range(cut.group.units)]))


def weight_changes(subject: Subject, name: str, look: Look) -> tuple[Tensor, Tensor]:
    """Two tensors of the weight's shape: the change of the mean loss without the weight's run, over the run's length; and the run's
    norm, over its length too. Runs have ceil(n / 256) weights of n. Cached."""
    look = replace(look, samples=min(look.samples, SAMPLES))
    weight = subject.weight(name)
    length = -(-weight.numel() // RUNS)
    runs = -(-weight.numel() // length)

    def job(run: int) -> Job:
        flat = np.arange(run * length, min((run + 1) * length, weight.numel()))
        return Job({name: (tuple(torch.from_numpy(i) for i in np.unravel_index(flat, weight.shape)),)}, {})

    def find() -> tuple[Tensor, Tensor]:
        change = _changes(subject, look, [job(run) for run in range(runs)])
        place = torch.arange(weight.numel()) // length
        sizes = torch.bincount(place).double()
        norms = (
            torch.zeros(runs, dtype=torch.float64).index_add_(0, place, weight.flatten().cpu().double().square()).sqrt()
        )
        spread = [to((one / sizes)[place].view(weight.shape), weight.device) for one in (change, norms)]
        return spread[0], spread[1]

    return subject.memo.get(("left out weights", subject.version, name, look.key), find)


@torch.no_grad()
def _changes(subject: Subject, look: Look, jobs: list[Job]) -> Tensor:
    """float64 [jobs] on the CPU."""
    replica = Replica(subject.module, look.where)
    names = {name for job in jobs for name in job.zero}
    own = {name: replica.convert(subject.weight(name)).clone() for name in names}  # ours to write to
    total = torch.zeros(len(jobs), dtype=torch.float64)
    count = done = 0
    first = next(replica.module.parameters(), torch.empty(0))
    work = -(-min(look.samples, len(subject.task.dataset("train"))) // CHUNK) * len(jobs)
    with exact(look.where), replica.weights(own) as module:

        def loss(inputs: Any, targets: Any) -> float:
            return float(loss_of(subject, subject.task.forward(module, copied(inputs)), targets))  # inputs may be written to

        for inputs, targets, n in chunks(subject, replace(look, progress=None), CHUNK, first.dtype):
            base = loss(inputs, targets)
            for index, job in enumerate(jobs):
                for name, places in job.zero.items():
                    for place in places:
                        own[name][place] = 0
                with over_survivors(module, job.norms):
                    total[index] += n * (loss(inputs, targets) - base)
                for name, places in job.zero.items():
                    for place in places:
                        own[name][place] = subject.weight(name)[place].to(own[name])
                done += 1
                if done % 16 == 0:
                    look.told(done, work, subject.name)
            count += n
    return total / count
