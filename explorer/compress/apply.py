"""Plan + Subject -> weights for a masked run, or a new, smaller module; verified."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ..core.errors import VerificationError, failed
from ..core.message import joined, say
from ..core.recipe import Recipe
from ..models.device import exact, precise
from ..models.removal import remaining_shape
from ..models.replica import Replica
from ..models.subject import Subject
from ..models.task import copied, to_device
from ..models.trial import TOLERANCE, Double, difference, finite
from .build import build, effective_weights
from .plan import Plan
from .resolve import resolve

VERIFY_SAMPLES = 32


def verify(subject: Subject, plan: Plan, module: nn.Module, samples: int = VERIFY_SAMPLES) -> float:
    """Largest relative difference between the masked run and ``module`` on real inputs; doubt is settled in float64.

    Raises :class:`VerificationError` above 1e-5. Without data the weights are all that can be compared.
    """
    if subject.task.kind == "weights":
        return _same_weights(subject, plan, module)
    inputs = to_device(subject.task.example(samples), _device(module))
    gap = _gap(subject, plan, module, inputs, None)
    if gap > TOLERANCE:
        wide = copy.deepcopy(module).to(precise(_device(module))).double()
        gap = _gap(subject, plan, wide, inputs, torch.float64)
    if gap > TOLERANCE:
        units = [say("{group} ({count} stay)", group=g, count=len(kept)) for g, kept in plan.kept.items()]
        cut = joined([*units, *plan.removed], ", ")
        raise VerificationError(
            say(
                "{subject}: the compressed module differs from the masked original by {gap:.1e} (accepted: "
                "{tolerance:.0e}); cut: {cut}. Nothing was returned.",
                subject=subject.name,
                gap=gap,
                tolerance=TOLERANCE,
                cut=cut or say("no units"),
            )
        )
    return gap


def _same_weights(subject: Subject, plan: Plan, module: nn.Module) -> float:
    """0.0 where every layer holds exactly what the plan makes of it (no units go without a forward pass)."""
    for name, weight in effective_weights(subject, plan).items():
        if not torch.equal(module.get_parameter(name).cpu(), weight.cpu()):
            raise VerificationError(say("{layer}: the compressed weight is not what the plan says", layer=name))
    return 0.0


def verified(subject: Subject, plan: Plan) -> float:
    """How far the removal of a plan's units is from masking them, on real inputs; looked at once a plan.

    Raises :class:`VerificationError` above 1e-5.
    """
    key = ("verified", subject.version, plan.digest)
    return subject.memo.get(key, lambda: verify(subject, plan, build(subject, plan)))


def known_gap(subject: Subject, plan: Plan) -> float | None:
    """What :func:`verified` found before, or None."""
    found: float | None = subject.memo.peek(("verified", subject.version, plan.digest))
    return found


@torch.no_grad()
def _gap(subject: Subject, plan: Plan, module: nn.Module, inputs: Any, dtype: torch.dtype | None) -> float:
    inputs = to_device(inputs, _device(module), dtype)
    replica = Replica(subject.module, _device(module), dtype)
    try:
        with exact(replica.device), Double() if replica.dtype == torch.float64 else nullcontext():
            with replica.weights(effective_weights(subject, plan), plan.norms, plan.roundings()) as masked:
                reference = subject.task.forward(masked, copied(inputs))  # which it may write to
            result = subject.task.forward(module, inputs)
    except Exception as error:
        raise failed(say("{subject}: forward failed on real inputs", subject=subject.name), error) from error
    if dtype is not None and not finite(reference):  # float32 alone may overflow
        raise VerificationError(
            say("{subject}: its outputs on real inputs hold NaN or infinity, so nothing can be compared; accepted: finite outputs", subject=subject.name)
        )
    return difference(reference, result)


def _device(module: nn.Module) -> torch.device:
    first = next(module.parameters(), None)
    return first.device if first is not None else torch.device("cpu")


def compress(subject: Subject, recipe: Recipe | Plan) -> nn.Module:
    """The compressed model as a new nn.Module, without hooks or masks; units are physically removed.

    Where activations are quantized, a layer's class is a subclass that rounds what enters it: ``QuantizedLinear`` is an
    nn.Linear with the same parameters, and ``input_quantizers`` with scale and zero point as buffers beside them.

    Before it is returned its outputs on real inputs equal the masked original's (1e-5 relative), and the count of
    parameters fell by what the plan removes. Raises :class:`RecipeError`, :class:`UnsupportedError`,
    :class:`VerificationError`. The subject is left as it was.
    """
    plan = recipe if isinstance(recipe, Plan) else resolve(subject, recipe)
    module = build(subject, plan)
    if plan.structural:
        shapes = {
            name: remaining_shape(tuple(p.shape), plan.dropped.get(name, {}))
            for name, p in subject.module.named_parameters()
        }
        planned, left = sum(map(math.prod, shapes.values())), sum(p.numel() for p in module.parameters())
        if left != planned:
            raise VerificationError(
                say(
                    "{subject}: {left} parameters are left, where the plan leaves {planned}",
                    subject=subject.name,
                    left=left,
                    planned=planned,
                )
            )
    verify(subject, plan, module)
    return module
