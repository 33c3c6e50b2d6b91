"""Holding what was pruned and rounding what is quantized, step after step, whatever optimizer moves the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..compress.plan import Plan
from ..core.errors import RecipeError, VerificationError
from ..core.message import say
from ..models.removal import GONE, alive, remaining_shape, select
from .rounding import Rounding, rounding_of


class Hold:
    """Keeps the zeros of a module while it is trained, and lets it compute with rounded weights.

    module: it is changed in place. masks: {FQN of a parameter: bool of its shape, False where it stays zero}. roundings: {FQN:
    :class:`Rounding`}. Used as a context around a training loop it does its work by itself: it rounds before a forward pass of
    ``module`` and, in every step of any torch optimizer that holds one of its parameters, turns the gradients into those of the straight-through
    estimator or of the codebook, restores the weights behind the rounding, and puts the zeros back. ``step()`` does the latter for loops without
    an optimizer. On leaving the weights stay rounded.
    """

    def __init__(
        self, module: nn.Module, masks: Mapping[str, Tensor], roundings: Mapping[str, Rounding] | None = None
    ) -> None:
        self.module = module
        self.parameters = dict(module.named_parameters(remove_duplicate=False))
        self.masks = {}
        self.roundings = dict(roundings or {})
        self._latent: dict[str, Tensor] = {}  # the weights behind the rounding, while the module holds rounded ones
        self._handles: list[Any] = []
        self.set(masks)

    @property
    def masks(self) -> dict[str, Tensor]:
        """{FQN: bool, False where it is held at zero}."""
        return self._masks

    @masks.setter
    def masks(self, masks: Mapping[str, Tensor]) -> None:
        self._masks = dict(masks)
        self._cut = {name: ~mask for name, mask in self._masks.items()}  # filled in every step

    @torch.no_grad()
    def set(self, masks: Mapping[str, Tensor]) -> None:
        """Hold these zeros from now on, in place of those before; they are zero at once."""
        self.restore()
        self.masks = {name: mask.to(self.parameters[name].device) for name, mask in masks.items()}
        self.zero()
        for rounding in self.roundings.values():
            rounding.forget()

    @torch.no_grad()
    def zero(self) -> None:
        """Put the zeros back."""
        for name, cut in self._cut.items():
            self.parameters[name].data.masked_fill_(cut, 0.0)

    @torch.no_grad()
    def round(self) -> None:
        """Let the module hold rounded weights; those behind are kept aside."""
        for name, rounding in self.roundings.items():
            if name not in self._latent:
                parameter = self.parameters[name]
                rounded = rounding(parameter.detach(), self.masks.get(name))
                self._latent[name] = rounded if rounding.shared else parameter.detach().clone()
                parameter.data.copy_(rounded)

    @torch.no_grad()
    def restore(self) -> None:
        """Let the module hold the weights behind the rounding."""
        for name, latent in self._latent.items():
            self.parameters[name].data.copy_(latent)
        self._latent.clear()

    @torch.no_grad()
    def refit(self, all: bool = False) -> None:
        """Find ranges and levels anew for the weights as they are; those whose search takes long only with ``all``."""
        self.restore()
        for name, rounding in self.roundings.items():
            if all or rounding.cheap:
                rounding.refit(self.parameters[name].detach(), self.masks.get(name))

    @torch.no_grad()
    def before_step(self) -> None:
        """Between backward and the optimizer: gradients of what moves, and the weights behind the rounding."""
        self.restore()
        for name, rounding in self.roundings.items():
            parameter = self.parameters[name]
            if parameter.grad is not None:
                rounding.turn(parameter.grad, parameter.detach(), self.masks.get(name))
        for name, cut in self._cut.items():
            grad = self.parameters[name].grad
            if grad is not None:
                grad.masked_fill_(cut, 0.0)

    @torch.no_grad()
    def after_step(self) -> None:
        """After the optimizer: momentum and weight decay have moved nothing that is held."""
        self.zero()
        for name, rounding in self.roundings.items():
            rounding.tie(self.parameters[name], self.masks.get(name))

    step = after_step

    def check(self) -> None:
        """Raises :class:`VerificationError` where a weight that is held at zero is none."""
        found = [
            torch.count_nonzero(self.parameters[name].detach().masked_fill(mask, 0.0))
            for name, mask in self.masks.items()
        ]
        for name, wrong in zip(self.masks, torch.stack(found).tolist() if found else (), strict=False):
            if wrong:
                raise VerificationError(
                    say("{layer}: {wrong} weights that are pruned are not zero", layer=name, wrong=wrong)
                )

    def __enter__(self) -> Hold:
        self.refit()
        mine = {id(self.parameters[name]) for name in (*self.masks, *self.roundings)}

        def ours(optimizer: Any) -> bool:
            return any(id(one) in mine for group in optimizer.param_groups for one in group["params"])

        def before(optimizer: Any, *_: Any) -> None:
            if ours(optimizer):
                self.before_step()

        def after(optimizer: Any, *_: Any) -> None:
            if ours(optimizer):
                self.after_step()
                self.refit()

        self._handles = [
            register_optimizer_step_pre_hook(before),
            register_optimizer_step_post_hook(after),
            self.module.register_forward_pre_hook(lambda *_: self.round()),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.zero()
        self.round()
        self._latent.clear()


def hold(module: nn.Module, plan: Plan) -> Hold:
    """Keep what ``plan`` pruned at zero, and its quantized weights rounded, in any training loop.

    >>> with explorer.hold(module, plan):
    ...     for x, y in batches:
    ...         loss(module(x), y).backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()

    module: that of :func:`explorer.compress`, or any in the shapes of the original or of what remains; removed units are gone from the
    former for good. Ranges and levels of quantized weights stay those of the plan, and codebooks are trained by the sums of their weights'
    gradients (Han et al. 2016, arXiv 1510.00149, section 3.3). Activations are not rounded here. Raises :class:`RecipeError`, naming
    the tensor, where the module does not fit the plan.
    """
    for name, value, kind in (("module", module, nn.Module), ("plan", plan, Plan)):
        if not isinstance(value, kind):
            raise RecipeError(
                say(
                    "{name} is {type}; accepted: a torch.nn.Module and, as its plan, what explorer.resolve(subject, recipe) returns",
                    name=name,
                    type=type(value).__name__,
                )
            )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return Hold(
        module,
        masks_of(parameters, plan),
        {name: rounding_of(codes) for name, codes in plan.codes.items() if name in parameters},
    )


def masks_of(parameters: Mapping[str, Tensor], plan: Plan) -> dict[str, Tensor]:
    """{FQN: what stays of it, in the shape that ``parameters`` have: the original's, or that which remains}.

    Raises :class:`RecipeError` for other shapes, or some of each.
    """
    found: dict[str, Tensor] = {}
    smaller: dict[bool, str] = {}
    for name, mask in plan.masks.items():
        dims = dict(plan.dropped.get(name, {}))
        if GONE in dims and name not in parameters:
            continue
        if name not in parameters:
            raise RecipeError(say("{layer}: the module has no such parameter", layer=name))
        shape, original = tuple(parameters[name].shape), tuple(mask.shape)
        left = remaining_shape(original, dims)
        if shape not in (original, left):
            raise RecipeError(
                say(
                    "{layer}: shape {shape}; accepted: {left}, or the original's {original}",
                    layer=name,
                    shape=shape,
                    left=left,
                    original=original,
                )
            )
        if left != original:
            smaller[shape == left] = name
        found[name] = mask if shape == original else select(mask, dims)
    if len(smaller) == 2:
        raise RecipeError(
            say(
                "{smaller} has lost its units and {whole} has not; accepted: explorer.compress's module, or the original's shapes",
                smaller=smaller[True],
                whole=smaller[False],
            )
        )
    if False in smaller:  # units are masked: so is what follows them
        for name, gone in plan.dropped.items():
            kept = {dim: index for dim, index in gone.items() if dim >= 0}
            if name in parameters and name not in found and kept:
                found[name] = alive(tuple(parameters[name].shape), kept)
    return {name: mask for name, mask in found.items() if not bool(mask.all())}
