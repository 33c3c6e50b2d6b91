"""Where each layer stands under the machine's roof: its FLOPs a byte, and the FLOPs a second it reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..compress.apply import compress
from ..compress.plan import Plan
from ..core.errors import Cancelled
from ..core.explanation import Roofline, RooflinePoint
from ..core.message import say
from ..evaluate.macs import count
from ..models.device import wait
from ..models.subject import Subject
from ..models.task import to_device
from ..models.trial import tensors
from . import machine

ROUNDS = 15


@dataclass(frozen=True)
class Traffic:
    """Bytes of one call of a module at fp32: its own weights, what enters, what leaves."""

    weights: int
    inputs: int
    outputs: int


def _modules(subject: Subject) -> list[str]:
    """FQNs of the modules that own layers, in forward order."""
    return list(dict.fromkeys(layer.module for layer in subject.layers if layer.kind != "other" and layer.module))


def _held(subject: Subject, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those of them that a compressed module still has."""
    held = dict(module.named_modules())
    return [(name, held[name]) for name in _modules(subject) if name in held]


@torch.no_grad()
def traffic(subject: Subject, plan: Plan, batch: int = 1) -> dict[str, Traffic]:
    """{module FQN: bytes moved} of a forward pass on ``batch`` samples, units removed; cached by structure."""
    cut = tuple(sorted((t, d, tuple(i.tolist())) for t, dims in plan.dropped.items() for d, i in dims.items()))
    key = ("traffic", subject.version, cut, batch)
    return subject.memo.get(key, lambda: _traffic(subject, compress(subject, plan.without_inputs()).to("cpu"), batch))


def _traffic(subject: Subject, module: nn.Module, batch: int) -> dict[str, Traffic]:
    found: dict[str, Traffic] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(child: nn.Module, args: Any, output: Any) -> None:
            weights = sum(p.numel() * p.element_size() for p in child.parameters(recurse=False))
            sizes = [sum(t.numel() * t.element_size() for t in tensors(value)) for value in (args, output)]
            found[name] = Traffic(weights, *sizes)

        return hook

    with ExitStack() as stack:
        for name, child in _held(subject, module):
            stack.callback(child.register_forward_hook(look(name)).remove)
        subject.task.forward(module, to_device(subject.task.example(batch), "cpu"))
    return found


def roofline(
    subject: Subject,
    plan: Plan,
    batch: int = 64,
    device: str | torch.device = "cpu",
    cancel: Callable[[], bool] | None = None,
) -> Roofline:
    """The original's and the compressed module's layers in PyTorch, fp32, on ``batch`` samples.

    FLOPs are two a multiply-accumulate (counted on the meta device); bytes are weights, inputs and outputs once each; times
    are medians of forward passes, measured between hooks. Layers that are rounded still run in fp32 here.
    """
    device = torch.device(device)
    peak, bandwidth = machine.peaks(device)
    points: list[RooflinePoint] = []
    for what, one in (("original", Plan({}, {})), ("compressed", plan)):
        macs = count(subject, one.dropped).modules
        moved = traffic(subject, one, batch)
        seconds = _times(subject, compress(subject, one.without_inputs()).to(device), batch, device, cancel)
        for name in _modules(subject):
            if macs.get(name) and name in moved:
                total = moved[name].weights + moved[name].inputs + moved[name].outputs
                points.append(RooflinePoint(name, what, batch, 2 * macs[name] * batch, total, seconds.get(name)))
    return Roofline(peak, bandwidth, tuple(points), torch.get_num_threads(), machine.name(device))


@torch.inference_mode()
def _times(
    subject: Subject, module: nn.Module, batch: int, device: torch.device, cancel: Callable[[], bool] | None
) -> dict[str, float]:
    """{module FQN: median seconds of its calls in a forward pass}."""
    seen: dict[str, list[float]] = {}
    began: dict[str, float] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            wait(device)
            began[name] = time.perf_counter()

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            wait(device)
            seen.setdefault(name, []).append(time.perf_counter() - began[name])

        return hook

    inputs = to_device(subject.task.example(batch), device)
    with ExitStack() as stack:
        for name, child in _held(subject, module):
            stack.callback(child.register_forward_pre_hook(enter(name)).remove)
            stack.callback(child.register_forward_hook(leave(name)).remove)
        for _ in range(ROUNDS):
            if cancel is not None and cancel():
                raise Cancelled(say("measuring was cancelled"))
            subject.task.forward(module, inputs)
    return {name: sorted(times)[len(times) // 2] for name, times in seen.items()}
