from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...core.errors import UnsupportedError
from ...core.message import say
from ...models.device import wait
from ...models.removal import gone, remove
from ...models.task import to_device
from ...models.trial import tensors
from . import Cost, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject

SAMPLES, REPEATS = 64, 9
FLOOR = 0.002  # of the whole model's time: what is smaller drowns in the clock's noise


@registry.register("ms")
class Millisecond(Cost):
    """Over measured milliseconds: score / ms, so that of two equally important units the one that takes more time goes first.

    Half of the group's units are really removed, and the smaller model is run on 64 samples beside the original, in turns, nine times;
    a unit's time is the difference of the medians over the units removed, and at least 0.2 % of the model's time over them all. Measured
    on this machine, once a session. Only of units: a zero among the weights of a dense layer saves no time.
    Source: after Yang et al. 2018, "NetAdapt", arXiv 1804.03230, which measures instead of counting.
    """

    title = "ms"

    def why_not(self, subject: Subject, name: str) -> str | None:
        if name not in subject.structure.cuts:
            return say(
                "a zero among the weights of a dense layer saves no time; prune units instead (granularity='unit'), or divide by mac or byte"
            )
        return None

    def of_weight(self, subject: Subject, name: str) -> float:
        raise UnsupportedError(say("{name}: {why}", name=name, why=self.why_not(subject, name)))

    def of_unit(self, subject: Subject, cut: Cut) -> float:
        key = ("ms a unit", subject.version, cut.group.name)
        return subject.memo.get(key, lambda: {"ms": measure(subject, cut)})["ms"]


@torch.inference_mode()
def measure(subject: Subject, cut: Cut) -> float:
    """Milliseconds on the module's device that one unit takes in a batch of 64 samples, by removing half of them."""
    import copy

    first = next(subject.module.parameters(), torch.empty(0))
    inputs = to_device(subject.task.example(SAMPLES), first.device, first.dtype)
    whole, smaller = subject.copy(), copy.deepcopy(subject.module).eval()
    kept = torch.arange(0, cut.group.units, 2)
    remove(smaller, gone([(cut, kept)]))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS + 2):
        for module, found in zip((whole, smaller), times, strict=True):
            found.append(_run(subject, module, inputs))
    before, after = (statistics.median(found[2:]) for found in times)  # the first two warm up
    return max(before - after, FLOOR * before) / (cut.group.units - len(kept))


def _run(subject: Subject, module: nn.Module, inputs: Any) -> float:
    began = time.perf_counter()
    subject.task.forward(module, inputs)
    wait(next((one.device for one in tensors(inputs)), torch.device("cpu")))
    return 1000 * (time.perf_counter() - began)
