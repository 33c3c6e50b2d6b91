"""How the loss changes when one unit, or one run of weights, is really left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..models.norms import norms_of
from ..models.removal import alive, gone
from ..models.replica import Replica
from ..models.structure import Cut
from ..models.subject import Subject
from .look import Look, chunks, exact, loss_of

SAMPLES = 256  # looked at, at most
RUNS = 256  # of neighbouring weights a layer, at most
CHUNK = 128

Job = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]  # weights to compute with, norms over survivors


def unit_changes(subject: Subject, cut: Cut, look: Look) -> Tensor:
    """[units]: the mean loss without the unit, minus the mean loss. Masked as its removal would, which is the same. Cached."""
    look = replace(look, samples=min(look.samples, SAMPLES))
    shapes = {layer.name: layer.shape for layer in subject.layers}

    def job(unit: int) -> Job:
        dropped = gone([(cut, torch.tensor([u for u in range(cut.group.units) if u != unit]))])
        inside = {name: dims for name, dims in dropped.items() if name in shapes}
        weights = {name: subject.weight(name) * alive(shapes[name], dims).to(subject.weight(name).device) for name, dims in inside.items()}
        return weights, norms_of(dropped)

    key = ("left out units", subject.version, cut.group.name, look.key)
    return subject.memo.get(key, lambda: _changes(subject, look, cut.group.units, job))


def weight_changes(subject: Subject, name: str, look: Look) -> tuple[Tensor, Tensor]:
    """Two tensors of the weight's shape: the change of the mean loss without the weight's run, over the run's length; and the run's
    norm, over its length too. Runs have ceil(n / 256) weights of n. Cached."""
    look = replace(look, samples=min(look.samples, SAMPLES))
    weight = subject.weight(name).contiguous()
    length = -(-weight.numel() // RUNS)
    runs = -(-weight.numel() // length)

    def job(run: int) -> Job:
        left = weight.clone()
        left.view(-1)[run * length : (run + 1) * length] = 0
        return {name: left}, {}

    def find() -> tuple[Tensor, Tensor]:
        change = _changes(subject, look, runs, job)
        place = torch.arange(weight.numel()) // length
        sizes = torch.bincount(place).double()
        norms = torch.zeros(runs, dtype=torch.float64).index_add_(0, place, weight.flatten().double().cpu().square()).sqrt()
        spread = [(one / sizes)[place].view(weight.shape).to(weight.device) for one in (change, norms)]
        return spread[0], spread[1]

    return subject.memo.get(("left out weights", subject.version, name, look.key), find)


@torch.no_grad()
def _changes(subject: Subject, look: Look, jobs: int, job: Callable[[int], Job]) -> Tensor:
    """float64 [jobs] on the CPU."""
    replica = Replica(subject.module, look.where)
    total = torch.zeros(jobs, dtype=torch.float64)
    count = done = 0
    first = next(replica.module.parameters(), torch.empty(0))
    quiet = replace(look, progress=None)
    work = -(-min(look.samples, len(subject.task.dataset("train"))) // CHUNK) * jobs
    with exact(look.where):
        for inputs, targets, n in chunks(subject, quiet, CHUNK, first.dtype):
            base = float(loss_of(subject, subject.task.forward(replica.module, inputs), targets))
            for index in range(jobs):
                weights, norms = job(index)
                with replica.weights(weights, norms) as masked:
                    total[index] += n * (float(loss_of(subject, subject.task.forward(masked, inputs), targets)) - base)
                done += 1
                if done % 16 == 0:
                    look.told(done, work, subject.name)
            count += n
    return total / count
