"""How units flow through a model that torch.fx cannot trace: real calls are recorded, one for every way that they can take.

A forward may take another way for another size, or by its data. Calls on several samples show the first; a decision on data is
turned round, once the real calls have shown it, until all ways are known. Where a way cannot be looked at, the units that the deciding forward
has in hand stay; those inside of the modules that it calls can still go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..core.message import Message, say
from .calls import Call
from .decisions import Decisions
from .flow import Flow
from .ledger import Ledger
from .record import Leaf, Record, record
from .task import to_device

if TYPE_CHECKING:
    from .subject import Subject

WAYS = 32  # recorded at most
SINGLE = 8  # samples that are looked at one by one


@dataclass(frozen=True, eq=False)
class Way:
    """A call and the outcomes of all that it decides on data, so that it takes the same way in another precision."""

    call: Call
    outcomes: tuple[bool, ...]

    def __call__(self, module: nn.Module) -> Any:
        """The call's outputs, in float64 on the CPU."""
        with Decisions(self.outcomes):
            return self.call.to("cpu", torch.float64)(module)


def follow(subject: Subject, leaf: Leaf, aliases: dict[str, str]) -> tuple[Ledger, list[Way]]:
    """Units of all ways together, and the ways, on which a removal is to be tried. Raises where the module does not run."""
    ledger, states = Ledger(), {}  # type: ignore[var-annotated]
    ledger.alias = aliases
    known: set[str] = set()
    found: list[tuple[Record, Flow]] = []
    ways: list[Way] = []
    doubts: dict[str, Message] = {}  # {scope: why what it has in hand stays}
    queue = [_Next(call, (), "", "") for call in _calls(subject)]
    turned: set[tuple[str, ...]] = set()  # ways that are known or in the queue, by what they decide
    while queue and len(found) < WAYS:
        one = queue.pop(0)
        made = record(subject.copy().cpu(), one.call, leaf, one.forced)
        if made.broken:
            doubts[one.scope] = say(
                "the branch at {where} could not be looked at ({error})", where=one.where, error=made.broken
            )
        if (code := str(made.graph)) in known:
            continue
        known.add(code)
        flow = Flow(made.module, made.graph)
        flow.ledger, flow.states = ledger, states
        with torch.no_grad():
            flow.run(*one.call.args, *one.call.kwargs.values())
        found.append((made, flow))
        if not made.broken and not made.raised:
            ways.append(Way(one.call, tuple(outcome for _, outcome, _ in made.made)))
        queue += _turned(one, made, turned)
    for left in queue:
        if left.forced:
            doubts[left.scope] = say(
                "the branch at {where} has more ways than the {ways} that were looked at", where=left.where, ways=WAYS
            )
    doubts |= _unseen(subject, found)
    for made, flow in found:
        for scope, why in doubts.items():
            for node in made.visible.get(scope, ()):
                flow.block(flow.marks.get(node, []), why)
    return ledger, ways


@dataclass(frozen=True, eq=False)
class _Next:
    """A way to look at: a call and the outcomes of its first decisions, the last of which was made at ``where`` in ``scope``."""

    call: Call
    forced: tuple[bool, ...]
    where: str
    scope: str


def _turned(one: _Next, made: Record, known: set[tuple[str, ...]]) -> list[_Next]:
    """The ways that part from a recorded one at each of its decisions, without those that are known."""
    steps = tuple(f"{where}{outcome}" for where, outcome, _ in made.made)
    outcomes = tuple(outcome for _, outcome, _ in made.made)
    known.add(steps)
    new = []
    for i in range(len(one.forced), len(outcomes)):
        where, outcome, scope = made.made[i]
        ahead = (*steps[:i], f"{where}{not outcome}")
        if not any(other[: i + 1] == ahead for other in known):
            known.add(ahead)
            new.append(_Next(one.call, (*outcomes[:i], not outcome), where, scope))
    return new


def _unseen(subject: Subject, found: list[tuple[Record, Flow]]) -> dict[str, Message]:
    """{scope: why it may do what none of the recorded ways showed}."""
    doubts: dict[str, Message] = {}
    for made, _ in found:
        for scope, name in made.unwatched.items():
            doubts[scope] = say("{name}() makes plain numbers of data, on which the forward may branch", name=name)
    used = set().union(*(made.used for made, _ in found))
    ran = {""}.union(*(made.visible for made, _ in found))
    for name, _ in subject.module.named_parameters():
        scope = name.rpartition(".")[0]
        if name in used:
            continue
        while scope not in ran:
            scope = scope.rpartition(".")[0]
        doubts.setdefault(
            scope, say("none of the inputs that were looked at uses {name}, which another branch may use", name=name)
        )
    return doubts


def _calls(subject: Subject) -> list[Call]:
    """How the task calls the module on a batch and on single samples."""
    module, seen = subject.copy().cpu(), []  # type: ignore[var-annotated]
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(Call(tuple(args), dict(kwargs))), with_kwargs=True
    )
    task = subject.task
    split = "train" if "train" in task.splits else "validation"
    count = len(task.dataset(split))
    for batch in ([0, 1, 2], *([i] for i in range(min(SINGLE, count)))):
        inputs = task.batch(split, [i % count for i in batch])[0]
        with torch.no_grad():
            task.forward(module, to_device(inputs, "cpu"))
    hook.remove()
    return seen
