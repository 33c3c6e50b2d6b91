"""Recovery in seconds, without labels or gradients: norms and biases re-estimated on training inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..compress.build import build
from ..compress.calibrate import chosen_samples
from ..compress.plan import Plan
from ..compress.resolve import resolve
from ..core.checks import shown
from ..core.errors import Cancelled, EvaluationError, RecipeError, SettingsError, failed
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Entry, Note
from ..models.chains import chains
from ..models.device import exact, pick, place
from ..models.joules import Meter, counter
from ..models.layers import CONVOLUTIONS, TRANSPOSED
from ..models.removal import select
from ..models.sites import attach, detach
from ..models.subject import Subject, checked
from ..models.task import copied, to_device
from ..models.trial import tensors
from .checks import count
from .derive import child
from .score import Scorer
from .start import carried

STEPS = ("norms", "biases")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BATCH = 128


def recalibrate(
    subject: Subject,
    recipe: Recipe | None = None,
    *,
    steps: str | Sequence[str] = STEPS,
    samples: int = 2048,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
    cancel: Callable[[], bool] | None = None,
    name: str | None = None,
) -> Subject:
    """Re-estimate what pruning and rounding have shifted, on ``samples`` training inputs; returns a new :class:`Subject`.

    "norms": the running mean and variance of every BatchNorm, as the mean over batches of the compressed model's own activations. "biases":
    in forward order, the bias of every convolution and linear layer gets the difference of its outputs' means, original less compressed, a
    channel; layers whose output a BatchNorm re-centers have no use for it. No labels and no gradients are needed. A step is kept only where the outputs of the
    model come closer to the original's on the same inputs (by Kullback-Leibler divergence; mean square for outputs that are no logits); the history's notes say what each step gained.

    ``progress(done, total)`` in batches. Raises :class:`RecipeError` (no train split), :class:`EvaluationError`, :class:`Cancelled`.
    Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2 and appendix D (empirical bias correction); Li et al. 2020 (EagleEye), arXiv 2007.02491,
    section 3.3 (adaptive batch normalization).
    """
    checked(subject)
    chosen = (steps,) if isinstance(steps, str) else tuple(steps) if isinstance(steps, Iterable) else (steps,)
    if not all(one in STEPS for one in chosen):
        raise SettingsError(say("steps={steps}; accepted: {accepted}", steps=shown(steps), accepted=", ".join(STEPS)))
    count("samples", samples)
    if "train" not in subject.task.splits:
        raise RecipeError(
            say("{subject}: there is no train split to learn from; accepted: a task with train=", subject=subject.name)
        )
    began, recipe = time.perf_counter(), recipe if recipe is not None else Recipe()
    where = pick(device)
    meter = Meter(counter(where))
    meter.start()
    work = _Work(subject, recipe, where, samples, progress, cancel, len(chosen))
    notes = [note for step in chosen for note in work.step(step)]
    after = work.after
    detach(work.module, work.attached)
    first = next(subject.module.parameters(), torch.empty(0))
    module = work.module._apply(lambda tensor: place(tensor, first.device)).eval()
    meter.stop()
    entry = Entry(
        "recalibration", recipe, subject.name, subject.digest, {"steps": list(chosen), "samples": work.count}, seconds=time.perf_counter() - began,
        evaluations=work.scorer.passes, before=work.before, damaged=work.damaged, after=after, metric=next(iter(after)), notes=tuple(notes), device=str(work.device),
        energy=meter.joules, energy_source=meter.source,
    )  # fmt: skip
    return child(subject, module, carried(subject, recipe, work.plan, module), entry, name)


class _Work:
    """The compressed module and the original on a device, and the inputs that both see."""

    def __init__(
        self,
        subject: Subject,
        recipe: Recipe,
        device: torch.device,
        samples: int,
        progress: Any,
        cancel: Any,
        steps: int,
    ) -> None:
        self.subject, self.device, self.progress, self.cancel = subject, device, progress, cancel
        self.plan: Plan = resolve(subject, recipe)
        self.module = build(subject, self.plan.without_inputs())._apply(lambda tensor: place(tensor, device))
        self.attached = attach(self.module, {name: one.to(device) for name, one in self.plan.roundings().items()})
        self.original = subject.copy()._apply(lambda tensor: place(tensor, device))
        self.scorer = Scorer(subject, device)
        indices = chosen_samples(subject, samples)
        self.count = len(indices)
        self.batches = [indices[at : at + BATCH] for at in range(0, len(indices), BATCH)]
        if len(self.batches) > 1 and len(self.batches[-1]) == 1:
            alone = self.batches.pop()
            self.batches[-1] += alone
        self.done, self.total = 0, len(self.batches) * (3 * steps + 1)
        self.before = self.scorer(self.original)
        self.damaged = self.scorer(self.module) if self.plan.state else dict(self.before)
        self.after = self.damaged
        self.gap: float | None = None

    def run(self, *modules: nn.Module) -> Iterator[list[Any]]:
        """Outputs of the modules on each batch."""
        for batch in self.batches:
            if self.cancel is not None and self.cancel():
                raise Cancelled(
                    say("{subject}: recalibration cancelled; nothing was changed", subject=self.subject.name)
                )
            inputs = to_device(self.subject.task.batch("train", batch)[0], self.device)
            try:
                with torch.no_grad(), exact(self.device):
                    found = [self.subject.task.forward(module, copied(inputs)) for module in modules]  # which it may write to
            except Exception as error:
                where = say("{subject}: forward failed on train samples {first}...", subject=self.subject.name, first=batch[:3])
                raise failed(where, error) from error
            if any(bool(one.isnan().any()) for one in tensors(found)):
                raise EvaluationError(
                    say(
                        "{subject}: the output holds NaN for train samples {first}...; accepted: finite inputs and outputs",
                        subject=self.subject.name,
                        first=batch[:3],
                    )
                )
            yield found
            self.done += 1
            if self.progress is not None:
                self.progress(min(self.done, self.total), self.total)

    def distance(self) -> float:
        """How far the outputs are from the original's: the mean Kullback-Leibler divergence of their softmax for tasks whose outputs are
        logits, else the mean squared difference."""
        sums, n = 0.0, 0
        for before, after in self.run(self.original, self.module):
            for a, b in zip(tensors(before), tensors(after), strict=True):
                if a.is_floating_point() and a.shape == b.shape and a.numel():
                    if (
                        self.subject.task.kind in ("classification", "language_model", "agreement")
                        and a.ndim > 1
                        and a.shape[-1] > 1
                    ):
                        a, b = a.float().log_softmax(-1), b.float().log_softmax(-1)
                        gap = a.exp() * (a - b).nan_to_num(0.0, 0.0, 0.0)
                        sums, n = sums + float(gap.sum()), n + a.numel() // a.shape[-1]
                    else:
                        sums, n = sums + float((a - b).float().square().sum()), n + a.numel()
        return sums / max(n, 1)

    def step(self, step: str) -> list[Note]:
        """Do it, keep it where the outputs come closer to the original's."""
        if self.gap is None:
            self.gap = self.distance()
        kept = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        if not (self.norms() if step == "norms" else self.biases()):
            return []
        gap, was = self.distance(), self.after
        found = self.scorer(self.module)
        metric = next(iter(found))
        values: dict[str, Any] = {
            "step": step,
            "before": was[metric].value,
            "after": found[metric].value,
            "gap_before": self.gap,
            "gap": gap,
            "kept": gap < self.gap,
        }
        if gap < self.gap:
            self.gap, self.after = gap, found
            text = say(
                "{step}: {metric} {before:.4f} to {after:.4f}",
                step=step,
                metric=metric,
                before=values["before"],
                after=values["after"],
            )
        else:
            self.module.load_state_dict(kept)
            text = say("{step}: not kept, the outputs would be farther from the original's", step=step)
        return [Note(0, 0, text, values)]

    def norms(self) -> int:
        """Running statistics anew; returns how many norms there are."""
        found = [one for one in self.module.modules() if isinstance(one, BATCH_NORMS) and one.track_running_stats]
        momenta = [one.momentum for one in found]
        for one in found:
            one.reset_running_stats()
            one.momentum = None  # the mean over batches
            one.train()
        try:
            if found:
                for _ in self.run(self.module):
                    pass
        finally:
            for one, momentum in zip(found, momenta, strict=True):
                one.momentum = momentum
                one.eval()
        return len(found)

    def biases(self) -> int:
        """Bias after bias, in forward order; returns how many there are."""
        mine = dict(self.module.named_modules())
        centered = {chain.producer.rpartition(".")[0] for chain in chains(self.subject) if chain.norm}
        names = [
            name
            for name in dict.fromkeys(layer.name.rpartition(".")[0] for layer in self.subject.layers)
            if name not in centered
            and isinstance(mine.get(name), (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
            and getattr(mine[name], "bias", None) is not None
        ]
        goals = means(self, self.original, names)
        for name in names:
            if name not in goals:
                continue
            now = means(self, self.module, [name]).get(name)
            goal = select(goals[name], dict(self.plan.dropped.get(f"{name}.bias", {})))
            bias: Any = mine[name].bias
            if now is not None and now.shape == goal.shape == bias.shape:
                bias.data.add_((goal - now).to(bias))
        return len(goals)


def means(work: _Work, module: nn.Module, names: list[str]) -> Mapping[str, Tensor]:
    """{module FQN: [channels] mean of its outputs over samples and places}."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[[Any, Any, Any], None]:
        def see(owner: Any, _: Any, output: Tensor) -> None:
            dim = -1 if isinstance(owner, nn.Linear) else 1 if output.ndim == owner.weight.ndim else 0
            rows = output.detach().movedim(dim, -1).flatten(0, -2)
            total = rows.cpu().double().sum(0)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] = counts.get(name, 0) + len(rows)

        return see

    hooks = [module.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        for _ in work.run(module):
            pass
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counts[name] for name, total in sums.items()}
