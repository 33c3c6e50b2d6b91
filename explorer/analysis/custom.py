"""A person's own criterion: a function, registered from a notebook."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..core.errors import ExplorerError, RecipeError, UnsupportedError, cause
from ..core.message import say
from ..models.device import place
from ..models.subject import Subject
from .criteria import ACTIVATIONS, DATA, GRADIENTS, Criterion, registry
from .evidence import Evidence, evidence, spread
from .look import Look

Function = Callable[..., Tensor]
NEEDS = {
    "weight": frozenset[str](),
    "gradient": frozenset({DATA, GRADIENTS}),
    "squared": frozenset({DATA, GRADIENTS, ACTIVATIONS}),
    "inputs": frozenset({DATA, ACTIVATIONS}),
}
AGGREGATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda scores: scores.sum(1),
    "mean": lambda scores: scores.mean(1),
    "l2": lambda scores: scores.norm(dim=1),
    "max": lambda scores: scores.amax(1),
}


class Own(Criterion):
    """What :func:`criterion` makes of a function."""

    family = "own"
    function: ClassVar[Function]
    takes: ClassVar[tuple[str, ...]]
    how: ClassVar[str]

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        seen = evidence(subject, look) if self.needs else None
        out = {}
        for name in names:
            weight = subject.weight(name)
            given = {what: _given(what, name, weight, seen) for what in self.takes}
            try:
                scores = type(self).function(**given)
            except ExplorerError:
                raise
            except Exception as error:  # the function is the user's
                raise UnsupportedError(
                    say(
                        "{name}: the criterion failed ({cause}); accepted: a function that gives a tensor {shape}",
                        name=name,
                        cause=cause(error),
                        shape=tuple(weight.shape),
                    )
                ) from error
            if not isinstance(scores, Tensor) or scores.shape != weight.shape:
                found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise UnsupportedError(
                    say(
                        "{name}: the criterion gave {found}; accepted: a tensor {shape}",
                        name=name,
                        found=found,
                        shape=tuple(weight.shape),
                    )
                )
            scores = scores.detach()
            out[name] = scores.float() if scores.dtype not in (torch.float32, torch.float64) else scores.clone()
        return out

    def aggregate(self, scores: Tensor) -> Tensor:
        return AGGREGATES[self.how](scores)


def _given(what: str, name: str, weight: Tensor, seen: Evidence | None) -> Tensor:
    if what == "weight" or seen is None:
        return weight.clone()
    table = {"gradient": seen.gradient, "squared": seen.squared}.get(what)
    found = spread(seen.inputs[name], tuple(weight.shape)) if table is None else table[name]
    return place(found, weight.device, weight.dtype).clone()  # which is kept for all criteria, and may be written to here


def criterion(
    name: str, *, title: str = "", aggregate: Literal["sum", "mean", "l2", "max"] = "sum"
) -> Callable[[Any], Any]:
    """Register your own criterion under ``name``; a decorator of a function (or of a :class:`Criterion` class).

    The function's parameters say what it needs, each a tensor of the weight's shape: ``weight``; ``gradient``, of the mean
    training loss; ``squared``, the mean over samples of the squared gradient; ``inputs``, the norm of what each weight multiplies.
    It returns scores of that shape, small means unimportant; a unit's score is their sum (mean, l2, max) over its rows. Its
    docstring is its help. Defined again, it takes the place of the former. Raises :class:`RecipeError`.

    >>> @explorer.criterion("mine")
    ... def mine(weight, gradient):
    ...     return (weight * gradient).abs() + 0.01 * weight.abs()
    """
    if aggregate not in AGGREGATES:
        raise RecipeError(
            say("aggregate={aggregate!r}; accepted: {names}", aggregate=aggregate, names=", ".join(AGGREGATES))
        )

    def add(function: Any) -> Any:
        if isinstance(function, type) and issubclass(function, Criterion):
            function.family = "own"
            function.title = title or getattr(function, "title", name)
            registry.own(name, function)
            return function
        if not callable(function):
            raise RecipeError(say("criterion {name!r}: accepted: a function or a Criterion class", name=name))
        takes = tuple(inspect.signature(function).parameters)
        unknown = [one for one in takes if one not in NEEDS]
        if unknown or not takes:
            raise RecipeError(
                say(
                    "criterion {name!r}: parameter {given!r}; accepted: {names}",
                    name=name,
                    given=unknown[0] if unknown else "none",
                    names=", ".join(NEEDS),
                )
            )
        needs: frozenset[str] = frozenset().union(*(NEEDS[one] for one in takes))
        own = {
            "function": staticmethod(function), "takes": takes, "how": aggregate, "title": title or name, "needs": needs,
            "__doc__": inspect.getdoc(function) or "",
        }  # fmt: skip
        registry.own(name, type(name, (Own,), own))
        return function

    return add
