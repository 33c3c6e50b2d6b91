"""How much rounding loses: signal-to-quantization-noise ratios of weights and activations, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.recipe import Recipe
from ..models.device import precise
from ..models.quantized import Watcher
from ..models.sites import rounded
from ..models.subject import Subject
from .build import build, effective_weights
from .calibrate import Cancel, Progress, run
from .codes import Uniform
from .plan import Plan
from .resolve import resolve

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 128
BLOCK = 1 << 22  # entries


@dataclass(frozen=True)
class Loss:
    """bits. signal, noise: mean of x^2 and of (q(x) - x)^2. n: values."""

    bits: int
    signal: float
    noise: float
    n: int

    @property
    def sqnr(self) -> float | None:
        """10 log10(signal / noise) in dB; infinity where nothing is lost, None where there is no signal."""
        if self.signal == 0:
            return None
        return math.inf if self.noise == 0 else 10 * math.log10(self.signal / self.noise)


class _Tally:
    """Sums over what passes, for one weight."""

    def __init__(self, codes: Uniform) -> None:
        self.codes = codes
        self.signal = self.noise = 0.0
        self.n = 0

    def see(self, x: Tensor) -> None:
        x = x.detach().float()
        there = precise(x.device)
        self.signal += float(x.to(there).double().square().sum())
        self.noise += float((self.codes.fake_quantize(x) - x).to(there).double().square().sum())
        self.n += x.numel()


def weight_loss(subject: Subject, plan: Plan, name: str) -> Loss | None:
    """What rounding the (pruned) weight of a layer loses; None where it is not quantized."""
    mine = plan.layers.get(name)
    if mine is None or mine.codes is None:
        return None
    before, after = mine.before_quantization(subject.weight(name)).reshape(-1), effective_weights(subject, plan)[name].reshape(-1)
    signal = noise = 0.0
    for start in range(0, before.numel(), BLOCK):  # in float64, of a few entries at a time
        x, y = (one[start : start + BLOCK].cpu().double() for one in (before, after))
        signal += x.square().sum().item()
        noise += (x - y).square_().sum().item()
    n = max(before.numel(), 1)
    return Loss(mine.codes.bits, signal / n, noise / n, before.numel())


def activation_losses(
    subject: Subject, plan: Plan, samples: int = SAMPLES, progress: Progress = None, cancel: Cancel = None
) -> dict[str, Loss]:
    """{layer: what rounding its input loses}, by itself: the inputs are those of the model with rounded weights and exact
    activations, on the calibration samples. Kept by content."""
    if not plan.inputs:
        return {}

    @torch.no_grad()
    def measure() -> dict[str, Loss]:
        module = build(subject, plan.without_inputs())
        device = next(module.parameters()).device
        tallies = {name: _Tally(_on(codes, device)) for name, codes in plan.inputs.items()}
        with rounded(module, {name: Watcher(one.see) for name, one in tallies.items()}):
            for _ in run(subject, module, samples, progress, cancel):
                pass
        return {
            name: Loss(one.codes.bits, one.signal / max(one.n, 1), one.noise / max(one.n, 1), one.n)
            for name, one in tallies.items()
        }

    return subject.memo.get(("activation loss", subject.version, plan.digest, samples), measure)


def _on(codes: Uniform, device: Any) -> Uniform:
    from dataclasses import replace

    return replace(codes, scale=codes.scale.to(device), zero_point=codes.zero_point.to(device))


def quantization_error(
    subject: Subject, recipe: Recipe, *, samples: int = SAMPLES, progress: Progress = None, cancel: Cancel = None
) -> pd.DataFrame:
    """What quantization loses, one row a quantized weight and a quantized activation.

    Columns: layer; what ("weight" or "activation"); bits; sqnr_db, the signal-to-quantization-noise ratio
    10 log10(sum x^2 / sum (q(x) - x)^2), infinite where nothing is lost and NaN where all is zero; mse, the mean of (q(x) - x)^2.
    Weights are compared as pruned; activations on ``samples`` of the train split. ``progress(done, total)``, ``cancel()``.
    Raises what :func:`resolve` raises. Source: Nagel et al. 2021, arXiv 2106.08295; Widrow, Kollar 2008, Quantization Noise.
    """
    import pandas as pd

    plan = resolve(subject, recipe, cancel=cancel)
    inputs = activation_losses(subject, plan, samples, progress, cancel)
    rows = []
    for layer in subject.layers:
        for what, found in (("weight", weight_loss(subject, plan, layer.name)), ("activation", inputs.get(layer.name))):
            if found is not None:
                decibel = math.nan if found.sqnr is None else found.sqnr
                rows.append(
                    {"layer": layer.name, "what": what, "bits": found.bits, "sqnr_db": decibel, "mse": found.noise}
                )
    return pd.DataFrame(rows, columns=["layer", "what", "bits", "sqnr_db", "mse"])
