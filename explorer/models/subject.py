"""An untouched module and the task it is judged on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.errors import Cancelled, LoadError, RecipeError
from ..core.layers import Group, Layer
from ..core.message import say
from ..core.recipe import Recipe
from ..core.training import Entry
from .layers import find_layers, forward_order
from .memo import Memo
from .replica import share
from .task import Task

if TYPE_CHECKING:
    from .blocks import Depth
    from .jointly import Tell
    from .structure import Structure


class Version(tuple[Any, ...]):
    """Addresses and version counters of a module's tensors. Part of every key that is looked up, so its hash is computed once."""

    def __new__(cls, found: Iterable[Any]) -> Version:
        made = super().__new__(cls, found)
        made._hash = tuple.__hash__(made)
        return made

    _hash: int

    def __hash__(self) -> int:
        return self._hash


def checked(subject: object) -> Subject:
    """``subject``, if it is one. Raises :class:`RecipeError`."""
    if not isinstance(subject, Subject):
        raise RecipeError(
            say(
                "subject is {type}; accepted: what explorer.load(name) or explorer.Subject(...) returns",
                type=type(subject).__name__,
            )
        )
    return subject


class Subject:
    """A model and its task. Nothing in this package ever writes to ``module``.

    module: any nn.Module. task: a :class:`Task`. name: shown on screen and in exports.
    parent: the subject that this one was made from, or None. history: how, the oldest first. recipe: of a derived subject, what it is
    to be exported and shown with: its zeros as pruned, its levels as quantized. It changes no weight.
    """

    parent: Subject | None = None
    history: tuple[Entry, ...] = ()
    recipe: Recipe = Recipe()

    def __init__(self, module: nn.Module, task: Task, name: str = "mine", card: Mapping[str, Any] | None = None) -> None:
        if not isinstance(module, nn.Module):
            raise LoadError(
                say(
                    "subject {name!r}: module is {type}; accepted: a torch.nn.Module",
                    name=name,
                    type=type(module).__name__,
                )
            )
        if not isinstance(task, Task):
            raise LoadError(
                say("subject {name!r}: task is {type}; accepted: an explorer.Task", name=name, type=type(task).__name__)
            )
        lazy = [n for n, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
        if lazy:
            raise LoadError(
                say(
                    "subject {name!r}: {parameter} is not initialized; run one forward pass first",
                    name=name,
                    parameter=lazy[0],
                )
            )
        bare = [n for n, p in module.named_parameters() if p.is_meta and task.kind != "weights"]
        if bare:
            raise LoadError(
                say(
                    "subject {name!r}: {parameter} is on the meta device, without values; accepted: a module with its weights loaded",
                    name=name,
                    parameter=bare[0],
                )
            )
        scripted = [n for n, one in module.named_modules() if isinstance(one, torch.jit.ScriptModule)]
        if scripted:
            where = scripted[0] or type(module).__name__
            raise LoadError(
                say("subject {name!r}: {module} was compiled by torch.jit; accepted: the module that it was made from", name=name, module=where)
            )
        for where, one in module.named_modules():
            if getattr(one, "max_norm", None) is not None and isinstance(one, (torch.nn.Embedding, torch.nn.EmbeddingBag)):
                raise LoadError(
                    say(
                        "subject {name!r}: {module} has max_norm={norm}, which rescales its weights whenever it is called; accepted: "
                        "max_norm=None, with the weights rescaled once (torch.renorm)",
                        name=name, module=where or type(one).__name__, norm=one.max_norm,
                    )
                )  # fmt: skip
        self.module = module
        self.task = task.bound(module)
        self.name = name
        self.card = dict(card or {})
        self.memo = Memo()
        self._held = threading.local()
        self._version = Version(())
        self._surveying = threading.Lock()

    def __repr__(self) -> str:
        return f"Subject({self.name!r}, {type(self.module).__name__}, {len(self.layers)} layers)"

    @cached_property
    def _plain_layers(self) -> tuple[Layer, ...]:
        order = forward_order(self.module, lambda copied: self.task.forward(copied, self.example(1)))
        return find_layers(self.module, order)

    @cached_property
    def layers(self) -> list[Layer]:
        """The weight tensors, in forward order, each with the group of units that it produces."""
        from dataclasses import replace

        produced = {producer: group.name for group in self.groups for producer in group.producers}
        return [replace(layer, group=produced.get(layer.name)) for layer in self._plain_layers]

    @cached_property
    def structure(self) -> Structure:
        """Groups of units with the index maps that removal needs, and why other layers have none."""
        from .structure import find_structure

        return find_structure(self)

    def survey(self, progress: Tell = None, cancel: Callable[[], bool] | None = None) -> None:
        """Find groups and blocks now, which :attr:`structure` and :attr:`depth` do when they are first asked for: it takes seconds
        where there are hundreds of layers.

        progress: called with (done, total), groups up to the half. cancel: asked before every trial. Raises :class:`Cancelled`, and
        then nothing is kept of what was not finished.
        """
        from .blocks import find_blocks
        from .structure import find_structure

        def told(half: int, done: int, total: int) -> None:
            if cancel is not None and cancel():
                raise Cancelled(say("{subject}: cancelled while its groups were looked for", subject=self.name))
            if progress is not None:
                progress(half * total + done, 2 * total)

        with self._surveying:
            if "structure" not in self.__dict__:
                self.__dict__["structure"] = find_structure(self, partial(told, 0))
            if "depth" not in self.__dict__:
                self.__dict__["depth"] = find_blocks(self, partial(told, 1))

    @property
    def surveyed(self) -> bool:
        """Whether groups and blocks are known."""
        return {"structure", "depth"} <= self.__dict__.keys()

    @property
    def groups(self) -> list[Group]:
        """Units that must be removed together, in forward order."""
        return [cut.group for cut in self.structure.cuts.values()]

    @cached_property
    def depth(self) -> Depth:
        """Branches that a residual addition makes removable, and why other layers are in none."""
        from .blocks import find_blocks

        return find_blocks(self)

    @property
    def blocks(self) -> list[Group]:
        """Removable branches, in forward order: kind "block", one unit each; their layers are the producers."""
        return [block.group for block in self.depth.blocks.values()]

    def layer(self, name: str) -> Layer:
        """The layer of that parameter FQN."""
        from ..core.targets import select

        exact = [layer for layer in self.layers if layer.name == name]
        return exact[0] if exact else select([name], self.layers, self.name)[0]

    def weight(self, name: str) -> Tensor:
        """The original tensor of a layer, detached; do not write to it."""
        return attrgetter(name)(self.module).detach()  # type: ignore[no-any-return]

    def example(self, n: int = 2) -> Any:
        """Real inputs of ``n`` samples, on the module's device."""
        from .task import to_device

        first = next(self.module.parameters(), None)
        return to_device(self.task.example(n), first.device if first is not None else "cpu")

    def derive(self, module: nn.Module, recipe: Recipe | None = None, **more: Any) -> Subject:
        """A new subject of a module that was trained elsewhere: this one's child, its history joined.

        module: in the shapes that ``recipe`` leaves of this subject's (:func:`explorer.compress`), and zero where it prunes. It is
        copied. more: ``what``, ``name``, ``settings``, ``seed``, ``epochs``, ``seconds``, for the history. Raises
        :class:`VerificationError`, which names the tensor, for other names, shapes or weights that should be zero.
        """
        import importlib

        # by name: what resolves recipes stands above subjects
        derive = importlib.import_module("explorer.recover.derive").derive
        return derive(self, module, recipe if recipe is not None else Recipe(), **more)  # type: ignore[no-any-return]

    def copy(self) -> nn.Module:
        """A structural copy in eval mode that shares the weights."""
        return share(self.module)

    @property
    def version(self) -> Version:
        """Changes when the caller writes to the module's weights (not through ``.data``, which torch does not count)."""
        held = getattr(self._held, "version", None)
        if held is not None:
            return held  # type: ignore[no-any-return]
        tensors: list[Tensor | None] = []
        walk, seen = [self.module], {id(self.module)}
        for module in walk:  # by ourselves: torch's own walk makes names of everything
            tensors += module._parameters.values()
            tensors += module._buffers.values()
            for child in module._modules.values():
                if child is not None and id(child) not in seen:
                    seen.add(id(child))
                    walk.append(child)
        there = [one for one in tensors if one is not None]
        found = [one.data_ptr() for one in there]
        try:
            found += [one._version for one in there]
        except RuntimeError:  # inference tensors count none
            found += [0 if one.is_inference() else one._version for one in there]
        made, last = Version(found), self._version
        if made == last:
            return last  # the same one, so that keys are told to be equal without a look at what is in it
        self._version = made
        return made

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within the block, in this thread, the version is looked at once: it walks over every tensor of the module."""
        outer = getattr(self._held, "version", None)
        self._held.version = self.version  # the outer block's, where there is one
        try:
            yield
        finally:
            self._held.version = outer

    @property
    def digest(self) -> str:
        """Content hash of all parameters and buffers."""
        cached = self.__dict__.get("_digest")
        if cached and cached[0] == self.version:
            return str(cached[1])
        state = hashlib.blake2b(digest_size=16)
        for name, tensor in self.module.state_dict().items():
            state.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        self.__dict__["_digest"] = (self.version, state.hexdigest())
        return state.hexdigest()
