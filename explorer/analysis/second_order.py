"""Products with the Hessian of the mean training loss, by gradients of gradients (Pearlmutter 1994, Neural Computation 6)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..core.errors import EvaluationError, ExplorerError, cause
from ..core.message import say
from ..models.device import exact
from ..models.subject import Subject
from ..models.unrolled import ready
from .evidence import evidence
from .look import CHUNK, Look, chunks, loss_of
from .probe import probe

PROBES = 8  # random vectors of the diagonal's estimate

Vectors = dict[str, Tensor]


def hessian_products(subject: Subject, look: Look, pick: Callable[[Vectors], list[Vectors]]) -> list[Vectors]:
    """[{layer: Hv}] for the vectors v that ``pick`` makes of {layer: a tensor of the weight's shape on the device}."""
    known = probe(subject)
    with torch.inference_mode(False), torch.enable_grad(), exact(look.where), sdpa_kernel(SDPBackend.MATH):
        module = ready(subject.module, look.where)
        parameters = dict(module.named_parameters())
        names = [layer.name for layer in subject.layers if layer.name not in known.dead]
        chosen = [parameters[name].requires_grad_(True) for name in names]
        vectors = pick({name: one.detach() for name, one in zip(names, chosen, strict=True)})
        total = [[torch.zeros_like(one) for one in chosen] for _ in vectors]
        count = 0
        try:
            for inputs, targets, n in chunks(subject, look, CHUNK, chosen[0].dtype):
                loss = loss_of(subject, subject.task.forward(module, inputs), targets)
                slopes = torch.autograd.grad(loss, chosen, create_graph=True, allow_unused=True)
                used = [i for i, slope in enumerate(slopes) if slope is not None and slope.requires_grad]
                for v, out in zip(vectors, total, strict=True):
                    along = [v[names[i]] for i in used]
                    found = torch.autograd.grad(
                        [slopes[i] for i in used], chosen, along, retain_graph=True, allow_unused=True
                    )
                    for place, part in zip(out, found, strict=True):
                        if part is not None:
                            place += part.detach() * n
                count += n
        except ExplorerError:
            raise
        except RuntimeError as error:
            raise EvaluationError(
                say(
                    "{name}: the loss cannot be differentiated twice: {cause}; fisher or taylor would do",
                    name=subject.name,
                    cause=cause(error, 200),
                )
            ) from error
    return [{name: part / count for name, part in zip(names, out, strict=True)} for out in total]


def hessian_gradient(subject: Subject, look: Look) -> Vectors:
    """{layer: Hg}, g the gradient of the mean loss over all layers. Cached."""

    def find() -> Vectors:
        slope = evidence(subject, look).gradient
        return hessian_products(
            subject, look, lambda like: [{name: slope[name].to(one) for name, one in like.items()}]
        )[0]

    return subject.memo.get(("hessian gradient", subject.version, look.key), find)


def hessian_diagonal(subject: Subject, look: Look) -> Vectors:
    """{layer: an estimate of the Hessian's diagonal}: mean over random signs z of z * Hz. Cached."""

    def signs(like: Vectors) -> list[Vectors]:
        generator = torch.Generator().manual_seed(look.seed)
        made = []
        for _ in range(PROBES):
            made.append(
                {n: (2 * torch.randint(0, 2, one.shape, generator=generator) - 1).to(one) for n, one in like.items()}
            )
        drawn.extend(made)
        return made

    drawn: list[Vectors] = []

    def find() -> Vectors:
        found = hessian_products(subject, look, signs)
        mean = {name: torch.zeros_like(one) for name, one in found[0].items()}
        for z, product in zip(drawn, found, strict=True):
            for name, one in product.items():
                mean[name] += z[name] * one / len(found)
        return mean

    return subject.memo.get(("hessian diagonal", subject.version, look.key), find)
