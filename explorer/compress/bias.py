"""Bias correction: what rounding weights adds to a layer's mean output is taken off its bias."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.rules import BIAS_CORRECTION
from ..models.chains import chains
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
    """``plan`` with biases b - E[(q(W) - W) x] for the quantized layers that ask for it; x: inputs on 128 train samples.

    Recurrent layers: b_ih by their input, b_hh by their hidden state. A layer without a bias passes the correction to the mean of
    the BatchNorm right behind it; one with neither (and attention's fused projections) stays as it is.
    Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2, eq. 15 to 17 (measured instead of derived).
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
    shifts = subject.memo.get(key, lambda: _shifts(subject, plan, list(goals), progress, cancel))
    everything = named | dict(subject.module.named_buffers())
    tensors = dict(plan.tensors)
    for name, (target, sign) in goals.items():
        if name in shifts:
            now = tensors.get(target, everything[target].detach())
            tensors[target] = now + sign * spread(shifts[name], now.shape, plan.dropped.get(target, {})).to(now)
    return replace(plan, tensors=tensors)


@torch.no_grad()
def _shifts(subject: Subject, plan: Plan, names: list[str], progress: Progress, cancel: Cancel) -> dict[str, Tensor]:
    """{layer: [channels that remain]: mean over samples and places of (q(W) - W) x}, x from the model before rounding."""
    exact = replace(plan, layers={name: replace(one, codes=None) for name, one in plan.layers.items()})
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
        for _ in run(subject, module, SAMPLES, progress, cancel):
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
