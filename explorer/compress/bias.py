"""Bias correction: what rounding weights adds to a layer's mean output is taken off its bias, from input to output."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.rules import BIAS_CORRECTION
from ..models.chains import chains
from ..models.device import precise
from ..models.layers import CONVOLUTIONS, TRANSPOSED
from ..models.quantized import Watcher
from ..models.sites import rounded
from ..models.subject import Subject
from .build import build, effective_weights
from .calibrate import Cancel, Progress, run, sites
from .plan import LayerPlan, Plan, spread

SAMPLES = 128


def corrected(
    subject: Subject, plan: Plan, holds: Mapping[str, Mapping[str, int]], progress: Progress, cancel: Cancel
) -> Plan:
    """``plan`` with biases b - (E[q(W) x'] - E[W x]) for the quantized layers that ask for it, on 128 train samples.

    x: a layer's input in the model before rounding; x': its input in the rounded model in which all layers in front are corrected
    already. So every corrected layer's mean output is that of the original on these samples, channel by channel. Recurrent
    layers, and those that run several times in a forward pass, are corrected first, by E[(q(W) - W) x]: b_ih by the input, b_hh by
    the hidden state. A layer without a bias passes the correction to the mean of the BatchNorm right behind it; one with neither
    (and attention's fused projections) stays as it is.
    Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2, eq. 15 to 17, and appendix D (empirical bias correction).
    """
    if not any(BIAS_CORRECTION in kinds for kinds in holds.values()):
        return plan
    named = dict(subject.module.named_parameters(remove_duplicate=False))
    norms = {chain.producer: chain.norm for chain in chains(subject) if chain.norm}
    goals: dict[str, tuple[str, float]] = {}
    for name, codes in plan.codes.items():
        if BIAS_CORRECTION in holds[name] and codes is not None and sites(subject).get(name, "") is None:
            owner, _, local = name.rpartition(".")
            bias = name[: len(name) - len(local)] + local.replace("weight", "bias", 1)
            if not local.startswith("weight") or local.startswith("weight_hr"):
                continue
            if bias in named:
                goals[name] = bias, -1.0
            elif name in norms:
                goals[name] = f"{norms[name]}.running_mean", 1.0
    if not goals:
        return plan
    key = ("bias correction", subject.version, plan.digest, tuple(sorted(goals)))
    return subject.memo.get(key, lambda: _corrected(subject, plan, goals, progress, cancel))


def _corrected(
    subject: Subject, plan: Plan, goals: Mapping[str, tuple[str, float]], progress: Progress, cancel: Cancel
) -> Plan:
    exact = replace(plan, layers={name: replace(one, codes=None) for name, one in plan.layers.items()})
    means, often = _means(subject, exact, list(goals), {}, 0, progress, cancel)
    apart = [name for name in goals if name in often or name not in means]
    plan = _shifted(subject, plan, goals, _own(subject, plan, exact, apart, progress, cancel))
    rest = {name: mean for name, mean in means.items() if name not in apart}
    after, _ = _means(subject, plan, list(rest), rest, 2, progress, cancel)
    return _shifted(subject, plan, goals, {name: after[name] - rest[name] for name in rest})


def _shifted(
    subject: Subject, plan: Plan, goals: Mapping[str, tuple[str, float]], shifts: Mapping[str, Tensor]
) -> Plan:
    """The plan with these shifts [channels that remain] of mean outputs taken back."""
    module = subject.module
    everything = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    tensors = dict(plan.tensors)
    for name, shift in shifts.items():
        target, sign = goals[name]
        now = tensors.get(target, everything[target].detach())
        tensors[target] = now + sign * spread(shift, now.shape, plan.dropped.get(target, {})).to(now)
    return replace(plan, tensors=tensors)


@torch.no_grad()
def _means(
    subject: Subject, plan: Plan, names: list[str], goals: Mapping[str, Tensor], which: int, progress: Progress, cancel: Cancel
) -> tuple[dict[str, Tensor], set[str]]:  # fmt: skip
    """({layer: mean output [channels]} of linear layers and convolutions, those that ran more than once), all samples at once.

    Where a layer has a goal, its output is moved there before anything reads it: so one pass corrects from input to output.
    """
    module = build(subject, plan)
    found: dict[str, Tensor] = {}
    often: set[str] = set()

    def look(name: str, dim: int) -> Any:
        def hook(owner: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if name in found:
                often.add(name)
            here = output.movedim(dim, -1)
            mean = here.to(precise(output.device)).double().flatten(0, -2).mean(0) if here.ndim > 1 else here.double()
            found[name] = mean.float()
            goal = goals.get(name)
            return output if goal is None else (here - (found[name] - goal).to(here)).movedim(-1, dim)

        return hook

    owners: dict[str, Any] = {name: module.get_submodule(name.rpartition(".")[0]) for name in names}
    direct = {n: one for n, one in owners.items() if isinstance(one, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED))}
    # layers within fused kernels (attention's output projection) run as modules of their own there
    with rounded(module, {name: Watcher(lambda x: None) for name in direct}), ExitStack() as stack:
        for name, one in direct.items():
            dim = -1 if isinstance(one, nn.Linear) else 1 - one.weight.ndim
            stack.callback(one.register_forward_hook(look(name, dim)).remove)
        for _ in run(subject, module, SAMPLES, progress, cancel, which, 3, batch=SAMPLES):
            pass
    return found, often


@torch.no_grad()
def _own(
    subject: Subject, plan: Plan, exact: Plan, names: list[str], progress: Progress, cancel: Cancel
) -> dict[str, Tensor]:
    """{layer: [channels that remain]: mean over samples and places of (q(W) - W) x}, x from the model before rounding."""
    if not names:
        return {}
    module = build(subject, exact)
    after = effective_weights(subject, plan)
    sums: dict[str, list[Tensor]] = {name: [] for name in names}
    counts = dict.fromkeys(names, 0)

    def watch(name: str) -> Watcher:
        mine: LayerPlan = plan.layers[name]
        error = mine.remaining(after[name] - mine.before_quantization(subject.weight(name)))
        probe = _probe(module, name, error)

        def see(x: Tensor) -> None:
            found = probe(x.detach())
            sums[name].append(found.double().sum(0).cpu() if x.device.type != "mps" else found.cpu().double().sum(0))
            counts[name] += len(found)

        return Watcher(see)

    with rounded(module, {name: watch(name) for name in names}):
        for _ in run(subject, module, SAMPLES, progress, cancel, 1, 3):
            pass
    return {name: (sum(sums[name][1:], sums[name][0]) / counts[name]).float() for name in names if counts[name]}


def _probe(module: nn.Module, name: str, error: Tensor) -> Any:
    """x -> [places, channels]: the layer's product with ``error`` instead of its weight, without a bias."""
    owner: Any = module.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, (*CONVOLUTIONS, *TRANSPOSED)):
        probe: Any = copy.deepcopy(owner)
        probe.weight.data, probe.bias = error, None
        spatial = error.ndim - 2

        def convolve(x: Tensor) -> Tensor:
            found = probe(x if x.ndim == spatial + 2 else x[None])
            return found.movedim(1, -1).flatten(0, -2)  # type: ignore[no-any-return]

        return convolve
    return lambda x: x.flatten(0, -2) @ error.T if x.ndim > 1 else (x @ error.T)[None]
